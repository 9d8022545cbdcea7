// A queue between driver and device (virtio 1.2 §2.6): what devices see of it, and what both kinds of
// ring share.

import { outOfRange } from '../errors.js'
import { ChainBuilder, chainLimit } from './chain-builder.js'
import { type ChainOwner, type ChainParts, DescriptorChain } from './descriptor-chain.js'
import type { DeviceMemory } from './device-memory.js'
import { RamMap } from './ram-map.js'
import { VirtqueueError } from './virtqueue-error.js'

/** Where the driver has put a queue, and what both sides agreed on. Addresses are guest-physical. */
export interface QueueLayout {
  readonly index: number
  /** Entries; a power of two of a split queue. */
  readonly size: number
  /** Descriptor table, or descriptor ring of a packed queue. */
  readonly descGpa: number
  /** Available ring, or driver event suppression. */
  readonly driverGpa: number
  /** Used ring, or device event suppression. */
  readonly deviceGpa: number
  /** VIRTIO_F_RING_PACKED. */
  readonly packed: boolean
  /** VIRTIO_F_EVENT_IDX. */
  readonly eventIdx: boolean
  /** VIRTIO_F_INDIRECT_DESC. */
  readonly indirect: boolean
  /** VIRTIO_F_IN_ORDER. */
  readonly inOrder: boolean
}

/** A queue as a device served in JavaScript uses it. */
export interface Virtqueue {
  readonly index: number
  /** Entries. */
  readonly size: number
  /** Chains that were popped and not pushed yet. */
  readonly inFlight: number
  /** Entries that none of these takes: what the driver can still make available. */
  readonly freeSlots: number
  /** Whether the driver has reset the device: nothing comes out any more, and what goes in is lost. */
  readonly closed: boolean
  /**
   * Takes the next chain.
   *
   * @throws VirtqueueError for what no driver may do; to be handed to the context's `fail`
   */
  pop(): DescriptorChain | undefined
  /**
   * Gives a chain back, used. Where both sides agreed on VIRTIO_F_IN_ORDER, the driver sees it when all
   * that were popped before it are back.
   *
   * @param written bytes that were written to it, from the first on
   * @throws RangeError `ERR_OUT_OF_RANGE` for more bytes than the chain has, or a chain that is not out
   */
  push(chain: DescriptorChain, written: number): void
  /** Gives several chains back, which the driver then sees all at once: `written` bytes of each. */
  pushAll(chains: readonly DescriptorChain[], written: readonly number[]): void
  /** Whether the driver wants to hear of what was pushed since the last call. */
  needsInterrupt(): boolean
  /** Asks the driver for a notification of what comes. @returns Whether something has come already. */
  enableNotifications(): boolean
  /** Tells the driver that notifications are not needed: the device looks by itself. */
  disableNotifications(): void
}

/** @internal What both kinds of ring have in common. */
export abstract class RingQueue implements Virtqueue, ChainOwner {
  readonly index: number
  readonly size: number
  readonly memory: DeviceMemory
  protected readonly layout: QueueLayout
  protected readonly ram: RamMap
  /** Chains out, and once they are back but not yet shown (in order), how many bytes were written. */
  readonly #out = new Map<DescriptorChain, number | undefined>()
  #slotsOut = 0
  #closed = false

  constructor(memory: DeviceMemory, layout: QueueLayout) {
    this.memory = memory
    this.layout = layout
    this.index = layout.index
    this.size = layout.size
    this.ram = new RamMap(memory.ranges)
  }

  get closed(): boolean {
    return this.#closed
  }

  get inFlight(): number {
    return this.#out.size
  }

  get freeSlots(): number {
    return this.size - this.#slotsOut
  }

  /** The driver takes its memory back. */
  close(): void {
    this.#closed = true
    this.#out.clear()
  }

  pop(): DescriptorChain | undefined {
    if (this.#closed) return undefined
    const parts = this.take()
    if (parts === undefined) return undefined
    this.#slotsOut += parts.slots
    if (this.#slotsOut > this.size) {
      throw new VirtqueueError('more is available than the queue can hold')
    }
    const chain = new DescriptorChain(this, parts)
    this.#out.set(chain, undefined)
    return chain
  }

  push(chain: DescriptorChain, written: number): void {
    if (!chain.isOf(this)) throw outOfRange('the chain is of another queue')
    if (!(Number.isInteger(written) && written >= 0 && written <= chain.writableLength)) {
      throw outOfRange(`a chain with ${chain.writableLength} writable bytes, ${written} written`)
    }
    if (this.#closed) return
    if (!this.#out.has(chain) || this.#out.get(chain) !== undefined) {
      throw outOfRange('the chain was pushed already')
    }
    if (!this.layout.inOrder) {
      this.#show(chain, written)
      return
    }
    this.#out.set(chain, written)
    for (const [first, done] of this.#out) {
      if (done === undefined) return
      this.#show(first, done)
    }
  }

  pushAll(chains: readonly DescriptorChain[], written: readonly number[]): void {
    this.holdUsed()
    try {
      chains.forEach((chain, i) => {
        this.push(chain, written[i]!)
      })
    } finally {
      if (!this.#closed) this.showUsed()
    }
  }

  #show(chain: DescriptorChain, written: number): void {
    this.#out.delete(chain)
    this.#slotsOut -= chain.slots
    this.putUsed(chain, written)
  }

  /** Whether the driver wants to hear of what was pushed since the last call. */
  abstract needsInterrupt(): boolean
  /** Asks the driver for a notification of what comes. @returns Whether something has come already. */
  abstract enableNotifications(): boolean
  /** Tells the driver that notifications are not needed: the device looks by itself. */
  abstract disableNotifications(): void
  /** Reads what is available next. */
  protected abstract take(): ChainParts | undefined
  /** Writes to where the driver finds what is used. */
  protected abstract putUsed(chain: ChainParts, written: number): void
  /** Lets the driver see nothing of what is put, until {@link showUsed}. */
  protected abstract holdUsed(): void
  /** Lets the driver see what was put. */
  protected abstract showUsed(): void

  /** Takes the descriptors of one chain. */
  protected builder(): ChainBuilder {
    return new ChainBuilder(this.ram, this.size)
  }

  /**
   * A part of the ring itself.
   *
   * @throws VirtqueueError where it is not RAM or not aligned as it must be
   */
  protected area(name: string, gpa: number, length: number, alignment: number): Uint8Array {
    const place = `the ${name} at 0x${gpa.toString(16)}`
    if (gpa % alignment !== 0) throw new VirtqueueError(`${place} is not aligned to ${alignment}`)
    try {
      return this.memory.view(gpa, length)
    } catch (cause) {
      throw new VirtqueueError(`${place} is not RAM`, { cause })
    }
  }

  /** An indirect table, checked: words of the table, 4 to a descriptor. */
  protected indirectTable(gpa: number, length: number): Uint32Array {
    const count = length / DESCRIPTOR_SIZE
    if (!this.layout.indirect) throw new VirtqueueError('an indirect table was not agreed on')
    if (!Number.isInteger(count) || count === 0 || count > chainLimit(this.size)) {
      throw new VirtqueueError(`an indirect table of ${length} bytes`)
    }
    if (!this.ram.has(gpa, length)) {
      throw new VirtqueueError(`an indirect table at 0x${gpa.toString(16)} is not RAM`)
    }
    // A copy: it may cross regions and lie at any address.
    const words = new Uint32Array(count * DESCRIPTOR_WORDS)
    this.memory.readInto(gpa, new Uint8Array(words.buffer))
    return words
  }
}

/** Bytes of a descriptor, split or packed. */
export const DESCRIPTOR_SIZE = 16
/** The same in words. */
export const DESCRIPTOR_WORDS = 4

/** Whether `current` has passed `event` since `old`, all modulo 2^16 (virtio 1.2 §2.7.7.1). */
export function passedEvent(event: number, current: number, old: number): boolean {
  return ((current - event - 1) & 0xffff) < ((current - old) & 0xffff)
}
