// Debugging a guest from outside: steps, hardware breakpoints, injected exceptions.
// covers: KVM_SET_GUEST_DEBUG@vcpu

import { expect, test } from 'vitest'
import { guestDebug } from '../../src/index.js'
import { createGuest, ENTRY, HALT } from '../helpers/guest.js'
import { capability } from '../helpers/probe.js'
import { codeOf } from '../helpers/thrown.js'

// inc eax; inc eax; inc eax; hlt, in 32-bit operands of real mode
const THREE = [0x66, 0x40, 0x66, 0x40, 0x66, 0x40, 0xf4]

test('a step is one instruction', () => {
  using guest = createGuest(THREE)
  const { vcpu } = guest
  vcpu.debugGuest({ singleStep: true })
  for (let i = 1; i <= 3; i++) {
    expect(vcpu.run()).toMatchObject({ type: 'debug', exception: 1, pc: BigInt(ENTRY + 2 * i) })
  }
  vcpu.debugGuest()
  expect(vcpu.run().type).toBe('hlt')
})

test('a hardware breakpoint stops before its instruction', ({ skip }) => {
  using guest = createGuest(THREE)
  const { vcpu } = guest
  vcpu.debugGuest({ breakpoints: [{ address: 1n }, { address: BigInt(ENTRY + 4) }] })
  const exit = vcpu.run()
  // QEMU's emulation of SVM does not load a guest's debug registers into its own.
  if (process.env.LAB === 'svm' && exit.type === 'hlt') skip('the lab’s processor ran past it')
  expect(exit).toMatchObject({ type: 'debug', exception: 1, pc: BigInt(ENTRY + 4) })
  expect(exit.type === 'debug' && exit.dr6 & 0xfn).toBe(2n)
  expect(vcpu.getRegs().rax & 3n).toBe(2n)
  vcpu.debugGuest()
  expect(vcpu.run().type).toBe('hlt')
})

test('an injected #DB reaches the guest', () => {
  using guest = createGuest(HALT)
  const { vcpu, memory } = guest
  memory.write(0x7000, Uint8Array.of(0xb0, 1, 0xe6, 0x12)) // mov al, 1; out 0x12, al
  memory.writeU32(1 * 4, 0x7000)
  vcpu.debugGuest({ injectDb: true })
  expect(vcpu.run()).toMatchObject({ type: 'io', port: 0x12, value: 1 })
})

test('the flags that KVM says it takes are taken, others are refused', () => {
  using guest = createGuest(HALT)
  const known = capability('KVM_CAP_SET_GUEST_DEBUG2')
  const { arch } = guestDebug({})
  guest.vcpu.setGuestDebug({ control: known & 0x10_0003, arch })
  guest.vcpu.setGuestDebug({ control: 0, arch })
  expect(codeOf(() => guest.vcpu.setGuestDebug(null as never))).toBe('ERR_INVALID_ARG_TYPE')
})
