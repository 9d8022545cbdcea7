// The pages in which KVM maps RAM, counted by itself: large ones where the host has them, small ones
// where a page is missing or writes are logged, and large ones again.

import { readFileSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type DirtyMethod, DirtyTracker, GuestMemory, hostReport } from '../../src/index.js'
import { addHugePages } from '../helpers/huge-pages.js'
import { has } from '../helpers/probe.js'
import { FIRST_SLOT, FREE, HIGH, Writers } from '../helpers/writers.js'

const PAGE = 0x1000
const LARGE = 0x20_0000
const COUNT = 4
const SIZE = COUNT * LARGE

let memory: GuestMemory
beforeEach(() => {
  memory = GuestMemory.create([{ gpa: FREE, size: SIZE }], { backing: 'anonymous', thp: 'never' })
})
afterEach(() => memory.close())

interface Skippable {
  skip(reason?: string): void
}
/** RAM in huge pages of the host, or a skip with the number it gave. */
function makeHuge(context: Skippable): void {
  memory.discard(FREE, SIZE)
  memory.advise(FREE, SIZE, 'hugePage')
  memory.advise(FREE, SIZE, 'populateWrite')
  // KERNEL: page tables of small pages stay after a discard (until 6.14), and faults then fill them.
  if (memory.usage().hugePages !== SIZE) collapse(context)
  const { hugePages } = memory.usage()
  if (hugePages !== SIZE) context.skip(`the host gave ${hugePages} bytes of ${SIZE} in huge pages`)
}

function collapse(context: Skippable): void {
  try {
    memory.advise(FREE, SIZE, 'collapse')
  } catch (error) {
    context.skip(`the host does not collapse: ${(error as Error).message}`)
  }
}

function guestOf(options: ConstructorParameters<typeof Writers>[0] = {}): Writers {
  const guest = new Writers(options)
  guest.vm.mapMemory(memory, { firstSlot: FIRST_SLOT })
  return guest
}

const touch = (guest: Writers, tracker?: DirtyTracker) =>
  guest.write({ gpa: FREE, stride: PAGE, count: SIZE / PAGE, value: 1 }, tracker)
const large = (guest: Writers) => guest.vm.mmu().pages2m

/** KVM maps a whole huge page at once, or a skip. */
function touchLarge(guest: Writers, context: Skippable): void {
  touch(guest)
  if (large(guest) === 0) context.skip('this KVM maps no RAM in large pages')
}

test('small pages of the host are mapped as such', () => {
  using guest = guestOf()
  touch(guest)
  expect(memory.usage().hugePages).toBe(0)
  expect(large(guest)).toBe(0)
})

test('madvise makes them large, a hole small again, collapsing large', (context) => {
  using guest = guestOf()
  touch(guest)
  const before = guest.vm.mmu()
  expect(before.pages2m).toBe(0)
  makeHuge(context)
  touchLarge(guest, context)
  expect(large(guest)).toBe(COUNT)
  expect(guest.vm.mmu().pages4k).toBeLessThanOrEqual(before.pages4k! - SIZE / PAGE)
  memory.discard(FREE + LARGE + 5 * PAGE, PAGE)
  expect(large(guest)).toBe(COUNT - 1)
  touch(guest)
  expect(large(guest)).toBe(COUNT - 1)
  expect(memory.readU64(FREE + LARGE + 5 * PAGE)).toBe(1n)
  collapse(context)
  touch(guest)
  expect(large(guest)).toBe(COUNT)
  expect(memory.readU64(FREE + LARGE + 5 * PAGE)).toBe(2n)
})

describe('logging', () => {
  const methods: [DirtyMethod, string][] = [
    ['log', 'KVM_CAP_USER_MEMORY'],
    ['manual', 'KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2'],
    ['ring', 'KVM_CAP_DIRTY_LOG_RING'],
  ]
  test.for(methods)('%s: breaks large pages while it lasts', ([method, capability], context) => {
    if (!has(capability)) context.skip(`this KVM lacks ${capability}`)
    using guest = guestOf({ ringSize: method === 'ring' ? 0x1_0000 : 0 })
    makeHuge(context)
    touchLarge(guest, context)
    expect(large(guest)).toBe(COUNT)
    const { vcpus } = guest
    const tracker = DirtyTracker.start(guest.vm, { method, vcpus, slots: [FIRST_SLOT] })
    const gpa = FREE + LARGE + 7 * PAGE
    guest.write({ gpa, stride: LARGE, count: 2, value: 1 }, tracker)
    expect(tracker.ranges()).toEqual([
      { gpa, size: PAGE },
      { gpa: gpa + LARGE, size: PAGE },
    ])
    touch(guest, tracker)
    expect(tracker.ranges()).toEqual([{ gpa: FREE, size: SIZE }])
    expect(large(guest)).toBe(0)
    tracker.stop()
    touch(guest)
    expect(large(guest)).toBe(COUNT)
    expect(memory.usage().hugePages).toBe(SIZE)
  })
})

const sizes = [
  ['2MiB', 2048, COUNT],
  ['1GiB', 1048576, 1],
] as const
test.for(sizes)(
  'pages of %s of the pool are mapped as such',
  ([hugePages, kib, pages], context) => {
    const remove = addHugePages(kib, pages)
    if (remove === undefined)
      context.skip(`the pool has no room for ${pages} pages of ${hugePages}`)
    try {
      const size = kib * 1024 * pages
      const backing = { hugePages }
      // A GiB of zeros takes its time, which is none of the guest's.
      using pool = GuestMemory.create([{ gpa: HIGH, size }], { backing, prefault: true })
      using guest = new Writers()
      guest.vm.mapMemory(pool, { firstSlot: FIRST_SLOT })
      guest.write({ gpa: HIGH, stride: size / 4, count: 4, value: 1 })
      const { pages2m, pages1g } = guest.vm.mmu()
      if (maps1GiB()) {
        expect({ pages2m, pages1g }).toEqual(
          kib === 2048 ? { pages2m: COUNT, pages1g: 0 } : { pages2m: 0, pages1g: 1 },
        )
      } else if (pages2m === 0) {
        context.skip('this KVM maps no RAM in large pages')
      } else {
        expect({ pages2m, pages1g }).toEqual({ pages2m: 4, pages1g: 0 })
      }
      expect(pool.readU64(HIGH + (3 * size) / 4)).toBe(1n)
      expect(pool.usage().hugetlb).toBe(size)
      pool.discard(HIGH, size)
      expect(pool.readU64(HIGH)).toBe(0n)
      guest.write({ gpa: HIGH + 8, stride: 0, count: 2, value: 1 })
      expect(pool.readU64(HIGH + 8)).toBe(2n)
    } finally {
      remove?.()
    }
  },
)

/** Whether KVM has tables with 1 GiB pages: EPT that can, or the processor's own tables for NPT. */
function maps1GiB(): boolean {
  const report = hostReport({ probeGuest: false })
  if (!report.available || report.features.nestedPaging.enabled !== true) return false
  const flags = report.engine.technology === 'VMX' ? 'vmx flags' : 'flags'
  const flag = report.engine.technology === 'VMX' ? 'ept_1gb' : 'pdpe1gb'
  const line = new RegExp(`^${flags}\\s*:(.*)$`, 'm').exec(readFileSync('/proc/cpuinfo', 'latin1'))
  return line?.[1]?.split(' ').includes(flag) ?? false
}
