// How fast a device may be. Disks and network devices share this: one bucket for bytes, one for
// operations, each filled at a rate up to a burst.

import { outOfRange } from './errors.js'

/** A limit of {@link TokenBucket}. */
export interface RateLimit {
  /** Tokens (bytes, frames or requests) that may be spent in a second. */
  readonly perSecond: number
  /** Tokens that may be spent at once after a pause; those of 100 ms unless said. */
  readonly burst?: number
}

/**
 * A token bucket. Whoever finds it filled may take more than there is, so that what is larger than the
 * burst gets through at all; the debt delays what comes next. The rate holds in the long run.
 */
export class TokenBucket {
  readonly #perMs: number
  readonly #burst: number
  readonly #now: () => number
  #tokens: number
  #at: number

  /**
   * @param now a monotonic clock in milliseconds
   * @throws `ERR_OUT_OF_RANGE` for a rate or burst that is not positive and finite
   */
  constructor(limit: RateLimit, now: () => number = () => performance.now()) {
    const { perSecond, burst = Math.max(1, perSecond / 10) } = limit
    for (const [name, value] of Object.entries({ perSecond, burst })) {
      if (!(value > 0 && value < Number.POSITIVE_INFINITY)) {
        throw outOfRange(`the ${name} of a rate limit must be positive and finite: ${value}`)
      }
    }
    this.#perMs = perSecond / 1000
    this.#burst = burst
    this.#now = now
    this.#tokens = burst
    this.#at = now()
  }

  /** How many milliseconds until something may be taken; 0: now. */
  get delayMs(): number {
    const now = this.#now()
    this.#tokens = Math.min(this.#burst, this.#tokens + (now - this.#at) * this.#perMs)
    this.#at = now
    return this.#tokens > 0 ? 0 : -this.#tokens / this.#perMs + 0.01
  }

  /** Takes `count` tokens, after {@link delayMs} was 0. */
  take(count: number): void {
    this.#tokens -= count
  }
}
