// An eventfd on this thread's event loop: one handler, or one iterator, that takes its counts.

import type { Binding, Handle } from '../../binding.js'
import { AbortError, KvmError, kvmError } from '../errors.js'

/** The event loop's side of an eventfd. */
export class EventWatch {
  readonly #native: Binding
  readonly #file: Handle
  readonly #handler: (count: number) => void
  readonly #onStop: (() => void) | undefined
  #number: number

  constructor(
    native: Binding,
    file: Handle,
    ref: boolean,
    handler: (count: number) => void,
    onStop?: () => void,
  ) {
    this.#native = native
    this.#file = file
    this.#handler = handler
    this.#onStop = onStop
    this.#number = this.#start(ref)
  }

  #start(ref: boolean): number {
    const number = this.#native.watchEventFd(this.#file, (count) => {
      this.#handler(count)
    })
    if (number < 0) throw kvmError(number, { syscall: 'epoll_ctl' })
    if (!ref) this.#native.refEventFd(number, 0)
    return number
  }

  ref(on: boolean): void {
    this.#native.refEventFd(this.#number, on ? 1 : 0)
  }

  stop(): void {
    if (this.#number === 0) return
    this.#native.unwatchEventFd(this.#number)
    this.#number = 0
    this.#onStop?.()
  }
}

/** What {@link EventFd.signals} gives, made from a way to begin watching. */
export class SignalIterator implements AsyncIterableIterator<number> {
  readonly #signal: AbortSignal | undefined
  readonly #release: () => void
  #taken = 0
  #ended = false
  #waiting: { resolve: (r: IteratorResult<number>) => void; reject: (e: unknown) => void }[] = []

  constructor(
    watch: (handler: (count: number) => void, onStop: () => void) => void,
    release: () => void,
    signal: AbortSignal | undefined,
  ) {
    this.#signal = signal
    this.#release = release
    watch(
      (count) => this.#onCount(count),
      () => this.#end(),
    )
    signal?.addEventListener('abort', this.#abort, { once: true })
  }

  next(): Promise<IteratorResult<number>> {
    if (this.#signal?.aborted) return Promise.reject(new AbortError(this.#signal))
    if (this.#taken > 0) {
      const value = this.#taken
      this.#taken = 0
      return Promise.resolve({ value, done: false })
    }
    if (this.#ended) return Promise.resolve({ value: undefined, done: true })
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }))
  }

  return(): Promise<IteratorResult<number>> {
    this.#release()
    return Promise.resolve({ value: undefined, done: true })
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  #onCount(count: number): void {
    const first = this.#waiting.shift()
    if (first === undefined) this.#taken += count
    else first.resolve({ value: count, done: false })
  }

  readonly #abort = (): void => {
    const waiting = this.#waiting.splice(0)
    this.#release()
    for (const { reject } of waiting) reject(new AbortError(this.#signal!))
  }

  #end(): void {
    if (this.#ended) return
    this.#ended = true
    this.#signal?.removeEventListener('abort', this.#abort)
    for (const { resolve } of this.#waiting.splice(0)) resolve({ value: undefined, done: true })
  }
}

/** For a second reader: each count goes to one only. */
export function watchedAlready(): KvmError {
  return new KvmError('ERR_KVM_BUSY', undefined, 'the eventfd is listened to already', {
    reason: 'a count goes to one handler or iterator only: end that one first',
  })
}
