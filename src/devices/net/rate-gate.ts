// The rate limits of one direction, and the timer that ends a wait for them.

import { TokenBucket } from '../token-bucket.js'
import type { NetRateLimits } from './network-device.js'

/** Lets frames pass as fast as they may. */
export class RateGate {
  readonly #bytes: TokenBucket | undefined
  readonly #frames: TokenBucket | undefined
  readonly #onOpen: () => void
  #timer: NodeJS.Timeout | undefined

  /** @param onOpen called once after {@link isOpen} was false, when frames may pass again */
  constructor({ bytes, frames }: NetRateLimits, onOpen: () => void) {
    this.#bytes = bytes && new TokenBucket(bytes)
    this.#frames = frames && new TokenBucket(frames)
    this.#onOpen = onOpen
  }

  /** Whether a frame may pass now. */
  isOpen(): boolean {
    const delay = Math.max(this.#bytes?.delayMs ?? 0, this.#frames?.delayMs ?? 0)
    if (delay === 0) return true
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      this.#onOpen()
    }, Math.ceil(delay)).unref()
    return false
  }

  /** A frame has passed. */
  passed(size: number): void {
    this.#bytes?.take(size)
    this.#frames?.take(1)
  }

  /** Nothing is called any more. */
  close(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }
}
