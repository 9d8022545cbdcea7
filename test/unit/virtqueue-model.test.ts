// Both kinds of queue against a model: a list of buffers that the driver has made available, one of those
// that the device has, one of those that are used.

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type DescriptorChain,
  PackedVirtqueue,
  type QueueLayout,
  SplitVirtqueue,
  type Virtqueue,
} from '../../src/devices/index.js'
import { TestMemory } from '../helpers/device-memory.js'
import { type DriverRing, driverRing, ringBytes, ringLayout } from '../helpers/virtio-rings.js'

const RING_GPA = 0x1_0000
const TABLES_GPA = 0x8_0000
const BUFFERS_GPA = 0x10_0000
const MEMORY = 0x20_0000

/** One step of driver or device. */
type Step =
  | { readonly do: 'add'; readonly readable: number[]; readonly writable: number[]; table: boolean }
  | { readonly do: 'pop' }
  | { readonly do: 'push'; readonly which: number; readonly written: number }
  | { readonly do: 'takeUsed' }
  | { readonly do: 'interrupts'; readonly wanted: boolean }
  | { readonly do: 'notifications'; readonly wanted: boolean }

const lengths = fc.array(fc.integer({ min: 1, max: 5000 }), { maxLength: 4 })
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('add' as const),
      readable: lengths,
      writable: lengths,
      table: fc.boolean(),
    }),
  },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('pop' as const) }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('push' as const),
      which: fc.nat(15),
      written: fc.nat(20_000),
    }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('takeUsed' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('interrupts' as const), wanted: fc.boolean() }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('notifications' as const), wanted: fc.boolean() }),
  },
)

interface Buffer {
  readonly id: number
  readonly readable: number[]
  readonly writable: number[]
  /** Places of the ring that it takes. */
  readonly slots: number
}

/** Plays steps on a queue and on the model side by side. */
class Game {
  readonly #memory = new TestMemory(MEMORY)
  readonly #ring: DriverRing
  readonly #queue: Virtqueue
  readonly #layout: QueueLayout
  readonly #available: Buffer[] = []
  readonly #out: { chain: DescriptorChain; buffer: Buffer; written?: number }[] = []
  readonly #used: { id: number; length: number; slots: number }[] = []
  #nextTable = 0
  /** What was shown as used and what the driver has taken of it, in places of the ring since the start. */
  #shown = 0
  #taken = 0
  /** The place whose use shall interrupt. */
  #event = 0
  #wantsInterrupts = true

  constructor(features: Partial<QueueLayout>, size: number) {
    expect(ringBytes(size)).toBeLessThan(TABLES_GPA - RING_GPA)
    this.#layout = ringLayout(RING_GPA, size, features)
    this.#ring = driverRing(this.#memory, this.#layout)
    this.#ring.setInterrupts(true)
    const Queue = features.packed ? PackedVirtqueue : SplitVirtqueue
    this.#queue = new Queue(this.#memory, this.#layout)
    this.#queue.enableNotifications()
  }

  play(step: Step): void {
    if (step.do === 'add') this.#add(step.readable, step.writable, step.table)
    else if (step.do === 'pop') this.#pop()
    else if (step.do === 'push') this.#push(step.which, step.written)
    else if (step.do === 'takeUsed') this.#takeUsed()
    else if (step.do === 'interrupts') this.#setInterrupts(step.wanted)
    else this.#setNotifications(step.wanted)
  }

  #add(readable: number[], writable: number[], table: boolean): void {
    const parts = (all: number[], side: number) =>
      all.map((length, i) => ({ gpa: BUFFERS_GPA + side * 0x8_0000 + i * 0x2000 + 3, length }))
    const count = readable.length + writable.length
    // A table stays the device's until its buffer is used; there are more of them than buffers.
    const tableGpa = TABLES_GPA + this.#nextTable * 0x100
    this.#nextTable = (this.#nextTable + 1) % 256
    const id = this.#ring.add({
      readable: parts(readable, 0),
      writable: parts(writable, 1),
      ...(table && count > 0 ? { tableGpa } : {}),
    })
    const held = [...this.#available, ...this.#out.map(({ buffer }) => buffer), ...this.#used]
    const slots = table ? 1 : count
    const free = this.#layout.size - held.reduce((sum, each) => sum + each.slots, 0)
    if (count === 0 || slots > free) {
      expect(id).toBeUndefined()
      return
    }
    this.#available.push({ id: id!, readable, writable, slots })
    this.#checkKick(slots)
  }

  #notifications = true
  /** Split rings count buffers, packed ones places. */
  #added = 0
  #asked = 0

  #checkKick(slots: number): void {
    const old = this.#added
    this.#added += this.#layout.packed ? slots : 1
    const wanted = this.#layout.eventIdx
      ? this.#passes(this.#asked, old, this.#added)
      : this.#notifications
    const isOff = this.#layout.packed && !this.#notifications
    expect(this.#ring.needsKick()).toBe(wanted && !isOff)
  }

  /** Whether a place is among those from `old` to `now`; one that is not renewed comes around again. */
  #passes(place: number, old: number, now: number): boolean {
    const period = this.#layout.packed ? 2 * this.#layout.size : 2 ** 16
    return (((place - old) % period) + period) % period < now - old
  }

  #popped = 0

  #setNotifications(wanted: boolean): void {
    if (wanted) {
      expect(this.#queue.enableNotifications()).toBe(this.#available.length > 0)
      this.#asked = this.#popped
    } else {
      this.#queue.disableNotifications()
    }
    this.#notifications = wanted
  }

  #pop(): void {
    const chain = this.#queue.pop()
    const buffer = this.#available.shift()
    if (buffer === undefined) {
      expect(chain).toBeUndefined()
      return
    }
    this.#popped += this.#layout.packed ? buffer.slots : 1
    expect(chain!.id).toBe(buffer.id)
    expect(chain!.readable.map(({ length }) => length)).toEqual(buffer.readable)
    expect(chain!.writable.map(({ length }) => length)).toEqual(buffer.writable)
    this.#out.push({ chain: chain!, buffer })
    expect(this.#queue.inFlight).toBe(this.#out.length)
  }

  #push(which: number, atMost: number): void {
    const waiting = this.#out.filter(({ written }) => written === undefined)
    if (waiting.length === 0) return
    const each = waiting[which % waiting.length]!
    each.written = Math.min(atMost, each.chain.writableLength)
    this.#queue.push(each.chain, each.written)
    const before = this.#shown
    if (this.#layout.inOrder) {
      while (this.#out[0]?.written !== undefined) this.#show(this.#out.shift()!)
    } else {
      this.#out.splice(this.#out.indexOf(each), 1)
      this.#show(each)
    }
    const wanted = this.#layout.eventIdx
      ? this.#passes(this.#event, before, this.#shown)
      : this.#shown > before && this.#wantsInterrupts
    const isOff = this.#layout.packed && !this.#wantsInterrupts
    expect(this.#queue.needsInterrupt()).toBe(wanted && !isOff)
  }

  #show({ buffer, written }: { buffer: Buffer; written?: number }): void {
    const { id, slots } = buffer
    this.#used.push({ id, length: written!, slots })
    this.#shown += this.#layout.packed ? slots : 1
  }

  #takeUsed(): void {
    const used = this.#used.shift()
    expect(this.#ring.takeUsed()).toEqual(used && { id: used.id, length: used.length })
    if (used === undefined) return
    this.#taken += this.#layout.packed ? used.slots : 1
    if (this.#wantsInterrupts) this.#event = this.#taken
  }

  #setInterrupts(wanted: boolean): void {
    this.#ring.setInterrupts(wanted)
    this.#wantsInterrupts = wanted
    this.#event = wanted ? this.#taken : this.#taken - 1
  }
}

const rounds = Number(process.env.NODE_KVM_ROUNDS ?? 60)

describe.each([true, false])('packed %s', (packed) => {
  describe.each([true, false])('event index %s', (eventIdx) => {
    test.each([true, false])('in order %s', (inOrder) => {
      const sizes = packed ? [1, 3, 7, 16] : [1, 2, 8, 16]
      fc.assert(
        fc.property(
          fc.constantFrom(...sizes),
          fc.array(step, { maxLength: 300, size: 'max' }),
          (size, steps) => {
            const game = new Game({ packed, eventIdx, inOrder, indirect: true }, size)
            for (const each of steps) game.play(each)
          },
        ),
        { seed: 1202, numRuns: rounds },
      )
    })
  })
})

test.each([true, false])('many buffers go around, packed %s', (packed) => {
  const memory = new TestMemory(MEMORY)
  const layout = ringLayout(RING_GPA, 4, { packed, eventIdx: true })
  const ring = driverRing(memory, layout)
  const queue = packed ? new PackedVirtqueue(memory, layout) : new SplitVirtqueue(memory, layout)
  const count = Math.min(1_000_000, rounds * 1500)
  for (let i = 0; i < count; i++) {
    const id = ring.add({ writable: [{ gpa: BUFFERS_GPA, length: 8 }] })
    const chain = queue.pop()
    if (chain === undefined) throw new Error(`nothing available at ${i}`)
    queue.push(chain, i % 9)
    const used = ring.takeUsed()
    if (used?.id !== id || used?.length !== i % 9) throw new Error(`wrong at ${i}`)
  }
})
