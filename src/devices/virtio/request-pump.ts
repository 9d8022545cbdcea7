// Serves a queue with a function: each chain goes to it, and back to the driver when it is done.

import type { DescriptorChain } from './descriptor-chain.js'
import type { Virtqueue } from './virtqueue.js'

/** Serves one request. @returns Bytes written to the chain, now or later. */
export type RequestHandler = (chain: DescriptorChain) => number | Promise<number>

/** Where a pump reports. */
export interface PumpOwner {
  interrupt(queueIndex: number): void
  fail(error: unknown): void
}

/** One queue and its handler. As many requests are with the handler at once as the queue has room for. */
export class RequestPump {
  readonly #queue: Virtqueue
  readonly #handle: RequestHandler
  readonly #owner: PumpOwner
  #paused = false
  #isDue = false
  #onIdle: (() => void) | undefined

  constructor(queue: Virtqueue, handle: RequestHandler, owner: PumpOwner) {
    this.#queue = queue
    this.#handle = handle
    this.#owner = owner
  }

  /** Takes what is available; a guest that is faster than that gets its turn after others had theirs. */
  run(): void {
    if (this.#paused || this.#queue.closed) return
    try {
      if (this.#takeRound()) this.#runLater()
    } catch (error) {
      this.#owner.fail(error)
    }
    this.#owner.interrupt(this.#queue.index)
  }

  /** Resolves when no request is with the handler. Requests wait until {@link resume}. */
  async pause(): Promise<void> {
    this.#paused = true
    if (this.#queue.inFlight === 0) return
    await new Promise<void>((resolve) => {
      this.#onIdle = resolve
    })
  }

  /** Ends {@link pause}. */
  resume(): void {
    this.#paused = false
    this.run()
  }

  /** Whoever waits for requests to end waits no longer: the device was reset, or there are none. */
  stop(): void {
    this.#onIdle?.()
    this.#onIdle = undefined
  }

  /** @returns Whether there may be more. */
  #takeRound(): boolean {
    const queue = this.#queue
    queue.disableNotifications()
    for (let i = 0; i < queue.size; i++) {
      const chain = queue.pop()
      if (chain === undefined) {
        if (!queue.enableNotifications()) return false
        queue.disableNotifications()
        continue
      }
      this.#serve(chain)
    }
    return true
  }

  #serve(chain: DescriptorChain): void {
    const written = this.#handle(chain)
    if (typeof written === 'number') {
      this.#queue.push(chain, written)
      return
    }
    Promise.resolve(written)
      .then((bytes) => {
        this.#queue.push(chain, bytes)
        this.#owner.interrupt(this.#queue.index)
      })
      .catch((error) => this.#owner.fail(error))
      .finally(() => this.#checkIdle())
  }

  #checkIdle(): void {
    if (this.#queue.inFlight === 0) this.stop()
  }

  #runLater(): void {
    if (this.#isDue) return
    this.#isDue = true
    setImmediate(() => {
      this.#isDue = false
      this.run()
    })
  }
}
