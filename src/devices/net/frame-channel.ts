// A network in JavaScript: the frames that a guest sends as an async iterator, and a method that sends
// it frames.

import type { NetBackend, NetPort } from './net-backend.js'

/** Options of {@link FrameChannel}. */
export interface FrameChannelOptions {
  /** Frames kept in each direction for a side that is slow; 256 unless said. */
  readonly capacity?: number
}

/** {@link FrameChannel.send} could not take a frame. */
export class FrameChannelError extends Error {
  override readonly name = 'FrameChannelError'
  readonly code: 'ERR_KVM_BUSY' | 'ERR_KVM_CLOSED'

  constructor(code: 'ERR_KVM_BUSY' | 'ERR_KVM_CLOSED', message: string) {
    super(message)
    this.code = code
  }
}

interface Outgoing {
  readonly frame: Uint8Array
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

/**
 * A back end whose other end is a program:
 *
 * ```ts
 * const channel = new FrameChannel()
 * for await (const frame of channel) await channel.send(answerTo(frame))
 * ```
 *
 * A program that does not take frames stops the guest's transmissions when `capacity` of them wait, and
 * nothing is lost.
 */
export class FrameChannel implements NetBackend, AsyncIterable<Uint8Array> {
  readonly #capacity: number
  readonly #incoming: Uint8Array[] = []
  readonly #outgoing: Outgoing[] = []
  readonly #readers: ((result: IteratorResult<Uint8Array, undefined>) => void)[] = []
  #port: NetPort | undefined
  #refused = false
  #closed = false

  constructor({ capacity = 256 }: FrameChannelOptions = {}) {
    this.#capacity = Math.max(1, capacity)
  }

  /** For the device. */
  connect(port: NetPort): void {
    this.#port = port
    this.#deliver()
  }

  /** For the device. */
  transmit(frame: Uint8Array): boolean {
    if (this.#closed) return true
    const reader = this.#readers.shift()
    if (reader !== undefined) {
      reader({ done: false, value: frame })
      return true
    }
    this.#refused = this.#incoming.length >= this.#capacity
    if (!this.#refused) this.#incoming.push(frame)
    return !this.#refused
  }

  /** For the device. */
  resume(): void {
    this.#deliver()
  }

  /**
   * Sends the guest a frame. Resolves when the guest has got it, which for a guest without a driver may
   * be never.
   *
   * @throws FrameChannelError `ERR_KVM_BUSY` when `capacity` frames wait already; `ERR_KVM_CLOSED`
   */
  send(frame: Uint8Array): Promise<void> {
    if (this.#closed) return Promise.reject(closedError())
    if (this.#outgoing.length >= this.#capacity) {
      const text = `the guest has not taken ${this.#capacity} frames; wait for one before the next`
      return Promise.reject(new FrameChannelError('ERR_KVM_BUSY', text))
    }
    return new Promise((resolve, reject) => {
      this.#outgoing.push({ frame, resolve, reject })
      this.#deliver()
    })
  }

  /** What the guest sees of the cable. */
  setLink(up: boolean): void {
    this.#port?.setLink(up)
  }

  /** Ends the iteration; frames that were not taken are gone. Idempotent. */
  close(): void {
    this.#closed = true
    this.#incoming.length = 0
    for (const reader of this.#readers.splice(0)) reader({ done: true, value: undefined })
    for (const { reject } of this.#outgoing.splice(0)) reject(closedError())
  }

  /** The frames of the guest, until the channel is closed. */
  [Symbol.asyncIterator](): AsyncIterator<Uint8Array, undefined> {
    return { next: () => this.#next() }
  }

  #next(): Promise<IteratorResult<Uint8Array, undefined>> {
    const value = this.#incoming.shift()
    if (value === undefined) {
      if (this.#closed) return Promise.resolve({ done: true, value: undefined })
      return new Promise((resolve) => this.#readers.push(resolve))
    }
    if (this.#refused) {
      this.#refused = false
      this.#port?.resume()
    }
    return Promise.resolve({ done: false, value })
  }

  #deliver(): void {
    if (this.#port === undefined) return
    while (this.#outgoing.length > 0 && this.#port.receive(this.#outgoing[0]!.frame)) {
      this.#outgoing.shift()!.resolve()
    }
  }
}

const closedError = () => new FrameChannelError('ERR_KVM_CLOSED', 'the channel is closed')
