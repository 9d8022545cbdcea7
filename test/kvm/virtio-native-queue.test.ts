// The virtqueue of native code against a driver that means well, by a model, and against one that does
// not. Its other tests are those of the devices that it serves.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { GuestMemory } from '../../src/index.js'
import { type NativeChain, NativeQueue } from '../helpers/native-queue.js'
import { type DriverBuffer, layOutRing, ringDriver } from '../helpers/ring-driver.js'

const RAM = 0x10_0000
const DATA = 0x8_0000
const TABLES = 0x4_0000
const TABLE_BYTES = 1024
const MOST_OUT = 32

const kinds = [
  { packed: false, eventIdx: false },
  { packed: false, eventIdx: true },
  { packed: true, eventIdx: false },
  { packed: true, eventIdx: true },
]
const name = ({ packed, eventIdx }: (typeof kinds)[0]) =>
  `${packed ? 'packed' : 'split'}${eventIdx ? ', event index' : ''}`

const buffer = fc.record({
  gpa: fc.integer({ min: DATA, max: RAM - 0x1000 }),
  length: fc.integer({ min: 1, max: 0x1000 }),
})
const request = fc
  .record({
    readable: fc.array(buffer, { maxLength: 3 }),
    writable: fc.array(buffer, { maxLength: 3 }),
    indirect: fc.boolean(),
  })
  .filter(({ readable, writable }) => readable.length + writable.length > 0)
const step = fc.oneof(
  fc.record({ kind: fc.constant('add' as const), request }),
  fc.record({ kind: fc.constant('pop' as const) }),
  fc.record({ kind: fc.constant('push' as const), which: fc.nat(), written: fc.nat(0xffff) }),
  fc.record({ kind: fc.constant('take' as const) }),
)

describe.each(kinds)('the native queue ($packed, $eventIdx)', (kind) => {
  it.each([false, true])(
    `gives and takes as the model does (${name(kind)}, in order: %s)`,
    (inOrder) => {
      const size = fc.integer({ min: 0, max: 4 }).map((order) => 2 ** order + (kind.packed ? 2 : 0))
      fc.assert(
        fc.property(size, fc.array(step, { minLength: 50, maxLength: 400 }), (entries, steps) => {
          using memory = GuestMemory.create(RAM)
          const layout = layOutRing(0x1000, { size: entries, ...kind })
          const driver = ringDriver(memory, layout)
          const queue = new NativeQueue(memory, { ...layout, inOrder })
          const waiting: { id: number; buffers: readonly DriverBuffer[] }[] = []
          const out: { chain: NativeChain; written?: number }[] = []
          const used: { id: number; written: number }[] = []
          let added = 0
          let interruptDue = driver.enableInterrupts()
          let notificationDue = queue.enableNotifications()
          for (const each of steps) {
            if (each.kind === 'add') {
              const { readable, writable, indirect } = each.request
              const buffers = [
                ...readable,
                ...writable.map((part) => ({ ...part, writable: true })),
              ]
              if ((indirect ? 1 : buffers.length) > driver.room) continue
              // A table of its own for each request that can be out.
              const table = TABLES + TABLE_BYTES * (added++ % MOST_OUT)
              const id = driver.add(buffers, indirect ? table : undefined)
              waiting.push({ id, buffers })
              if (driver.needsNotification()) notificationDue = true
            } else if (each.kind === 'pop') {
              const chain = queue.pop()
              const expected = waiting.shift()
              expect(chain?.id).toBe(expected?.id)
              if (chain === undefined) {
                expect(queue.enableNotifications()).toBe(false)
                notificationDue = false
                continue
              }
              const part = ({ gpa, length }: DriverBuffer) => ({ gpa, length })
              expect(chain.readable).toEqual(expected!.buffers.filter((b) => !b.writable).map(part))
              expect(chain.writable).toEqual(expected!.buffers.filter((b) => b.writable).map(part))
              out.push({ chain })
            } else if (each.kind === 'push') {
              const candidates = out.filter(({ written }) => written === undefined)
              const chosen = candidates[each.which % Math.max(1, candidates.length)]
              if (chosen === undefined) continue
              queue.push(chosen.chain, each.written)
              chosen.written = each.written
              const finished = inOrder
                ? out.splice(0, out.findIndex(({ written }) => written === undefined) >>> 0)
                : out.splice(out.indexOf(chosen), 1)
              used.push(
                ...finished.map(({ chain, written }) => ({ id: chain.id, written: written! })),
              )
              if (queue.needsInterrupt()) interruptDue = true
            } else {
              const taken = driver.takeUsed()
              expect(taken).toEqual(used.shift())
              if (taken === undefined) interruptDue = driver.enableInterrupts()
            }
            // Nobody waits for what nobody tells of.
            if (waiting.length > 0) expect(notificationDue).toBe(true)
            if (used.length > 0) expect(interruptDue).toBe(true)
          }
        }),
        { numRuns: 25 },
      )
    },
  )

  it(`is silent when asked to be (${name(kind)})`, () => {
    using memory = GuestMemory.create(RAM)
    const layout = layOutRing(0x1000, { size: 4, ...kind })
    const driver = ringDriver(memory, layout)
    const queue = new NativeQueue(memory, layout)
    driver.enableInterrupts()
    queue.enableNotifications()
    const round = () => {
      driver.add([{ gpa: DATA, length: 1 }])
      const notification = driver.needsNotification()
      queue.push(queue.pop()!, 0)
      const interrupt = queue.needsInterrupt()
      driver.takeUsed()
      return { notification, interrupt }
    }
    expect(round()).toEqual({ notification: true, interrupt: true })
    driver.disableInterrupts()
    queue.disableNotifications()
    for (let i = 0; i < 10; i++) expect(round()).toEqual({ notification: false, interrupt: false })
    expect(driver.enableInterrupts()).toBe(false)
    expect(queue.enableNotifications()).toBe(false)
    expect(round()).toEqual({ notification: true, interrupt: true })
  })

  it(`takes whatever a hostile driver writes (${name(kind)})`, () => {
    using memory = GuestMemory.create([
      { gpa: 0, size: 0x4000 },
      { gpa: 0x4000, size: 0x1000 },
      { gpa: 0x8000, size: 0x1000 },
    ])
    const isRam = (gpa: number) => gpa >= 0 && (gpa < 0x5000 || (gpa >= 0x8000 && gpa < 0x9000))
    const small = fc.oneof(fc.nat(0x90), fc.nat(0xffff), fc.constant(0xffff_ffff))
    const layout = layOutRing(0, { size: 8, ...kind })
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(0x13f), small), { maxLength: 200 }), (writes) => {
        memory.fill(0, 0x5000, 0)
        const queue = new NativeQueue(memory, layout)
        const out: NativeChain[] = []
        for (const [place, value] of writes) {
          memory.writeU32(4 * (place % 0x50), value)
          try {
            const chain = queue.pop()
            if (chain !== undefined) out.push(chain)
          } catch {
            expect(() => queue.pop()).toThrow('broken')
            return
          }
          for (const { gpa, length } of [out.at(-1)].flatMap((chain) =>
            chain ? [...chain.readable, ...chain.writable] : [],
          )) {
            expect([gpa, gpa + length - 1].map(isRam)).toEqual([true, true])
          }
          if (place % 3 === 0 && out.length > 0) queue.push(out.shift()!, 0)
          queue.needsInterrupt()
          queue.enableNotifications()
        }
        expect(out.length).toBeLessThanOrEqual(8)
      }),
      { numRuns: 300 },
    )
  })

  it(`refuses rings outside RAM, or not aligned (${name(kind)})`, () => {
    using memory = GuestMemory.create(0x4000)
    const layout = layOutRing(0x1000, { size: 8, ...kind })
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
      expect(() => new NativeQueue(memory, { ...layout, ...wrong }), JSON.stringify(wrong)).toThrow(
        'no queue',
      )
    }
  })
})

it('a chain across regions has a part in each', () => {
  using memory = GuestMemory.create([
    { gpa: 0, size: 0x4000 },
    { gpa: 0x4000, size: 0x1000 },
  ])
  const layout = layOutRing(0, { size: 2, packed: false, eventIdx: false })
  const driver = ringDriver(memory, layout)
  const queue = new NativeQueue(memory, layout)
  driver.add([{ gpa: 0x3ffe, length: 4 }])
  expect(queue.pop()?.readable).toEqual([
    { gpa: 0x3ffe, length: 2 },
    { gpa: 0x4000, length: 2 },
  ])
  driver.add([{ gpa: 0x4ffe, length: 4 }])
  expect(() => queue.pop()).toThrow('broken')
})
