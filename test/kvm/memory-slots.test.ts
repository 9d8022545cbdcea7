// Slots that come, go, move and change while vCPUs run, as many as there can be, and why one is
// refused.

import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { GuestMemory, type KvmError, type MmioExit, type Vcpu } from '../../src/index.js'
import { KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY } from '../../src/uapi/index.js'
import { capability } from '../helpers/probe.js'
import { thrownBy } from '../helpers/thrown.js'
import { DOORBELL, FIRST_SLOT, FREE, Writers } from '../helpers/writers.js'

const PAGE = 0x1000
const SIZE = 0x20_0000
const OTHER = FREE + 8 * SIZE
/** How many slots to create; `NODE_KVM_SLOTS=all` takes half a minute. */
const SLOTS = process.env.NODE_KVM_SLOTS ?? '500'

let guest: Writers
let memory: GuestMemory
beforeEach(() => {
  guest = new Writers({ vcpus: 2 })
  memory = GuestMemory.create([{ gpa: FREE, size: SIZE }])
  guest.vm.mapMemory(memory, { firstSlot: FIRST_SLOT })
})
afterEach(() => {
  guest.close()
  memory.close()
})

type Region = Parameters<typeof guest.vm.setUserMemoryRegion>[0]
const region = (changes: Partial<Region>): Region => ({
  slot: FIRST_SLOT,
  guestPhysAddr: FREE,
  memorySize: SIZE,
  memory,
  memoryAddress: FREE,
  ...changes,
})

describe('a refusal says why', () => {
  test.each<[string, Partial<Region>, RegExp]>([
    ['overlaps at the end', { slot: 2, guestPhysAddr: FREE - PAGE }, /overlaps slot 1 \(0x200000/],
    ['overlaps at the beginning', { slot: 2, guestPhysAddr: FREE + PAGE }, /overlaps slot 1/],
    ['moves onto another', { guestPhysAddr: 0 }, /overlaps slot 0/],
    ['changes its size', { memorySize: PAGE }, /cannot change its size: delete it first/],
    ['turns read-only', { flags: KVM_MEM_READONLY }, /read-only and writable: delete it first/],
    ['has unknown flags', { flags: 0x18 }, /unknown flags 0x18/],
    ['has too high a number', { slot: 0x8000 }, /this kernel has slots 0 to \d+/],
    ['is in no address space', { slot: 0x2_0001 }, /address spaces 0 and 1/],
    ['lies too high', { slot: 2, guestPhysAddr: 2 ** 52 }, /beyond the physical addresses/],
    ['is deleted twice', { slot: 2, memorySize: 0 }, /there is no such slot/],
  ])('%s', (_, changes, reason) => {
    const error = thrownBy(() => guest.vm.setUserMemoryRegion(region(changes))) as KvmError
    expect(error).toMatchObject({ name: 'KvmError', slot: changes.slot ?? FIRST_SLOT })
    expect(error.code).toMatch(/^(EINVAL|EEXIST)$/)
    expect(error.message).toMatch(reason)
    expect(guest.vm.findSlot(FIRST_SLOT)).toMatchObject({ gpa: FREE, size: SIZE, flags: 0 })
  })

  test('changes its memory', () => {
    using other = GuestMemory.create([{ gpa: FREE, size: SIZE }])
    const error = thrownBy(() => guest.vm.setUserMemoryRegion(region({ memory: other }))) as Error
    expect(error.message).toMatch(/cannot change its memory: delete it first/)
  })

  test.each<[string, () => void, string]>([
    ['an odd address', () => guest.vm.moveSlot(FIRST_SLOT, 1), 'ERR_OUT_OF_RANGE'],
    ['a move of nothing', () => guest.vm.moveSlot(7, 0), 'ENOENT'],
    ['flags of nothing', () => guest.vm.setSlotFlags(7, 0), 'ENOENT'],
    ['a move onto another', () => guest.vm.moveSlot(FIRST_SLOT, 0), 'EEXIST'],
    ['other flags', () => guest.vm.setSlotFlags(FIRST_SLOT, KVM_MEM_READONLY), 'EINVAL'],
    ['deleting nothing', () => guest.vm.deleteSlot(7), 'EINVAL'],
    ['a number that is none', () => guest.vm.moveSlot(-1, 0), 'ERR_OUT_OF_RANGE'],
  ])('%s', (_, call, code) => {
    expect(thrownBy(call)).toMatchObject({ code })
  })
})

test('what there is can be listed, moved, changed and deleted without its memory', () => {
  const { vm } = guest
  memory.close()
  vm.setSlotFlags(FIRST_SLOT, KVM_MEM_LOG_DIRTY_PAGES)
  vm.moveSlot(FIRST_SLOT, OTHER)
  expect(vm.memorySlots).toEqual([
    { slot: 0, gpa: 0, size: 0x1_0000, flags: 0 },
    { slot: FIRST_SLOT, gpa: OTHER, size: SIZE, flags: KVM_MEM_LOG_DIRTY_PAGES },
  ])
  guest.write({ gpa: OTHER, stride: PAGE, count: 3, value: 1 })
  expect(vm.getDirtyLog(FIRST_SLOT)[0]).toBe(7)
  vm.deleteSlot(FIRST_SLOT)
  expect(vm.findSlot(FIRST_SLOT)).toBeUndefined()
})

test('a read-only slot: reads are of its memory, writes exit', () => {
  guest.vm.deleteSlot(FIRST_SLOT)
  guest.vm.setUserMemoryRegion(region({ flags: KVM_MEM_READONLY }))
  memory.writeU64(FREE + 8, 40n)
  guest.command(0, { gpa: FREE + 8, stride: 0, count: 1, value: 2 })
  const exit = guest.vcpus[0]!.run()
  expect(exit).toMatchObject({ type: 'mmio', gpa: FREE + 8, isWrite: true, length: 8 })
  expect((exit as MmioExit).value).toBe(42)
  expect(memory.readU64(FREE + 8)).toBe(40n)
})

/** Adds 1 to one place until it is done; the number of exits that were not the doorbell's. */
function writeOnThread(vcpu: Vcpu, id: number, count: number): Promise<number> {
  let others = 0
  guest.command(id, { gpa: FREE + 64 * id, stride: 0, count, value: 1 })
  vcpu.start((exit) => {
    if (exit.type === 'mmio' && exit.gpa === DOORBELL) vcpu.stop()
    else others++
  })
  return vcpu.join().then(() => others)
}

test('slots are added, moved, logged and deleted while vCPUs write elsewhere', async () => {
  const count = 3_000_000
  const ends = guest.vcpus.map((vcpu, id) => writeOnThread(vcpu, id, count))
  using other = GuestMemory.create([{ gpa: OTHER, size: SIZE }])
  const { vm } = guest
  let running = true
  const ended = Promise.all(ends).finally(() => {
    running = false
  })
  let rounds = 0
  for (; running || rounds < 20; rounds++) {
    vm.mapMemory(other, { firstSlot: 2 })
    vm.setSlotFlags(2, KVM_MEM_LOG_DIRTY_PAGES)
    vm.moveSlot(2, OTHER + SIZE)
    vm.setSlotFlags(FIRST_SLOT, rounds % 2 ? KVM_MEM_LOG_DIRTY_PAGES : 0)
    vm.deleteSlot(2)
    await new Promise(setImmediate)
  }
  expect(await ended).toEqual([0, 0])
  expect([memory.readU64(FREE), memory.readU64(FREE + 64)]).toEqual([BigInt(count), BigInt(count)])
})

test('a slot that goes from under a vCPU turns its writes into exits, and back', () => {
  const { vm } = guest
  const [vcpu] = guest.vcpus
  guest.write({ gpa: FREE, stride: PAGE, count: 4, value: 1 })
  vm.deleteSlot(FIRST_SLOT)
  guest.command(0, { gpa: FREE, stride: PAGE, count: 1, value: 1 })
  const read = vcpu!.run() as MmioExit
  expect(read).toMatchObject({ type: 'mmio', gpa: FREE, isWrite: false })
  // The kernel finishes the access with what it is told, although the slot is back by then.
  vm.setUserMemoryRegion(region({}))
  read.data.fill(0)
  read.data[0] = 100
  for (let exit = vcpu!.run(); ; exit = vcpu!.run()) {
    if (exit.type === 'mmio' && exit.gpa === DOORBELL) break
  }
  expect(memory.readU64(FREE)).toBe(101n)
  guest.write({ gpa: FREE + PAGE, stride: PAGE, count: 1, value: 1 })
  expect(memory.readU64(FREE + PAGE)).toBe(2n)
})

test(`as many slots as the kernel gives (${SLOTS})`, { timeout: 300_000 }, () => {
  const limit = capability('KVM_CAP_NR_MEMSLOTS')
  const { vm } = guest
  const count = SLOTS === 'all' ? limit - 2 : Number(SLOTS)
  // The highest numbers, so that the last one is always among them.
  const first = limit - count
  for (let i = 0; i < count; i++) {
    const guestPhysAddr = OTHER + i * 2 * PAGE
    vm.setUserMemoryRegion({
      slot: first + i,
      guestPhysAddr,
      memorySize: PAGE,
      memory,
      memoryAddress: FREE + (i % 512) * PAGE,
    })
  }
  expect(vm.memorySlots).toHaveLength(count + 2)
  const beyond = () =>
    vm.setUserMemoryRegion(region({ slot: limit, guestPhysAddr: DOORBELL + PAGE }))
  expect(thrownBy(beyond)).toMatchObject({
    code: 'EINVAL',
    reason: `this kernel has slots 0 to ${limit - 1}`,
  })
  const last = OTHER + (count - 1) * 2 * PAGE
  guest.write({ gpa: last, stride: 0, count: 1, value: 7 })
  expect(memory.readU64(FREE + ((count - 1) % 512) * PAGE)).toBe(7n)
})
