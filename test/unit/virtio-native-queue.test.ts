// The virtqueues, native and TypeScript, against a driver that means well, by one model, and against one
// that does not, by each other.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { PackedVirtqueue, type QueueLayout, SplitVirtqueue } from '../../src/devices/index.js'
import { GuestMemory } from '../../src/index.js'
import { type NativeChain, NativeQueue } from '../helpers/native-queue.js'
import { type DriverBuffer, driverRing, ringLayout } from '../helpers/virtio-rings.js'

const RAM = 0x10_0000
const DATA = 0x8_0000
const TABLES = 0x4_0000
const TABLE_BYTES = 1024
const MOST_OUT = 32

/** What both queues have in common. */
interface Queue {
  pop(): NativeChain | undefined
  push(chain: NativeChain, written: number): void
  needsInterrupt(): boolean
  enableNotifications(): boolean
  disableNotifications(): void
}
type Make = (memory: GuestMemory, layout: QueueLayout) => Queue

const native: Make = (memory, layout) => new NativeQueue(memory, layout)
const typescript: Make = (memory, layout) => {
  const Ring = layout.packed ? PackedVirtqueue : SplitVirtqueue
  return new Ring(memory, layout) as unknown as Queue
}
const kinds = [
  { kind: 'split', packed: false, eventIdx: false },
  { kind: 'split, event index', packed: false, eventIdx: true },
  { kind: 'packed', packed: true, eventIdx: false },
  { kind: 'packed, event index', packed: true, eventIdx: true },
]

const part = fc.record({
  gpa: fc.integer({ min: DATA, max: RAM - 0x1000 }),
  length: fc.integer({ min: 1, max: 0x1000 }),
})
const request = fc
  .record({
    readable: fc.array(part, { maxLength: 3 }),
    writable: fc.array(part, { maxLength: 3 }),
    isIndirect: fc.boolean(),
  })
  .filter(({ readable, writable }) => readable.length + writable.length > 0)
const step = fc.oneof(
  fc.record({ kind: fc.constant('add' as const), request }),
  fc.record({ kind: fc.constant('pop' as const) }),
  fc.record({ kind: fc.constant('push' as const), which: fc.nat(), share: fc.nat(100) }),
  fc.record({ kind: fc.constant('take' as const) }),
)
/** RAM with the rings, in short. */
const contentOf = (memory: GuestMemory) => Buffer.from(memory.read(0, 0x5000)).toString('base64')
const bytes = (parts: readonly { length: number }[] = []) =>
  parts.reduce((sum, { length }) => sum + length, 0)

describe.each([
  { name: 'native', make: native },
  { name: 'TypeScript', make: typescript },
])('the $name queue', ({ make }) => {
  describe.each(kinds)('$kind', ({ packed, eventIdx }) => {
    it.each([false, true])('gives and takes as the model does (in order: %s)', (inOrder) => {
      const size = fc.integer({ min: 0, max: 4 }).map((order) => 2 ** order + (packed ? 2 : 0))
      fc.assert(
        fc.property(size, fc.array(step, { minLength: 50, maxLength: 400 }), (entries, steps) => {
          using memory = GuestMemory.create(RAM)
          const layout = ringLayout(0x1000, entries, { packed, eventIdx, inOrder })
          const driver = driverRing(memory, layout)
          const queue = make(memory, layout)
          const waiting: { id: number; buffer: DriverBuffer }[] = []
          const out: { chain: NativeChain; written?: number }[] = []
          const used: { id: number; length: number }[] = []
          let added = 0
          driver.setInterrupts(true)
          queue.enableNotifications()
          let interruptDue = false
          let notificationDue = false
          for (const each of steps) {
            if (each.kind === 'add') {
              const { readable, writable, isIndirect } = each.request
              // A table of its own for each request that can be out.
              const tableGpa = TABLES + TABLE_BYTES * (added++ % MOST_OUT)
              const buffer = { readable, writable, ...(isIndirect ? { tableGpa } : {}) }
              const id = driver.add(buffer)
              if (id === undefined) continue
              waiting.push({ id, buffer })
              if (driver.needsKick()) notificationDue = true
            } else if (each.kind === 'pop') {
              const chain = queue.pop()
              const expected = waiting.shift()
              expect(chain?.id).toBe(expected?.id)
              if (chain === undefined) {
                expect(queue.enableNotifications()).toBe(false)
                notificationDue = false
                continue
              }
              expect(chain.readable).toEqual(expected!.buffer.readable)
              expect(chain.writable).toEqual(expected!.buffer.writable)
              out.push({ chain })
            } else if (each.kind === 'push') {
              const candidates = out.filter(({ written }) => written === undefined)
              const chosen = candidates[each.which % Math.max(1, candidates.length)]
              if (chosen === undefined) continue
              chosen.written = Math.floor((bytes(chosen.chain.writable) * each.share) / 100)
              queue.push(chosen.chain, chosen.written)
              const open = out.findIndex(({ written }) => written === undefined)
              const finished = inOrder
                ? out.splice(0, open < 0 ? out.length : open)
                : out.splice(out.indexOf(chosen), 1)
              for (const { chain, written } of finished) {
                used.push({ id: chain.id, length: written! })
              }
              if (queue.needsInterrupt()) interruptDue = true
            } else {
              const taken = driver.takeUsed()
              expect(taken).toEqual(used.shift())
              if (taken === undefined) interruptDue = false
            }
            // Nobody waits for what nobody tells of.
            if (waiting.length > 0) expect(notificationDue).toBe(true)
            if (used.length > 0) expect(interruptDue).toBe(true)
          }
        }),
        { numRuns: 25 },
      )
    })

    it('is silent when asked to be', () => {
      using memory = GuestMemory.create(RAM)
      const layout = ringLayout(0x1000, 4, { packed, eventIdx })
      const driver = driverRing(memory, layout)
      const queue = make(memory, layout)
      driver.setInterrupts(true)
      queue.enableNotifications()
      const round = () => {
        driver.add({ readable: [{ gpa: DATA, length: 1 }] })
        const notification = driver.needsKick()
        queue.push(queue.pop()!, 0)
        const interrupt = queue.needsInterrupt()
        driver.takeUsed()
        return { notification, interrupt }
      }
      expect(round()).toEqual({ notification: true, interrupt: true })
      driver.setInterrupts(false)
      queue.disableNotifications()
      const silent = { notification: false, interrupt: false }
      for (let i = 0; i < 10; i++) expect(round()).toEqual(silent)
      driver.setInterrupts(true)
      expect(queue.enableNotifications()).toBe(false)
      expect(round()).toEqual({ notification: true, interrupt: true })
    })

    it('refuses rings outside RAM, or not aligned', () => {
      using memory = GuestMemory.create(0x4000)
      const layout = ringLayout(0x1000, 8, { packed, eventIdx })
      for (const wrong of [
        { descGpa: 0x1008 },
        { driverGpa: 0x2001 },
        { deviceGpa: 0x2002 },
        { descGpa: 0x3fa0 },
        { driverGpa: 0x4000 },
        { deviceGpa: 2 ** 52 },
        { size: 0 },
        { size: 0xffff },
      ]) {
        expect(() => make(memory, { ...layout, ...wrong }), JSON.stringify(wrong)).toThrow()
      }
    })
  })
})

describe.each(kinds)('against a hostile driver ($kind)', ({ packed, eventIdx }) => {
  it('both queues do the same', () => {
    const regions = [
      { gpa: 0, size: 0x5000 },
      { gpa: 0x8000, size: 0x1000 },
    ]
    using memory = GuestMemory.create(regions)
    using other = GuestMemory.create(regions)
    const layout = ringLayout(0, 8, { packed, eventIdx })
    const { driverGpa, deviceGpa } = layout
    const gpa = fc.oneof(
      fc.nat(0x80),
      fc.nat(15).map((place) => driverGpa + place),
      fc.nat(15).map((place) => deviceGpa + place),
    )
    const value = fc.oneof(fc.nat(0x90), fc.nat(0xffff), fc.constantFrom(0x80, 0x8000, 0xffff))
    const run = (ram: GuestMemory, make: Make, writes: readonly [number, number][]) => {
      ram.fill(0, 0x5000)
      const queue = make(ram, layout)
      const out: NativeChain[] = []
      const seen: unknown[] = []
      for (const [place, word] of writes) {
        ram.writeU16(place & ~1, word)
        try {
          const chain = queue.pop()
          if (chain !== undefined) {
            const { id, slots, readable, writable } = chain
            out.push(chain)
            seen.push({ id, slots, readable, writable })
          }
        } catch {
          return { seen: [...seen, 'broken'], ram: contentOf(ram) }
        }
        if (word % 3 === 0 && out.length > 0) queue.push(out.shift()!, 0)
        seen.push(queue.needsInterrupt(), queue.enableNotifications())
      }
      return { seen, ram: contentOf(ram) }
    }
    fc.assert(
      fc.property(fc.array(fc.tuple(gpa, value), { maxLength: 200 }), (writes) => {
        expect(run(memory, native, writes)).toEqual(run(other, typescript, writes))
      }),
      { numRuns: 400 },
    )
  })
})

it('a chain across regions has a part in each', () => {
  using memory = GuestMemory.create([
    { gpa: 0, size: 0x4000 },
    { gpa: 0x4000, size: 0x1000 },
  ])
  const layout = ringLayout(0, 2)
  const driver = driverRing(memory, layout)
  const queue = new NativeQueue(memory, layout)
  driver.add({ readable: [{ gpa: 0x3ffe, length: 4 }] })
  expect(queue.pop()?.readable).toEqual([
    { gpa: 0x3ffe, length: 2 },
    { gpa: 0x4000, length: 2 },
  ])
  driver.add({ readable: [{ gpa: 0x4ffe, length: 4 }] })
  expect(() => queue.pop()).toThrow('broken')
})
