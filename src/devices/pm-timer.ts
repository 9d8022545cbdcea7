// The ACPI power-management timer: one free-running counter that guests read to calibrate their
// other clocks.

import type { BusDevice } from './bus-device.js'
import { outOfRange } from './errors.js'

/** Ticks per second of every power-management timer (ACPI 6.5 §4.8.2.1). */
export const PM_TIMER_HZ = 3_579_545

/** Options of {@link PmTimer}. */
export interface PmTimerOptions {
  /** Width of the counter; default 32. The tables must say the same. */
  readonly bits?: 24 | 32
  /** Nanoseconds of a clock that never goes back; default `process.hrtime.bigint`. */
  readonly clockNs?: () => bigint
  /** What that clock says when the counter is 0; now, unless said. */
  readonly startNs?: bigint
}

const HZ = BigInt(PM_TIMER_HZ)
const NS_PER_SECOND = 1_000_000_000n
const NS_PER_MS = 1_000_000n

/** Counts up, from 0 at its creation; read-only, four ports, and resets do not touch it. */
export class PmTimer implements BusDevice {
  readonly name = 'pm-timer'
  readonly #bits: 24 | 32
  readonly #halfPeriod: bigint
  readonly #clockNs: () => bigint
  readonly #startNs: bigint

  /** @throws RangeError `ERR_OUT_OF_RANGE` for a width other than 24 and 32 */
  constructor(options: PmTimerOptions = {}) {
    const { bits = 32, clockNs = process.hrtime.bigint } = options
    if (bits !== 24 && bits !== 32) throw outOfRange(`a PM timer has 24 or 32 bits, not ${bits}`)
    this.#bits = bits
    this.#halfPeriod = 1n << BigInt(bits - 1)
    this.#clockNs = clockNs
    this.#startNs = options.startNs ?? clockNs()
  }

  /** The counter, as the guest reads it. */
  get count(): number {
    return Number(BigInt.asUintN(this.#bits, this.#ticks))
  }

  /** How often the highest bit has changed so far; each change is a timer event (TMR_STS). */
  get carries(): bigint {
    return this.#ticks / this.#halfPeriod
  }

  /** Whole milliseconds, rounded up, until the highest bit changes next. */
  get msToCarry(): number {
    const ticks = this.#halfPeriod - (this.#ticks % this.#halfPeriod)
    return Number((ticks * NS_PER_SECOND) / HZ / NS_PER_MS) + 1
  }

  /** What the clock says when {@link carries} becomes `number`. */
  carryNs(number: bigint): bigint {
    return this.#startNs + (number * this.#halfPeriod * NS_PER_SECOND + HZ - 1n) / HZ
  }

  read(offset: number): number {
    return this.count >>> (8 * offset)
  }

  write(): void {}

  get #ticks(): bigint {
    return ((this.#clockNs() - this.#startNs) * HZ) / NS_PER_SECOND
  }
}
