// Writes of a guest that nobody waits for: kept in a ring by native code (native/exit_table.h knows
// the same layout), taken out here in batches.

import { binding, type Handle } from '../../binding.js'
import { EventFd } from '../interrupts/event-fd.js'
import { GuestMemory } from '../memory.js'
import { callback, integer, invalidArgType, object, outOfRange } from '../validate.js'

const HEADER = 64
const TAIL = 0
const ARMED = 1
const URGENT_WRITES = 2
const DONE = 3
const ENTRY = 32
// What rings the bell.
const NONE = 0
const ANY = 1
const URGENT = 2
// Flags of an entry.
const IS_PORT = 1
const IS_URGENT = 2
const MAX_CAPACITY = 2 ** 20
/** So long writes that are not urgent are gathered before the event loop drains them: a bell for each would cost more. */
const GATHERING_MS = 2

/** Closes the bells of sinks that were collected. */
const bells = new FinalizationRegistry<EventFd>((bell) => bell.close())

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
  /** Is called when all writes that were there have been handed over, for what is better done once for them. */
  onDrained?: () => void
}

/**
 * Collects writes of a guest without an exit to JavaScript; see {@link Vm.answerPio}. It loses none:
 * a vCPU that finds it full waits until it is drained.
 *
 * It is drained on the event loop of the thread that made it, some milliseconds after a write, or at
 * once after an urgent one (see the gate of {@link NativeAnswer}); before each exit that JavaScript sees
 * of a vCPU on its own thread, when it is full, when such a thread ends, and by {@link drain}. It does
 * not keep the event loop alive.
 */
export class WriteSink {
  readonly #region: Handle
  readonly #capacity: number
  readonly #handler: (write: SunkWrite) => void
  readonly #onDrained: () => void
  readonly #u32: Uint32Array
  readonly #u64: BigUint64Array
  readonly #bell: EventFd
  #next = 0
  /** Whether a timer runs, to drain what is not urgent. */
  #gathers = false
  /** Whether an exception has left the handler: then only {@link drain} goes on. */
  #failed = false
  #drains = false

  /**
   * @param handler Is given each write. An exception it throws leaves the writes behind it in place until
   *   {@link drain} is called; on the event loop it is the application's, as that of any event.
   * @throws KvmError `ENOMEM` when there is no memory for it, `EMFILE` when there are too many files.
   */
  constructor(handler: (write: SunkWrite) => void, options: WriteSinkOptions = {}) {
    this.#handler = callback(handler, 'handler')
    const { capacity = 1024, onDrained = () => {} } = object(options, 'options')
    this.#onDrained = callback(onDrained, 'options.onDrained')
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
    this.#bell = EventFd.create().unref()
    bells.register(this, this.#bell)
    // What listens is held by the event loop, and must not hold the sink.
    const weak = new WeakRef(this)
    this.#bell.onSignal(() => {
      const sink = weak.deref()
      if (sink !== undefined) sink.#onBell()
    })
    this.#arm()
  }

  #arm(): void {
    // ORDER: armed, then the look for writes; who writes does the opposite. One of the two disarms.
    Atomics.store(this.#u32, ARMED, this.#gathers ? URGENT : ANY)
    const waits = this.#gathers ? this.#hasUrgent : this.#hasNext
    if (waits && Atomics.exchange(this.#u32, ARMED, NONE) !== NONE) this.#onBell()
  }

  #onBell(): void {
    if (this.#failed) return
    if (this.#hasUrgent) {
      this.drain()
      // Not now: a guest that writes on and on must not keep the event loop. Never unref'ed: the loop would sleep first.
      setImmediate(() => this.#arm())
      return
    }
    if (!this.#gathers) this.#gather()
    this.#arm()
  }

  #gather(): void {
    this.#gathers = true
    setTimeout(() => {
      this.#gathers = false
      if (this.#failed) return
      this.drain()
      this.#arm()
    }, GATHERING_MS).unref()
  }

  /** @internal What native code writes to. */
  static ringOf(sink: WriteSink): { region: Handle; capacity: number; bell: EventFd } {
    if (#region in sink) {
      return { region: sink.#region, capacity: sink.#capacity, bell: sink.#bell }
    }
    throw invalidArgType('sink', 'an instance of WriteSink', sink)
  }

  /** Index of the next write's entry. */
  get #at(): number {
    return (HEADER + (this.#next % this.#capacity) * ENTRY) / 4
  }

  get #hasNext(): boolean {
    return Atomics.load(this.#u32, this.#at) === (this.#next + 1) >>> 0
  }

  /** Whether an urgent write has not been handed over yet. */
  get #hasUrgent(): boolean {
    return Atomics.load(this.#u32, URGENT_WRITES) !== Atomics.load(this.#u32, DONE)
  }

  /** Hands every write that is there to the handler. Returns how many there were. Within the handler it does nothing. */
  drain(): number {
    if (this.#drains) return 0
    this.#drains = true
    const failed = this.#failed
    this.#failed = true
    try {
      const count = this.#handOver()
      if (count > 0) this.#onDrained()
      this.#failed = false
      if (failed) this.#arm()
      return count
    } finally {
      this.#drains = false
    }
  }

  #handOver(): number {
    let count = 0
    // Those that come meanwhile are for the next time: a guest may write without end.
    const end = Atomics.load(this.#u32, TAIL)
    while (this.#next !== end && this.#hasNext) {
      const at = this.#at
      const data = this.#u64[at / 2 + 2]!
      const flags = this.#u32[at + 7]!
      const write = {
        address: Number(this.#u64[at / 2 + 1]),
        isPort: (flags & IS_PORT) !== 0,
        size: this.#u32[at + 6]!,
        value: Number(data),
        data,
        vcpuId: this.#u32[at + 1]!,
      }
      // ORDER: read before the entry is given back to the vCPUs.
      Atomics.store(this.#u32, at, (this.#next + this.#capacity) >>> 0)
      this.#next = (this.#next + 1) >>> 0
      count++
      try {
        this.#handler(write)
      } finally {
        // ORDER: what the handler made of it before those who wait for that.
        if ((flags & IS_URGENT) !== 0) Atomics.add(this.#u32, DONE, 1)
      }
    }
    return count
  }
}
