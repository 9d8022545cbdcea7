// Collects the descriptors of one chain and checks each: both kinds of ring have the same rules.

import type { ChainParts } from './descriptor-chain.js'
import type { MemoryPart } from './device-memory.js'
import type { RamMap } from './ram-map.js'
import { VirtqueueError } from './virtqueue-error.js'

/** Descriptors that a chain may have. Drivers of small queues send indirect ones that are longer. */
export const chainLimit = (queueSize: number): number => Math.max(queueSize, 1024)

const MAX_LENGTH = 2 ** 32

/** The parts of one chain, as they are found. */
export class ChainBuilder {
  readonly readable: MemoryPart[] = []
  readonly writable: MemoryPart[] = []
  readableLength = 0
  writableLength = 0
  readonly #ram: RamMap
  #left: number

  constructor(ram: RamMap, queueSize: number) {
    this.#ram = ram
    this.#left = chainLimit(queueSize)
  }

  /**
   * Adds a descriptor; an empty one counts, but is no part.
   *
   * @throws VirtqueueError for what no driver may do
   */
  add(gpa: number, length: number, isWritable: boolean): void {
    if (this.#left-- === 0) throw new VirtqueueError('a chain without end')
    if (length === 0) return
    if (!this.#ram.has(gpa, length)) {
      throw new VirtqueueError(`a buffer of ${length} bytes at 0x${gpa.toString(16)} is not RAM`)
    }
    if (isWritable) {
      this.writable.push({ gpa, length })
      this.writableLength += length
    } else {
      if (this.writable.length > 0) throw new VirtqueueError('a readable buffer behind a writable')
      this.readable.push({ gpa, length })
      this.readableLength += length
    }
    if (this.readableLength + this.writableLength >= MAX_LENGTH) {
      throw new VirtqueueError('a chain of 4 GiB or more')
    }
  }
  /** What was added. */
  get parts(): Omit<ChainParts, 'id' | 'slots'> {
    const { readable, writable, readableLength, writableLength } = this
    return { readable, writable, readableLength, writableLength }
  }
}
