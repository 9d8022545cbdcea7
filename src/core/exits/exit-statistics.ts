// How often a vCPU exits and where its time goes, read from memory that native code counts in
// (native/exit_meter.h).

import { type ExitType, exitTypeOf } from './exits.js'

const REASONS = 64
const FIRST = 8
const TIMES = 1
const TRACE = 2
const OFF = 4

/** What is known of a vCPU's exits of one type. */
export interface ExitCount {
  readonly type: ExitType
  readonly count: number
  /** How many of them the VM's exit table has answered, without JavaScript. */
  readonly answered: number
  /** Time in KVM_RUN that ended in such an exit; 0 unless {@link ExitStatistics.timed}. */
  readonly guestNs: number
  /** Time from such an exit to the next entry: its handlers; 0 unless {@link ExitStatistics.timed}. */
  readonly handlerNs: number
}

/** A vCPU's exits since it was made. Reading them disturbs nobody, wherever the vCPU runs. */
export class ExitStatistics {
  readonly #u32: Uint32Array
  readonly #u64: BigUint64Array
  readonly #tscRate: () => number

  /** @internal */
  constructor(buffer: ArrayBuffer, tscRate: () => number) {
    this.#u32 = new Uint32Array(buffer)
    this.#u64 = new BigUint64Array(buffer)
    this.#tscRate = tscRate
  }

  /** Whether times are taken: two reads of the TSC at each exit. Off at first; counting is free. */
  get timed(): boolean {
    return (this.#u32[0]! & TIMES) !== 0
  }
  set timed(on: boolean) {
    this.#setFlag(TIMES, on)
  }

  /** Whether exits are counted. On at first: it costs a nanosecond an exit. */
  get counting(): boolean {
    return (this.#u32[0]! & OFF) === 0
  }
  set counting(on: boolean) {
    this.#setFlag(OFF, !on)
  }

  /** @internal */
  setTracing(on: boolean): void {
    this.#setFlag(TRACE, on)
  }

  #setFlag(flag: number, on: boolean): void {
    if (on) Atomics.or(this.#u32, 0, flag)
    else Atomics.and(this.#u32, 0, ~flag)
  }

  /** All exits, of whatever type. */
  get total(): number {
    let total = 0
    for (let reason = 0; reason < REASONS; reason++) total += this.#read(0, reason)
    return total
  }

  /** One entry for each type that there was, most frequent first. */
  get types(): ExitCount[] {
    const toNs = 1e9 / this.#tscRate()
    const found: ExitCount[] = []
    for (let reason = 0; reason < REASONS; reason++) {
      const count = this.#read(0, reason)
      if (count === 0) continue
      const answered = this.#read(1, reason)
      const guestNs = this.#read(2, reason) * toNs
      const handlerNs = this.#read(3, reason) * toNs
      found.push({ type: exitTypeOf(reason), count, answered, guestNs, handlerNs })
    }
    return found.sort((a, b) => b.count - a.count)
  }

  #read(table: number, reason: number): number {
    return Number(this.#u64[FIRST + table * REASONS + reason]!)
  }
}
