// The packed queue (virtio 1.2 §2.8): one ring of descriptors that both sides write. Two bits of each tell
// whose it is, by how often the writer has been around.

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

const DESC = { next: 1, write: 2, indirect: 4, avail: 1 << 7, used: 1 << 15 } as const
/** Values of the flags in both event suppression areas. */
const EVENT = { enable: 0, disable: 1, desc: 2 } as const

// Elements of 16 bits: of a descriptor, and of an event suppression area.
const DESC_HALVES = 8
const ID = 6
const DESC_FLAGS = 7
const OFF_WRAP = 0
const EVENT_FLAGS = 1
const WRAP = 0x8000

/** A place in the ring, and whether the way there was an odd round. */
class RingPosition {
  offset = 0
  wrap = true

  advance(count: number, size: number): void {
    this.offset += count
    if (this.offset < size) return
    this.offset -= size
    this.wrap = !this.wrap
  }

  /** As drivers and devices tell it each other. */
  get encoded(): number {
    return this.offset | (this.wrap ? WRAP : 0)
  }
}

/** A queue of VIRTIO_F_RING_PACKED. */
export class PackedVirtqueue extends RingQueue {
  readonly #words: Uint32Array
  readonly #halves: Uint16Array
  readonly #driverEvent: Uint16Array
  readonly #deviceEvent: Uint16Array
  readonly #available = new RingPosition()
  readonly #used = new RingPosition()
  /** Places used since the driver was last thought of. */
  #unsignaled = 0
  /** The first descriptor that is put next, or was put, and is not shown yet. */
  #held: 'next' | { at: number; flags: number } | undefined

  /** @throws VirtqueueError when the ring is not where a ring can be */
  constructor(memory: DeviceMemory, layout: QueueLayout) {
    super(memory, layout)
    const { size } = layout
    if (size < 1 || size > 0x8000) throw new VirtqueueError(`a packed queue of ${size} entries`)
    const ring = this.area('descriptor ring', layout.descGpa, size * DESCRIPTOR_SIZE, 16)
    this.#words = new Uint32Array(ring.buffer, ring.byteOffset, size * DESCRIPTOR_WORDS)
    this.#halves = new Uint16Array(ring.buffer, ring.byteOffset, size * DESC_HALVES)
    const driver = this.area('driver event suppression', layout.driverGpa, 4, 4)
    this.#driverEvent = new Uint16Array(driver.buffer, driver.byteOffset, 2)
    const device = this.area('device event suppression', layout.deviceGpa, 4, 4)
    this.#deviceEvent = new Uint16Array(device.buffer, device.byteOffset, 2)
  }

  protected take(): ChainParts | undefined {
    if (!this.#isAvailable) return undefined
    const chain = this.builder()
    const { id, slots } = this.#collect(chain)
    this.#available.advance(slots, this.size)
    return { id, slots, ...chain.parts }
  }

  get #isAvailable(): boolean {
    const { offset, wrap } = this.#available
    // ORDER: the flags before all else of the descriptor.
    const flags = Atomics.load(this.#halves, offset * DESC_HALVES + DESC_FLAGS)
    return ((flags & DESC.avail) !== 0) === wrap && ((flags & DESC.used) !== 0) !== wrap
  }

  #collect(chain: ChainBuilder): { id: number; slots: number } {
    const words = this.#words
    let index = this.#available.offset
    for (let slots = 1; slots <= this.size; slots++) {
      const at = index * DESCRIPTOR_WORDS
      const gpa = words[at]! + words[at + 1]! * 2 ** 32
      const length = words[at + 2]!
      const idAndFlags = words[at + 3]!
      const flags = idAndFlags >>> 16
      const isLast = (flags & DESC.next) === 0
      if ((flags & DESC.indirect) !== 0) {
        if (!isLast) throw new VirtqueueError('a descriptor behind an indirect table')
        this.#collectTable(chain, gpa, length)
      } else {
        chain.add(gpa, length, (flags & DESC.write) !== 0)
      }
      if (isLast) return { id: idAndFlags & 0xffff, slots }
      index = index + 1 === this.size ? 0 : index + 1
    }
    throw new VirtqueueError('a chain longer than the ring')
  }

  /** All entries of a table belong to it, whatever their other flags say. */
  #collectTable(chain: ChainBuilder, tableGpa: number, tableLength: number): void {
    const words = this.indirectTable(tableGpa, tableLength)
    for (let at = 0; at < words.length; at += DESCRIPTOR_WORDS) {
      const flags = words[at + 3]! >>> 16
      if ((flags & DESC.indirect) !== 0) {
        throw new VirtqueueError('an indirect table in an indirect table')
      }
      chain.add(words[at]! + words[at + 1]! * 2 ** 32, words[at + 2]!, (flags & DESC.write) !== 0)
    }
  }

  protected putUsed({ id, slots }: ChainParts, written: number): void {
    const { offset, wrap } = this.#used
    const at = offset * DESC_HALVES
    this.#words[offset * DESCRIPTOR_WORDS + 2] = written
    this.#halves[at + ID] = id
    const round = wrap ? DESC.avail | DESC.used : 0
    const flags = round | (written > 0 ? DESC.write : 0)
    // The driver goes through the ring in order: without the first it sees none.
    if (this.#held === 'next') this.#held = { at: at + DESC_FLAGS, flags }
    // ORDER: the flags, which give the descriptor to the driver, last.
    else Atomics.store(this.#halves, at + DESC_FLAGS, flags)
    this.#used.advance(slots, this.size)
    this.#unsignaled += slots
  }

  protected holdUsed(): void {
    this.#held = 'next'
  }

  protected showUsed(): void {
    const held = this.#held
    this.#held = undefined
    if (typeof held === 'object') Atomics.store(this.#halves, held.at, held.flags)
  }

  needsInterrupt(): boolean {
    const count = this.#unsignaled
    this.#unsignaled = 0
    if (this.closed || count === 0) return false
    // ORDER: the flags of what is used were stored before; then what the driver asks for.
    const flags = Atomics.load(this.#driverEvent, EVENT_FLAGS) & 3
    if (flags !== EVENT.desc || !this.layout.eventIdx) return flags !== EVENT.disable
    const event = Atomics.load(this.#driverEvent, OFF_WRAP)
    const { offset, wrap } = this.#used
    const isOtherRound = ((event & WRAP) !== 0) !== wrap
    const place = (event & ~WRAP) - (isOtherRound ? this.size : 0)
    return count >= this.size || passedEvent(place, offset, offset - count)
  }

  enableNotifications(): boolean {
    if (this.closed) return false
    // ORDER: where, then that; and then the look at what came before the driver could know of it.
    if (this.layout.eventIdx) {
      Atomics.store(this.#deviceEvent, OFF_WRAP, this.#available.encoded)
      Atomics.store(this.#deviceEvent, EVENT_FLAGS, EVENT.desc)
    } else {
      Atomics.store(this.#deviceEvent, EVENT_FLAGS, EVENT.enable)
    }
    return this.#isAvailable
  }

  disableNotifications(): void {
    if (!this.closed) Atomics.store(this.#deviceEvent, EVENT_FLAGS, EVENT.disable)
  }
}
