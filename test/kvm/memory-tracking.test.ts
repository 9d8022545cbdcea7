// Dirty tracking: each way of KVM's, on each kind of RAM, for code that the processor runs and for
// code that a software KVM interprets.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import {
  type DirtyMethod,
  DirtyTracker,
  type DirtyTrackerOptions,
  GuestMemory,
  type MemoryBacking,
  type Vcpu,
} from '../../src/index.js'
import { KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY } from '../../src/uapi/index.js'
import { addHugePages } from '../helpers/huge-pages.js'
import { has } from '../helpers/probe.js'
import { codeOf } from '../helpers/thrown.js'
import { FIRST_SLOT, FREE, type WriterOptions, Writers } from '../helpers/writers.js'

const PAGE = 0x1000
const SIZE = 0x80_0000
const RING = 0x1_0000
const folder = mkdtempSync(join(tmpdir(), 'node-kvm-tracking-'))
let removeHugePages: (() => void) | undefined
beforeAll(() => {
  removeHugePages = addHugePages(2048, 4)
})
afterAll(() => {
  removeHugePages?.()
  rmSync(folder, { recursive: true })
})

const open: Disposable[] = []
afterEach(() => {
  for (const each of open.splice(0).reverse()) each[Symbol.dispose]()
})
function keep<T extends Disposable>(object: T): T {
  open.push(object)
  return object
}

const methods: DirtyMethod[] = ['log', 'manual', 'ring']
const capabilityOf = {
  log: 'KVM_CAP_USER_MEMORY',
  manual: 'KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2',
  ring: 'KVM_CAP_DIRTY_LOG_RING',
} as const
const lacks = (method: DirtyMethod) =>
  has(capabilityOf[method]) ? undefined : `this KVM lacks ${capabilityOf[method]}`

interface Tracking {
  guest: Writers
  memory: GuestMemory
  tracker: DirtyTracker
}

function tracking(
  method: DirtyMethod,
  options: WriterOptions & { backing?: MemoryBacking; tracker?: DirtyTrackerOptions } = {},
): Tracking {
  const guest = keep(new Writers({ ...options, ringSize: method === 'ring' ? RING : 0 }))
  const { backing = 'memfd' } = options
  const memory = keep(GuestMemory.create([{ gpa: FREE, size: SIZE }], { backing }))
  guest.vm.mapMemory(memory, { firstSlot: FIRST_SLOT })
  const { vcpus } = guest
  const tracker = keep(
    DirtyTracker.start(guest.vm, { method, vcpus, slots: [FIRST_SLOT], ...options.tracker }),
  )
  return { guest, memory, tracker }
}

const page = (first: number, pages = 1) => ({ gpa: FREE + first * PAGE, size: pages * PAGE })
const everyOther = { gpa: FREE + 3 * PAGE, stride: 2 * PAGE, count: 40, value: 1 }
const everyOtherPage = Array.from({ length: 40 }, (_, i) => page(3 + 2 * i))
const inARow = { gpa: FREE + 500 * PAGE + 8, stride: PAGE, count: 70, value: 2 }

let files = 0
function file(): string {
  const path = join(folder, `ram-${files++}`)
  writeFileSync(path, new Uint8Array(SIZE))
  return path
}
const backings: [string, () => MemoryBacking][] = [
  ['memfd', () => 'memfd'],
  ['anonymous', () => 'anonymous'],
  ['a shared file', () => ({ file: file(), mode: 'shared' })],
  ['a private file', () => ({ file: file(), mode: 'private' })],
  ['huge pages', () => ({ hugePages: '2MiB' })],
]

describe.each(backings)('%s', (kind, backing) => {
  describe.each([3, 0] as const)('ring %i', (cpl) => {
    test.for(methods)('%s: the pages written, once', (method, context) => {
      const missing = lacks(method)
      if (missing !== undefined) context.skip(missing)
      if (kind === 'huge pages' && removeHugePages === undefined) {
        context.skip('the pool has no room for 4 pages of 2 MiB')
      }
      const { guest, memory, tracker } = tracking(method, { cpl, backing: backing() })
      expect(tracker.ranges()).toEqual([])
      guest.write(everyOther, tracker)
      guest.write(inARow, tracker)
      expect(tracker.ranges()).toEqual([...everyOtherPage, page(500, 70)])
      expect(tracker.ranges()).toEqual([])
      guest.write(everyOther, tracker)
      expect(tracker.ranges()).toEqual(everyOtherPage)
      expect(memory.readU64(FREE + 3 * PAGE)).toBe(2n)
      expect(memory.readU64(FREE + 569 * PAGE + 8)).toBe(2n)
    })
  })
})

describe.each(methods.filter((method) => lacks(method) === undefined))('%s', (method) => {
  test('writes of this process are not the guest’s, reads no writes', () => {
    const { guest, memory, tracker } = tracking(method)
    memory.fill(FREE, SIZE, 1)
    guest.write({ gpa: FREE, stride: PAGE, count: 10, value: 0 }, tracker)
    expect(tracker.ranges()).toEqual([page(0, 10)])
    memory.fill(FREE, SIZE, 2)
    expect(tracker.ranges()).toEqual([])
  })

  test('what is written while pages are handed out comes the next time', () => {
    const { guest, tracker } = tracking(method)
    guest.write(everyOther, tracker)
    let ranges = 0
    tracker.collect(() => {
      if (ranges++ > 0) return
      guest.write({ gpa: FREE + 3 * PAGE, stride: PAGE, count: 1, value: 1 }, tracker)
      if (method === 'ring') tracker.makeRoom(guest.vcpus[0]!)
    })
    expect(ranges).toBe(40)
    expect(tracker.ranges()).toEqual([page(3)])
  })

  test('two slots, each at its own address; one that moves takes its pages along', () => {
    const { guest, tracker } = tracking(method)
    const gpa = FREE + 2 * SIZE
    const second = keep(GuestMemory.create([{ gpa, size: 100 * PAGE }]))
    guest.vm.mapMemory(second, { firstSlot: 9 })
    tracker.track(9)
    expect(tracker.slots).toEqual([FIRST_SLOT, 9])
    guest.write({ gpa: gpa + 63 * PAGE, stride: PAGE, count: 37, value: 1 }, tracker)
    guest.write({ gpa: FREE, stride: 8, count: 2, value: 1 }, tracker)
    const found = [page(0), { gpa: gpa + 63 * PAGE, size: 37 * PAGE }]
    expect(tracker.ranges()).toEqual(found)
    guest.write({ gpa: gpa + 5 * PAGE, stride: 8, count: 1, value: 1 }, tracker)
    guest.vm.moveSlot(9, gpa + SIZE)
    expect(tracker.ranges()).toEqual([{ gpa: gpa + SIZE + 5 * PAGE, size: PAGE }])
    guest.vm.deleteSlot(9)
    expect(tracker.ranges()).toEqual([])
    expect(tracker.slots).toEqual([FIRST_SLOT])
  })

  test('what was not handed out comes again', () => {
    const { guest, tracker } = tracking(method, { tracker: { pagesAtOnce: 64 } })
    guest.write(everyOther, tracker)
    const seen: number[] = []
    const fail = () =>
      tracker.collect((gpa) => {
        seen.push(gpa)
        if (seen.length === 20) throw new Error('enough')
      })
    expect(fail).toThrow('enough')
    guest.write(inARow, tracker)
    tracker.collect((gpa) => seen.push(gpa))
    expect(seen).toEqual([...everyOtherPage.map(({ gpa }) => gpa), inARow.gpa - 8])
  })

  test('a collection within a collection is refused', () => {
    const { guest, tracker } = tracking(method)
    guest.write(everyOther, tracker)
    const codes = new Set<unknown>()
    const { pages } = tracker.collect(() => codes.add(codeOf(() => tracker.ranges())))
    expect([pages, ...codes]).toEqual([40, 'ERR_KVM_BUSY'])
  })

  test('stops: the slot is logged no longer, and can be tracked anew', () => {
    const { guest, tracker } = tracking(method)
    guest.write(everyOther, tracker)
    expect(guest.vm.findSlot(FIRST_SLOT)?.flags).toBe(KVM_MEM_LOG_DIRTY_PAGES)
    tracker.stop()
    tracker.stop()
    expect(guest.vm.findSlot(FIRST_SLOT)?.flags).toBe(0)
    for (const call of [
      () => tracker.ranges(),
      () => tracker.track(1),
      () => tracker.makeRoom(guest.vcpus[0]!),
    ]) {
      expect(codeOf(call)).toBe('ERR_KVM_CLOSED')
    }
    guest.write(inARow)
    using again = DirtyTracker.start(guest.vm, { method, vcpus: guest.vcpus })
    guest.write(everyOther, again)
    expect(again.ranges()).toEqual(expect.arrayContaining([page(3), page(5), page(81)]))
    expect(again.slots).toEqual([0, FIRST_SLOT])
  })

  test('several vCPUs on threads of their own, collected while they write', async () => {
    const vcpus = 3
    const { guest, tracker } = tracking(method, { vcpus })
    const seen = new Set<number>()
    const note = () =>
      tracker.collect((gpa, size) => {
        for (let at = gpa; at < gpa + size; at += PAGE) seen.add((at - FREE) / PAGE)
      })
    const done = guest.vcpus.map((vcpu, id) => {
      guest.command(id, { gpa: FREE + id * PAGE, stride: vcpus * PAGE, count: 600, value: 1 })
      vcpu.start(() => vcpu.stop())
      return vcpu.join()
    })
    const timer = setInterval(note)
    await Promise.all(done)
    clearInterval(timer)
    expect(note().lost).toBe(false)
    expect([...seen].sort((a, b) => a - b)).toEqual(Array.from({ length: 1800 }, (_, i) => i))
  })
})

describe('what cannot be tracked', () => {
  const start = (options?: DirtyTrackerOptions, ringSize = 0) => {
    const guest = keep(new Writers({ ringSize }))
    return () => DirtyTracker.start(guest.vm, options)
  }
  test.each<[string, DirtyTrackerOptions, number, string]>([
    ['rings that the VM has not', { method: 'ring' }, 0, 'EINVAL'],
    ['a method that is none', { method: 'x' as never }, 0, 'ERR_INVALID_ARG_TYPE'],
    ['parts of no 64 pages', { pagesAtOnce: 100 }, 0, 'ERR_OUT_OF_RANGE'],
    ['a slot that is not there', { slots: [7] }, 0, 'ENOENT'],
    ['slots that are no list', { slots: 7 as never }, 0, 'ERR_INVALID_ARG_TYPE'],
    ['what is no vCPU', { vcpus: [{} as Vcpu] }, 0, 'ERR_INVALID_ARG_TYPE'],
  ])('%s', (_, options, ringSize, code) => {
    expect(codeOf(start(options, ringSize))).toBe(code)
  })
  test('bitmaps of a VM with rings, and rings of no vCPU', (context) => {
    if (lacks('ring')) context.skip(lacks('ring') ?? '')
    expect(codeOf(start({ method: 'log' }, RING))).toBe('EINVAL')
    expect(codeOf(start({}, RING))).toBe('ERR_OUT_OF_RANGE')
  })
  test('read-only slots are left out', () => {
    const guest = keep(new Writers())
    const memory = keep(GuestMemory.create([{ gpa: FREE, size: SIZE }]))
    guest.vm.mapMemory(memory, { firstSlot: 1, flags: KVM_MEM_READONLY })
    const tracker = keep(DirtyTracker.start(guest.vm))
    expect(tracker.slots).toEqual([0])
    expect(tracker.method).toBe(has(capabilityOf.manual) ? 'manual' : 'log')
  })
})

describe('a ring that the guest fills up', () => {
  test('on the processor: nothing is lost', (context) => {
    if (lacks('ring')) context.skip(lacks('ring') ?? '')
    const guest = keep(new Writers({ ringSize: PAGE }))
    const memory = keep(GuestMemory.create([{ gpa: FREE, size: SIZE }]))
    guest.vm.mapMemory(memory, { firstSlot: FIRST_SLOT })
    const { vm, vcpus } = guest
    const tracker = keep(DirtyTracker.start(vm, { vcpus, slots: [FIRST_SLOT] }))
    guest.write({ gpa: FREE, stride: PAGE, count: SIZE / PAGE, value: 1 }, tracker)
    const ranges: number[] = []
    const found = tracker.collect((gpa, size) => ranges.push(gpa, size))
    expect(found).toEqual({ pages: SIZE / PAGE, lost: false })
    expect(ranges).toEqual([FREE, SIZE])
  })

  test('interpreted: what a software KVM loses is noticed', (context) => {
    if (lacks('ring')) context.skip(lacks('ring') ?? '')
    const guest = keep(new Writers({ ringSize: PAGE, cpl: 0 }))
    const memory = keep(GuestMemory.create([{ gpa: FREE, size: SIZE }]))
    guest.vm.mapMemory(memory, { firstSlot: FIRST_SLOT })
    const { vm, vcpus } = guest
    const tracker = keep(DirtyTracker.start(vm, { vcpus, slots: [FIRST_SLOT] }))
    memory.fill(FREE, SIZE, 0xff)
    const written = 600
    // mov [disp32], al for each page, then hlt
    const stores = Array.from({ length: written }, (_, i) => {
      const bytes = Uint8Array.of(0x88, 0x04, 0x25, 0, 0, 0, 0)
      new DataView(bytes.buffer).setUint32(3, FREE + 2 * i * PAGE, true)
      return [...bytes]
    })
    guest.load(Uint8Array.from([...stores.flat(), 0xf4]))
    let exit = vcpus[0]!.run({ timeoutMs: 10_000 })
    let full = 0
    for (; exit.type === 'dirtyRingFull'; full++) {
      expect(full).toBeLessThan(written)
      tracker.makeRoom(vcpus[0]!)
      exit = vcpus[0]!.run({ timeoutMs: 10_000 })
    }
    expect(exit.type).toBe('hlt')
    const seen = new Set<number>()
    const { lost } = tracker.collect((gpa, size) => {
      for (let at = gpa; at < gpa + size; at += PAGE) seen.add((at - FREE) / PAGE)
    })
    for (let i = 0; i < written; i++) expect(seen.has(2 * i)).toBe(true)
    expect(seen.size).toBe(lost ? SIZE / PAGE : written)
    // And what is written from now on is noticed, although its entries may have been lost before.
    expect(tracker.ranges()).toEqual([])
    guest.load(Uint8Array.from([...stores.slice(0, 20).flat(), 0xf4]))
    vcpus[0]!.updateRegs({ rip: 0x8000n })
    exit = vcpus[0]!.run({ timeoutMs: 10_000 })
    for (; exit.type === 'dirtyRingFull'; full++) {
      expect(full).toBeLessThan(written)
      tracker.makeRoom(vcpus[0]!)
      exit = vcpus[0]!.run({ timeoutMs: 10_000 })
    }
    const again = tracker.ranges().map(({ gpa }) => (gpa - FREE) / PAGE)
    expect(again).toEqual(Array.from({ length: 20 }, (_, i) => 2 * i))
  })

  test('of a vCPU that is closed: all pages, as nobody knows', (context) => {
    if (lacks('ring')) context.skip(lacks('ring') ?? '')
    const { guest, tracker } = tracking('ring', { vcpus: 2 })
    guest.write(everyOther, tracker)
    guest.vcpus[0]!.close()
    expect(tracker.collect(() => {})).toEqual({ pages: SIZE / PAGE, lost: true })
    guest.write(everyOther, tracker, 1)
    expect(tracker.ranges()).toEqual(everyOtherPage)
  })
})
