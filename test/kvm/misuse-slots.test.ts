// Memory slots that the kernel, or we before it, must refuse, and what stays true afterwards.

import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { GuestMemory, type KvmError } from '../../src/index.js'
import { createGuest, ENTRY, type Guest, HALT } from '../helpers/guest.js'
import { codeOf, thrownBy } from '../helpers/thrown.js'

const PAGE = 0x1000
const READONLY = 2

let guest: Guest
beforeEach(() => {
  guest = createGuest(HALT) // slot 0: 1 MiB at 0
})
afterEach(() => guest.close())

type Region = Parameters<Guest['vm']['setUserMemoryRegion']>[0]
/** A valid region above slot 0, with changes. */
const region = (changes: Partial<Region>): Region => ({
  slot: 1,
  guestPhysAddr: 0x10_0000,
  memorySize: PAGE,
  memory: guest.memory,
  memoryAddress: 0,
  ...changes,
})

test.each<[string, string, Partial<Region>]>([
  ['overlaps slot 0', 'EEXIST', { guestPhysAddr: 0xf_f000 }],
  ['covers slot 0', 'ERR_KVM_GUEST_FAULT', { guestPhysAddr: 0, memorySize: 0x20_0000 }],
  ['resizes slot 0', 'EINVAL', { slot: 0, guestPhysAddr: 0 }],
  [
    'makes slot 0 read-only',
    'EINVAL',
    { slot: 0, guestPhysAddr: 0, memorySize: 0x10_0000, flags: 2 },
  ],
  ['has an odd address', 'ERR_OUT_OF_RANGE', { guestPhysAddr: 0x10_0001 }],
  ['has an odd size', 'ERR_OUT_OF_RANGE', { memorySize: 100 }],
  ['has an odd address in memory', 'ERR_OUT_OF_RANGE', { memoryAddress: 0x800 }],
  ['begins outside of the memory', 'ERR_KVM_GUEST_FAULT', { memoryAddress: 0x10_0000 }],
  [
    'ends outside of the memory',
    'ERR_KVM_GUEST_FAULT',
    { memorySize: PAGE * 2, memoryAddress: 0xf_f000 },
  ],
  ['is larger than any memory', 'ERR_KVM_GUEST_FAULT', { memorySize: 2 ** 52 }],
  ['has unknown flags', 'EINVAL', { flags: 0x8000_0000 }],
  ['has a slot number too large', 'EINVAL', { slot: 0xffff }],
  ['is in an address space that is none', 'EINVAL', { slot: 0xffff_0000 }],
  ['wraps around', 'EINVAL', { guestPhysAddr: 2 ** 53 - PAGE }],
  ['has no memory', 'ERR_INVALID_ARG_TYPE', { memory: undefined as never }],
])('a region that %s is refused with %s', (_what, code, changes) => {
  expect(codeOf(() => guest.vm.setUserMemoryRegion(region(changes)))).toBe(code)
  expect(guest.vcpu.run().type).toBe('hlt') // slot 0 is as before
})

test('the refusal names the slot, its place and what it overlaps', () => {
  const error = thrownBy(() =>
    guest.vm.setUserMemoryRegion(region({ guestPhysAddr: 0xf_f000 })),
  ) as KvmError
  expect(error).toMatchObject({
    ioctl: 'KVM_SET_USER_MEMORY_REGION',
    slot: 1,
    gpa: 0xf_f000,
    size: PAGE,
  })
  expect(error.message).toContain('overlaps slot 0')
})

test('deleting an absent slot is refused, deleting twice too', () => {
  const absent = { slot: 3, guestPhysAddr: 0, memorySize: 0 }
  expect(thrownBy(() => guest.vm.setUserMemoryRegion(absent))).toMatchObject({
    code: 'EINVAL',
    message: expect.stringContaining('no such slot'),
  })
  guest.vm.setUserMemoryRegion(region({}))
  guest.vm.setUserMemoryRegion({ slot: 1, guestPhysAddr: 0, memorySize: 0 })
  expect(codeOf(() => guest.vm.setUserMemoryRegion({ ...absent, slot: 1 }))).toBe('EINVAL')
})

test('a slot can move, and the place it left is free', () => {
  guest.vm.setUserMemoryRegion(region({}))
  guest.vm.setUserMemoryRegion(region({ guestPhysAddr: 0x20_0000 }))
  guest.vm.setUserMemoryRegion(region({ slot: 2 }))
  expect(codeOf(() => guest.vm.setUserMemoryRegion(region({ slot: 3 })))).toBe('EEXIST')
})

test('a slot of other memory in its place must be deleted first', () => {
  const other = GuestMemory.create(0x10_0000)
  const replacement = { slot: 0, guestPhysAddr: 0, memorySize: 0x10_0000, memory: other }
  expect(codeOf(() => guest.vm.setUserMemoryRegion(replacement))).toBe('EINVAL')
  guest.vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0, memorySize: 0 })
  guest.vm.setUserMemoryRegion(replacement)
  guest.memory.close()
  other.write(ENTRY, Uint8Array.from(HALT))
  expect(guest.vcpu.run().type).toBe('hlt')
  other.close()
})

test('mapMemory that fails half way leaves what was mapped, to be deleted by slot', () => {
  const memory = GuestMemory.create([
    { gpa: 0x80_0000, size: PAGE },
    { gpa: 0, size: PAGE }, // overlaps slot 0
  ])
  expect(codeOf(() => guest.vm.mapMemory(memory, { firstSlot: 1 }))).toBe('EEXIST')
  memory.close()
})

test('mapMemory beyond the last slot number', () => {
  const memory = GuestMemory.create([{ gpa: 0x80_0000, size: PAGE }])
  expect(codeOf(() => guest.vm.mapMemory(memory, { firstSlot: 0xffff }))).toBe('EINVAL')
  memory.close()
})

describe('memory that is closed while a slot uses it', () => {
  test('still runs, and can no longer be mapped', () => {
    guest.memory.close()
    expect(guest.vcpu.run().type).toBe('hlt')
    expect(codeOf(() => guest.vm.mapMemory(guest.memory, { firstSlot: 1 }))).toBe('ERR_KVM_CLOSED')
    guest.vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0, memorySize: 0 })
    expect(guest.vcpu.run().type).not.toBe('hlt') // nothing is there any more
  })
  test('is one memory with its views', () => {
    const view = guest.memory.view(ENTRY, 4)
    guest.memory.close()
    expect([...view.subarray(0, 3)]).toEqual([...HALT])
    view.set([0xe6, 0x77]) // out 0x77, al
    expect(guest.vcpu.run()).toMatchObject({ type: 'io', port: 0x77 })
  })
})

test('one memory in two VMs is one memory', () => {
  using other = createGuest(HALT)
  other.vm.setUserMemoryRegion({
    slot: 1,
    guestPhysAddr: 0x20_0000,
    memorySize: 0x10_0000,
    memory: guest.memory,
    memoryAddress: 0,
  })
  other.memory.write(ENTRY, Uint8Array.of(0xa2, 0x00, 0x01, 0xf4)) // mov [0x100], al; hlt
  other.vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0, memorySize: 0 })
  other.vm.setUserMemoryRegion({ slot: 1, guestPhysAddr: 0, memorySize: 0 })
  guest.memory.write(ENTRY, Uint8Array.of(0xa2, 0x00, 0x01, 0xf4))
  other.vm.mapMemory(guest.memory)
  other.vcpu.setRegs({ ...other.vcpu.getRegs(), rax: 0x5an })
  expect(other.vcpu.run().type).toBe('hlt')
  expect(guest.memory.readU8(0x100)).toBe(0x5a)
})

test('a read-only slot gives its writes to the VMM', () => {
  const rom = GuestMemory.create([{ gpa: 0x20_0000, size: PAGE }])
  guest.vm.mapMemory(rom, { firstSlot: 1, flags: READONLY })
  guest.vm.setUserMemoryRegion({ slot: 1, guestPhysAddr: 0, memorySize: 0, flags: READONLY })
  rom.close()
  expect(guest.vcpu.run().type).toBe('hlt')
})
