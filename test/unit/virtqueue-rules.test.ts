// What no driver may do with a queue, rule by rule, and what no device may.

import { describe, expect, test } from 'vitest'
import {
  type DeviceMemory,
  PackedVirtqueue,
  type QueueLayout,
  SplitVirtqueue,
  VirtqueueError,
} from '../../src/devices/index.js'
import { TestMemory } from '../helpers/device-memory.js'
import { driverRing, ringLayout } from '../helpers/virtio-rings.js'

const SIZE = 4
const RING_GPA = 0x1000
const TABLE_GPA = 0x8000
const BUFFER_GPA = 0x9000
const MEMORY = 0x1_0000
const NEXT = 1
const WRITE = 2
const INDIRECT = 4
const AVAIL = 0x80
const USED = 0x8000

/** Address, length, flags; the next one is the one behind it. */
type Descriptor = readonly [gpa: number | bigint, length: number, flags: number]

interface Bench {
  readonly memory: DeviceMemory
  readonly layout: QueueLayout
  readonly queue: SplitVirtqueue | PackedVirtqueue
}

function create(packed: boolean, features: Partial<QueueLayout> = {}): Bench {
  const memory = new TestMemory(MEMORY)
  const layout = ringLayout(RING_GPA, SIZE, { packed, ...features })
  driverRing(memory, layout)
  const queue = packed ? new PackedVirtqueue(memory, layout) : new SplitVirtqueue(memory, layout)
  return { memory, layout, queue }
}

function writeTable({ memory }: Bench, gpa: number, all: readonly Descriptor[], extra = 0): void {
  all.forEach(([address, length, flags], i) => {
    memory.writeU64(gpa + i * 16, BigInt(address))
    memory.writeU32(gpa + i * 16 + 8, length)
    memory.writeU16(gpa + i * 16 + 12, flags | extra)
    memory.writeU16(gpa + i * 16 + 14, (i + 1) % SIZE)
  })
}

/** Makes descriptors from 0 on available as one chain. */
function offer(bench: Bench, all: readonly Descriptor[]): void {
  const { memory, layout } = bench
  writeTable(bench, layout.descGpa, all)
  if (layout.packed) {
    // The flags are where a split one has its link, and the id where that has its flags.
    all.forEach(([, , flags], i) => {
      memory.writeU16(layout.descGpa + i * 16 + 12, 0)
      memory.writeU16(layout.descGpa + i * 16 + 14, flags | AVAIL)
    })
  } else {
    memory.writeU16(layout.driverGpa + 4, 0)
    memory.writeU16(layout.driverGpa + 2, 1)
  }
}

/** An indirect table, whose flags are at the other place in a packed queue. */
function table(bench: Bench, all: readonly Descriptor[]): Descriptor {
  writeTable(bench, TABLE_GPA, all)
  if (bench.layout.packed) {
    all.forEach(([, , flags], i) => {
      bench.memory.writeU16(TABLE_GPA + i * 16 + 14, flags)
    })
  }
  return [TABLE_GPA, all.length * 16, INDIRECT]
}

const buffer = (flags: number): Descriptor => [BUFFER_GPA, 16, flags]

describe.each([
  ['split', false],
  ['packed', true],
])('a %s queue refuses', (_, packed) => {
  test.each<[string, string, readonly Descriptor[]]>([
    ['a buffer beyond RAM', 'is not RAM', [[MEMORY - 8, 16, 0]]],
    ['a buffer that wraps around', 'is not RAM', [[2n ** 64n - 8n, 16, 0]]],
    ['a buffer at 2^53 and more', 'is not RAM', [[2n ** 53n + 1n, 16, 0]]],
    ['a readable one behind a writable', 'behind a writable', [buffer(WRITE | NEXT), buffer(0)]],
    ['something behind a table', 'behind an indirect', [[TABLE_GPA, 16, INDIRECT | NEXT]]],
    ['an empty table', 'an indirect table of 0', [[TABLE_GPA, 0, INDIRECT]]],
    ['part of a table', 'table of 24', [[TABLE_GPA, 24, INDIRECT]]],
    ['a huge table', 'table of', [[0, 0xffff_fff0, INDIRECT]]],
    ['a table beyond RAM', 'is not RAM', [[MEMORY - 8, 16, INDIRECT]]],
    [
      'a chain without end',
      packed ? 'longer than the ring' : 'without end',
      new Array(SIZE).fill([BUFFER_GPA, 16, NEXT]),
    ],
  ])('%s', (_, message, descriptors) => {
    const bench = create(packed)
    offer(bench, descriptors)
    expect(() => bench.queue.pop()).toThrow(message)
  })

  test('4 GiB in one chain', () => {
    const bench = create(packed)
    const huge = new TestMemory(MEMORY)
    // RAM as large as it says, in which only the ring is looked at.
    Object.defineProperty(huge, 'ranges', { value: [{ gpa: 0, size: 2 ** 40 }] })
    const Queue = packed ? PackedVirtqueue : SplitVirtqueue
    const queue = new Queue(huge, bench.layout)
    offer({ ...bench, memory: huge }, [
      [0, 0xffff_ffff, NEXT],
      [0, 1, 0],
    ])
    expect(() => queue.pop()).toThrow('4 GiB or more')
  })

  test('a table that nobody agreed on', () => {
    const bench = create(packed, { indirect: false })
    offer(bench, [table(bench, [buffer(0)])])
    expect(() => bench.queue.pop()).toThrow('not agreed on')
  })

  test('a table in a table, itself even', () => {
    const bench = create(packed)
    offer(bench, [table(bench, [[TABLE_GPA, 16, INDIRECT]])])
    expect(() => bench.queue.pop()).toThrow('in an indirect table')
  })

  test('more chains than it has entries', () => {
    const bench = create(packed)
    const { memory, layout, queue } = bench
    const all = new Array(SIZE).fill(buffer(WRITE))
    offer(bench, all)
    memory.writeU16(layout.driverGpa + 2, packed ? 0 : SIZE)
    for (let i = 0; i < SIZE; i++) expect(queue.pop()).toBeDefined()
    if (packed) {
      for (let i = 0; i < SIZE; i++) memory.writeU16(layout.descGpa + i * 16 + 14, USED)
    } else {
      memory.writeU16(layout.driverGpa + 2, SIZE + 1)
    }
    expect(() => queue.pop()).toThrow('more is available than the queue can hold')
  })

  test.each([
    ['descGpa', 8, 'not aligned to 16'],
    ['driverGpa', 1, 'not aligned'],
    ['deviceGpa', 2, 'not aligned to 4'],
    ['descGpa', MEMORY, 'is not RAM'],
    ['driverGpa', MEMORY, 'is not RAM'],
    ['deviceGpa', MEMORY, 'is not RAM'],
  ] as const)('to have its %s moved by %i', (name, by, message) => {
    const { layout } = create(packed)
    const moved = { ...layout, [name]: layout[name] + by }
    const Queue = packed ? PackedVirtqueue : SplitVirtqueue
    expect(() => new Queue(new TestMemory(MEMORY), moved)).toThrow(message)
  })
})

describe('a split queue refuses', () => {
  test.each([0, 3, 0x1_0000])('a size of %i', (size) => {
    const layout = { ...ringLayout(RING_GPA, SIZE), size }
    expect(() => new SplitVirtqueue(new TestMemory(MEMORY), layout)).toThrow('entries')
  })

  test('an index that is too far ahead', () => {
    const { memory, layout, queue } = create(false)
    memory.writeU16(layout.driverGpa + 2, SIZE + 1)
    expect(() => queue.pop()).toThrow('5 chains available in a queue of 4')
  })

  test.each(['head', 'next'])('a descriptor that does not exist: %s', (where) => {
    const bench = create(false)
    const { memory, layout, queue } = bench
    offer(bench, [buffer(NEXT), buffer(0)])
    if (where === 'head') memory.writeU16(layout.driverGpa + 4, SIZE)
    else memory.writeU16(layout.descGpa + 14, 0xffff)
    expect(() => queue.pop()).toThrow(/descriptor (4|65535) of 4/)
  })
})

describe.each([false, true])('a device, packed %s', (packed) => {
  const popped = () => {
    const bench = create(packed)
    offer(bench, [buffer(NEXT), buffer(WRITE)])
    return { ...bench, chain: bench.queue.pop()! }
  }

  test('cannot say that it wrote more than there was room for, nor push twice', () => {
    const { queue, chain } = popped()
    for (const written of [17, -1, 1.5, Number.NaN]) {
      expect(() => queue.push(chain, written)).toThrow('16 writable bytes')
    }
    queue.push(chain, 16)
    expect(() => queue.push(chain, 16)).toThrow('pushed already')
    expect(() => popped().queue.push(chain, 0)).toThrow('of another queue')
  })

  test('cannot write beyond the chain, nor read more than the driver wrote', () => {
    const { chain } = popped()
    expect(() => chain.write(new Uint8Array(17))).toThrow('left room for 16 bytes')
    expect(() => chain.write(new Uint8Array(1), 16)).toThrow('left room for 0 bytes')
    expect(() => chain.read(8, 9)).toThrow(VirtqueueError)
    expect(() => chain.readAll(15)).toThrow('more than 15')
    expect(chain.readAll(16)).toHaveLength(16)
  })

  test('is cut off by a reset', () => {
    const { memory, queue, chain } = popped()
    const before = memory.read(0, MEMORY)
    queue.close()
    expect(chain.isStale).toBe(true)
    chain.write(Uint8Array.of(1, 2, 3))
    queue.push(chain, 3)
    expect(queue.pop()).toBeUndefined()
    expect(queue.enableNotifications()).toBe(false)
    queue.disableNotifications()
    expect(queue.needsInterrupt()).toBe(false)
    expect(Buffer.compare(before, memory.read(0, MEMORY))).toBe(0)
  })

  test('sees empty descriptors not at all', () => {
    const bench = create(packed)
    offer(bench, [[0xffff_ffff, 0, NEXT], buffer(NEXT), [0, 0, WRITE]])
    const chain = bench.queue.pop()!
    expect(chain.readable).toEqual([{ gpa: BUFFER_GPA, length: 16 }])
    expect(chain.writable).toEqual([])
  })
})
