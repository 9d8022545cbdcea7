// The dirty ring of a vCPU.
// covers: KVM_RESET_DIRTY_RINGS@vm KVM_ENABLE_CAP@vm

import { afterEach, expect, test } from 'vitest'
import { DirtyRing, GuestMemory, Kvm, type Vcpu, type Vm } from '../../src/index.js'
import { KVM_MEM_LOG_DIRTY_PAGES } from '../../src/uapi/index.js'
import { createGuest, HALT } from '../helpers/guest.js'
import { codeOf } from '../helpers/thrown.js'

const open: Disposable[] = []
afterEach(() => {
  for (const each of open.splice(0).reverse()) each[Symbol.dispose]()
})
function keep<T extends Disposable>(object: T): T {
  open.push(object)
  return object
}

const MEMORY = 0x10_0000
const ENTRY_PAGE = 8
// The same bytes twice around: mov ax, 0x2000; mov ds, ax; mov [0], al; the same for 0x3000; hlt; jmp
const store = (segment: number) => [0xb8, 0, segment, 0x8e, 0xd8, 0xa2, 0, 0]
const CODE = [...store(0x20), ...store(0x30), 0xf4, 0xeb, 0xed]

/** A VM with rings far larger than what its guest writes, where this kernel has them. */
function machine(): { vm: Vm; vcpu: Vcpu; memory: GuestMemory } | undefined {
  const kvm = keep(Kvm.open())
  const vm = keep(kvm.createVm())
  if (vm.checkExtension('KVM_CAP_DIRTY_LOG_RING') === 0) return undefined
  vm.enableCap('KVM_CAP_DIRTY_LOG_RING', { size: 0x1_0000 })
  const memory = keep(GuestMemory.create(MEMORY))
  vm.mapMemory(memory, { firstSlot: 2, flags: KVM_MEM_LOG_DIRTY_PAGES })
  memory.write(ENTRY_PAGE * 0x1000, Uint8Array.from(CODE))
  const vcpu = keep(vm.createVcpu(0))
  const sregs = vcpu.getSregs()
  vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } })
  vcpu.updateRegs({ rip: BigInt(ENTRY_PAGE * 0x1000), rflags: 2n })
  return { vm, vcpu, memory }
}

// KERNEL: the first fetch from the page of the code may count as a write, see vm-dirty.test.ts.
function collected(ring: DirtyRing): string[] {
  const pages = new Set<string>()
  ring.collect((slot, page) => {
    if (page !== ENTRY_PAGE) pages.add(`${slot}:${page.toString(16)}`)
  })
  return [...pages].sort()
}

test('has the pages written, again after a reset and not before', () => {
  const made = machine()
  if (made === undefined) return
  const { vm, vcpu } = made
  const ring = DirtyRing.of(vcpu)
  expect(collected(ring)).toEqual([])
  expect(vcpu.run().type).toBe('hlt')
  expect(collected(ring)).toEqual(['2:20', '2:30'])
  expect(collected(ring)).toEqual([])
  expect(vm.resetDirtyRings()).toBeGreaterThanOrEqual(2)
  vcpu.run()
  expect(collected(ring)).toEqual(['2:20', '2:30'])
})

test('goes round: more writes than entries, collected in time', () => {
  const made = machine()
  if (made === undefined) return
  const { vm, vcpu } = made
  const ring = DirtyRing.of(vcpu)
  const entries = 0x1_0000 / 16
  let count = 0
  for (let round = 0; round < entries; round++) {
    vcpu.run()
    const pages = collected(ring)
    expect(pages).toEqual(['2:20', '2:30'])
    count += pages.length
    vm.resetDirtyRings()
  }
  expect(count).toBe(2 * entries)
})

test('is not there for a VM without rings', () => {
  const guest = keep(createGuest(HALT))
  expect(codeOf(() => DirtyRing.of(guest.vcpu))).toBe('EINVAL')
  expect(codeOf(() => DirtyRing.of({} as Vcpu))).toBe('ERR_INVALID_ARG_TYPE')
})

test('is refused once the vCPU is closed, and holds nothing of the VM', () => {
  const made = machine()
  if (made === undefined) return
  const ring = DirtyRing.of(made.vcpu)
  made.vcpu.close()
  expect(codeOf(() => ring.collect(() => {}))).toBe('ERR_KVM_CLOSED')
  expect(codeOf(() => DirtyRing.of(made.vcpu))).toBe('ERR_KVM_CLOSED')
})
