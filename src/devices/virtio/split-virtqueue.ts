// The split queue (virtio 1.2 §2.7): a table of descriptors, a ring of those that are available, a ring
// of those that are used.

import type { ChainBuilder } from './chain-builder.js'
import type { ChainParts } from './descriptor-chain.js'
import type { DeviceMemory } from './device-memory.js'
import {
  DESCRIPTOR_SIZE,
  DESCRIPTOR_WORDS,
  passedEvent,
  type QueueLayout,
  RingQueue,
} from './virtqueue.js'
import { VirtqueueError } from './virtqueue-error.js'

const DESC = { next: 1, write: 2, indirect: 4 } as const
const AVAIL_NO_INTERRUPT = 1
const USED_NO_NOTIFY = 1

// Elements of 16 bits in the available ring, of 16 and 32 in the used ring.
const FLAGS = 0
const IDX = 1
const AVAIL_RING = 2
const USED_RING = 1

/** A queue whose rings are as in every version of virtio. Indices are read and written atomically. */
export class SplitVirtqueue extends RingQueue {
  readonly #desc: Uint32Array
  readonly #avail: Uint16Array
  readonly #used: Uint16Array
  readonly #usedElements: Uint32Array
  readonly #mask: number
  /** The next entry of the available ring; free-running, as all three, modulo 2^16. */
  #nextAvail = 0
  #nextUsed = 0
  #held = false
  /** Where {@link nextUsed} was when the driver was last thought of. */
  #signaled = 0

  /** @throws VirtqueueError when the rings are not where rings can be */
  constructor(memory: DeviceMemory, layout: QueueLayout) {
    super(memory, layout)
    const { size } = layout
    if (size < 1 || size > 0x8000 || (size & (size - 1)) !== 0) {
      throw new VirtqueueError(`a split queue of ${size} entries`)
    }
    const table = this.area('descriptor table', layout.descGpa, size * DESCRIPTOR_SIZE, 16)
    this.#desc = new Uint32Array(table.buffer, table.byteOffset, size * DESCRIPTOR_WORDS)
    const avail = this.area('available ring', layout.driverGpa, 6 + 2 * size, 2)
    this.#avail = new Uint16Array(avail.buffer, avail.byteOffset, avail.length / 2)
    const used = this.area('used ring', layout.deviceGpa, 6 + 8 * size, 4)
    this.#used = new Uint16Array(used.buffer, used.byteOffset, used.length / 2)
    this.#usedElements = new Uint32Array(used.buffer, used.byteOffset, USED_RING + 2 * size)
    this.#mask = size - 1
  }

  protected take(): ChainParts | undefined {
    // ORDER: the index before the entry that it says is there.
    const waiting = (Atomics.load(this.#avail, IDX) - this.#nextAvail) & 0xffff
    if (waiting === 0) return undefined
    if (waiting > this.size) {
      throw new VirtqueueError(`${waiting} chains available in a queue of ${this.size}`)
    }
    const head = this.#avail[AVAIL_RING + (this.#nextAvail & this.#mask)]!
    const chain = this.builder()
    const slots = this.#collect(chain, head)
    this.#nextAvail = (this.#nextAvail + 1) & 0xffff
    return { id: head, slots, ...chain.parts }
  }

  /** @returns How many entries of the descriptor table it takes. */
  #collect(chain: ChainBuilder, head: number): number {
    let words = this.#desc
    let count = this.size
    let isTable = false
    let index = head
    let slots = 0
    for (;;) {
      if (!isTable) slots++
      if (index >= count) throw new VirtqueueError(`descriptor ${index} of ${count}`)
      const at = index * DESCRIPTOR_WORDS
      const gpa = words[at]! + words[at + 1]! * 2 ** 32
      const length = words[at + 2]!
      const flagsAndNext = words[at + 3]!
      if ((flagsAndNext & DESC.indirect) === 0) {
        chain.add(gpa, length, (flagsAndNext & DESC.write) !== 0)
        if ((flagsAndNext & DESC.next) === 0) return slots
        index = flagsAndNext >>> 16
        continue
      }
      if (isTable) throw new VirtqueueError('an indirect table in an indirect table')
      if ((flagsAndNext & DESC.next) !== 0) {
        throw new VirtqueueError('a descriptor behind an indirect table')
      }
      words = this.indirectTable(gpa, length)
      count = words.length / DESCRIPTOR_WORDS
      isTable = true
      index = 0
    }
  }

  protected putUsed({ id }: ChainParts, written: number): void {
    const at = USED_RING + 2 * (this.#nextUsed & this.#mask)
    this.#usedElements[at] = id
    this.#usedElements[at + 1] = written
    this.#nextUsed = (this.#nextUsed + 1) & 0xffff
    if (!this.#held) this.showUsed()
  }

  protected holdUsed(): void {
    this.#held = true
  }

  protected showUsed(): void {
    this.#held = false
    // ORDER: the entries before the index that says they are there.
    Atomics.store(this.#used, IDX, this.#nextUsed)
  }

  needsInterrupt(): boolean {
    const old = this.#signaled
    this.#signaled = this.#nextUsed
    if (this.closed || old === this.#nextUsed) return false
    // ORDER: the used index, which was stored before, then what the driver asks for.
    if (!this.layout.eventIdx) {
      return (Atomics.load(this.#avail, FLAGS) & AVAIL_NO_INTERRUPT) === 0
    }
    const usedEvent = Atomics.load(this.#avail, AVAIL_RING + this.size)
    return passedEvent(usedEvent, this.#nextUsed, old)
  }

  enableNotifications(): boolean {
    if (this.closed) return false
    // ORDER: the wish, then the look at what came before the driver could know of it.
    if (this.layout.eventIdx) Atomics.store(this.#used, this.#availEvent, this.#nextAvail)
    else Atomics.store(this.#used, FLAGS, 0)
    return Atomics.load(this.#avail, IDX) !== this.#nextAvail
  }

  disableNotifications(): void {
    // With event indices the driver stays silent until the one that was asked for.
    if (!this.closed && !this.layout.eventIdx) Atomics.store(this.#used, FLAGS, USED_NO_NOTIFY)
  }

  /** Behind the last element of the used ring. */
  get #availEvent(): number {
    return 2 + 4 * this.size
  }
}
