// completeIo: the instruction of the last exit is finished with the answer given, and no other runs.

import { expect, test } from 'vitest'
import { createGuest, ENTRY, type Guest } from '../helpers/guest.js'
import { codeOf } from '../helpers/thrown.js'

test('an IN has its answer in AL afterwards', () => {
  using guest = createGuest([0xe4, 0x10, 0xf4]) // in al, 0x10; hlt
  const { vcpu } = guest
  const exit = vcpu.run()
  if (exit.type === 'io') exit.value = 0x5a
  expect(vcpu.completeIo()).toBeUndefined()
  const { rax, rip } = vcpu.getRegs()
  expect(rax & 0xffn).toBe(0x5an)
  expect(rip).toBe(BigInt(ENTRY + 2))
  expect(vcpu.run().type).toBe('hlt')
})

test('a read of device memory, too', () => {
  // mov eax, [0x10000000]; hlt, 64-bit
  using guest = createGuest([0x8b, 0x04, 0x25, 0, 0, 0, 0x10, 0xf4], { mode: 'ring0' })
  const { vcpu } = guest
  const exit = vcpu.run()
  expect(exit).toMatchObject({ type: 'mmio', gpa: 0x1000_0000, length: 4 })
  if (exit.type === 'mmio') exit.value = 0x1234_5678
  expect(vcpu.completeIo()).toBeUndefined()
  expect(vcpu.getRegs()).toMatchObject({ rax: 0x1234_5678n, rip: BigInt(ENTRY + 7) })
})

/** A guest stopped at the first half of `movdqu xmm0, [0x10000000]`, which is answered. */
function halfway(): Guest {
  const code = [0xf3, 0x0f, 0x6f, 0x04, 0x25, 0, 0, 0, 0x10, 0xf4]
  const guest = createGuest(code, { mode: 'ring0' })
  const { vcpu } = guest
  vcpu.updateSregs({ cr4: vcpu.getSregs().cr4 | 0x200n }) // OSFXSR
  const first = vcpu.run()
  expect(first).toMatchObject({ type: 'mmio', gpa: 0x1000_0000, length: 8 })
  if (first.type === 'mmio') first.value64 = 0x0807_0605_0403_0201n
  return guest
}

test('an access in two parts asks for the second', () => {
  using guest = halfway()
  const { vcpu } = guest
  const second = vcpu.completeIo()
  expect(second).toMatchObject({ type: 'mmio', gpa: 0x1000_0008, length: 8 })
  if (second?.type === 'mmio') second.value64 = 0x100f_0e0d_0c0b_0a09n
  expect(vcpu.completeIo()).toBeUndefined()
  expect(vcpu.getFpu().xmm[0]).toEqual(Uint8Array.from({ length: 16 }, (_, i) => i + 1))
})

test('a state is not saved halfway through an access', () => {
  using guest = halfway()
  expect(codeOf(() => guest.vcpu.saveState())).toBe('ERR_KVM_IO_PENDING')
})

test('without anything to finish nothing happens', () => {
  using guest = createGuest([0xf4])
  const { vcpu } = guest
  const before = vcpu.getRegs()
  expect(vcpu.completeIo()).toBeUndefined()
  expect(vcpu.getRegs()).toEqual(before)
})

test('a kick that came before still ends the next run', () => {
  using guest = createGuest([0xe6, 0x10, 0xf4]) // out 0x10, al; hlt
  const { vcpu } = guest
  expect(vcpu.run().type).toBe('io')
  vcpu.kick()
  expect(vcpu.completeIo()).toBeUndefined()
  expect(vcpu.run().type).toBe('intr')
  expect(vcpu.run().type).toBe('hlt')
})
