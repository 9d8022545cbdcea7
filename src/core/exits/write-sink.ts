// Writes of a guest that nobody waits for: kept in a ring by native code (native/exit_table.h knows
// the same layout), taken out here in batches.

import { binding, type Handle } from '../../binding.js'
import { GuestMemory } from '../memory.js'
import { callback, integer, invalidArgType, object, outOfRange } from '../validate.js'

const HEADER = 64
const ENTRY = 32
const MAX_CAPACITY = 2 ** 20

/** A write of the guest, in the order in which the vCPUs made them. */
export interface SunkWrite {
  /** Guest-physical address, or port. */
  readonly address: number
  /** Whether `address` is a port. */
  readonly isPort: boolean
  /** Bytes written: 1, 2, 4 or 8. */
  readonly size: number
  /** What was written; exact up to 2^53, see {@link data} for all 64 bits. */
  readonly value: number
  /** What was written. */
  readonly data: bigint
  /** The vCPU that wrote. */
  readonly vcpuId: number
}

/** How a {@link WriteSink} is made. */
export interface WriteSinkOptions {
  /** How many writes it holds, a power of two of at least 2. Default 1024. */
  capacity?: number
}

/**
 * Collects writes of a guest without an exit to JavaScript; see {@link Vm.answerPio}. It loses none:
 * a vCPU that finds it full waits until it is drained.
 *
 * It is drained before each exit that JavaScript sees of a vCPU on its own thread, when it is full,
 * when such a thread ends, and by {@link drain}.
 */
export class WriteSink {
  readonly #region: Handle
  readonly #capacity: number
  readonly #handler: (write: SunkWrite) => void
  readonly #u32: Uint32Array
  readonly #u64: BigUint64Array
  #next = 0

  /**
   * @param handler Is given each write. An exception it throws leaves the writes behind it in place.
   * @throws KvmError `ENOMEM` or `EMFILE` when there is no memory for it.
   */
  constructor(handler: (write: SunkWrite) => void, options: WriteSinkOptions = {}) {
    this.#handler = callback(handler, 'handler')
    const { capacity = 1024 } = object(options, 'options')
    integer(capacity, 'options.capacity', 2, MAX_CAPACITY)
    if (capacity & (capacity - 1)) {
      throw outOfRange('options.capacity', 'a power of two', capacity)
    }
    this.#capacity = capacity
    const size = Math.ceil((HEADER + capacity * ENTRY) / 4096) * 4096
    const region = GuestMemory.create(size).regions[0]!.handle
    this.#region = region
    const buffer = binding().regionBuffer(region, 0, size, 0)
    this.#u32 = new Uint32Array(buffer)
    this.#u64 = new BigUint64Array(buffer)
    for (let i = 0; i < capacity; i++) this.#u32[(HEADER + i * ENTRY) / 4] = i
  }

  /** @internal What native code writes to. */
  static ringOf(sink: WriteSink): { region: Handle; capacity: number } {
    if (#region in sink) return { region: sink.#region, capacity: sink.#capacity }
    throw invalidArgType('sink', 'an instance of WriteSink', sink)
  }

  /** Hands every write that is there to the handler. Returns how many there were. */
  drain(): number {
    let count = 0
    for (;;) {
      const at = (HEADER + (this.#next % this.#capacity) * ENTRY) / 4
      if (Atomics.load(this.#u32, at) !== (this.#next + 1) >>> 0) return count
      const data = this.#u64[at / 2 + 2]!
      const write = {
        address: Number(this.#u64[at / 2 + 1]),
        isPort: this.#u32[at + 7] !== 0,
        size: this.#u32[at + 6]!,
        value: Number(data),
        data,
        vcpuId: this.#u32[at + 1]!,
      }
      // ORDER: read before the entry is given back to the vCPUs.
      Atomics.store(this.#u32, at, (this.#next + this.#capacity) >>> 0)
      this.#next = (this.#next + 1) >>> 0
      count++
      this.#handler(write)
    }
  }
}
