// A buffer that the driver has made available: what the device may read, then what it may write.

import { outOfRange } from '../errors.js'
import type { DeviceMemory, MemoryPart } from './device-memory.js'
import { VirtqueueError } from './virtqueue-error.js'

/** The queue that a chain came from, as the chain sees it. */
export interface ChainOwner {
  readonly memory: DeviceMemory
  /** Whether the driver has reset the device, and its memory is no longer the device's. */
  readonly closed: boolean
}

/** What a descriptor chain is made of; all parts lie in RAM. */
export interface ChainParts {
  /** What the driver knows it by. */
  readonly id: number
  /** Places in the queue that it takes. */
  readonly slots: number
  readonly readable: readonly MemoryPart[]
  readonly writable: readonly MemoryPart[]
  readonly readableLength: number
  readonly writableLength: number
}

/**
 * One request of a driver: descriptors that the device reads, then descriptors that it writes (virtio
 * 1.2 §2.6). All of them lie in RAM, but the guest can change what is there at any time: what a
 * decision depends on is to be read once.
 */
export class DescriptorChain implements ChainParts {
  readonly id: number
  readonly slots: number
  readonly readable: readonly MemoryPart[]
  readonly writable: readonly MemoryPart[]
  /** Bytes of all readable parts. Below 2^32, but larger than the RAM where parts overlap. */
  readonly readableLength: number
  /** Bytes of all writable parts. */
  readonly writableLength: number
  readonly #owner: ChainOwner

  /** For queues. */
  constructor(owner: ChainOwner, parts: ChainParts) {
    this.#owner = owner
    this.id = parts.id
    this.slots = parts.slots
    this.readable = parts.readable
    this.writable = parts.writable
    this.readableLength = parts.readableLength
    this.writableLength = parts.writableLength
  }

  /** Whether it is the queue's. */
  isOf(owner: ChainOwner): boolean {
    return this.#owner === owner
  }

  /** Whether the device was reset meanwhile: what is written goes nowhere then. */
  get isStale(): boolean {
    return this.#owner.closed
  }

  /**
   * Copies out what the driver wrote.
   *
   * @param limit The most bytes the device has a use for: the driver chooses how many there are.
   * @throws VirtqueueError when there are more
   */
  readAll(limit: number): Uint8Array {
    if (this.readableLength > limit) {
      throw new VirtqueueError(`a request of ${this.readableLength} bytes, more than ${limit}`)
    }
    return this.read(0, this.readableLength)
  }

  /**
   * Copies out a part of what the driver wrote.
   *
   * @throws VirtqueueError when the driver wrote less
   */
  read(offset: number, length: number): Uint8Array {
    if (offset + length > this.readableLength) {
      throw new VirtqueueError(
        `a request of ${this.readableLength} bytes, not ${offset + length} or more`,
      )
    }
    const bytes = new Uint8Array(length)
    eachPart(this.readable, offset, length, (gpa, from, to) => {
      this.#owner.memory.readInto(gpa, bytes.subarray(from, to))
    })
    return bytes
  }

  /**
   * Copies in what the driver is to read. Nothing happens when the chain is stale.
   *
   * @param offset counts from the first writable byte
   * @throws RangeError `ERR_OUT_OF_RANGE` when there is no room, see {@link writableLength}
   */
  write(bytes: Uint8Array, offset = 0): void {
    if (offset + bytes.length > this.writableLength) {
      const room = this.writableLength - offset
      throw outOfRange(`the driver left room for ${room} bytes, not for ${bytes.length}`)
    }
    if (this.isStale) return
    eachPart(this.writable, offset, bytes.length, (gpa, from, to) => {
      this.#owner.memory.write(gpa, bytes.subarray(from, to))
    })
  }
}

/** Calls `each` for the pieces of a range of the parts, seen as one row of bytes. */
function eachPart(
  parts: readonly MemoryPart[],
  offset: number,
  length: number,
  each: (gpa: number, from: number, to: number) => void,
): void {
  let skip = offset
  let done = 0
  for (const part of parts) {
    if (done === length) return
    if (skip >= part.length) {
      skip -= part.length
      continue
    }
    const count = Math.min(part.length - skip, length - done)
    each(part.gpa + skip, done, done + count)
    done += count
    skip = 0
  }
}
