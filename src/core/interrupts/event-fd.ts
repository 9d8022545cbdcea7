// eventfd(2): a counter in the kernel that threads, KVM and other drivers raise and consume.

import { binding, KIND_FILE, type PlainFileHandle } from '../../binding.js'
import { AbortError, closedError, kvmError } from '../errors.js'
import { PlainFile } from '../plain-file.js'
import { callback, instance, integer, object, uint32 } from '../validate.js'
import { EventRelay } from './event-relay.js'
import { EventWatch, SignalIterator, watchedAlready } from './event-watch.js'

const EAGAIN = -11

/** How an {@link EventFd} starts. */
export interface EventFdOptions {
  /** Its count at first. Default 0. */
  initial?: number
  /** Whether {@link EventFd.consume} takes one instead of all. Default false. */
  semaphore?: boolean
}

/**
 * An event that the kernel can wait for (irqfd: it raises an interrupt) or raise (ioeventfd: a guest
 * wrote to an address), without an exit of the guest. It never blocks.
 *
 * Closing it ends an irqfd; an ioeventfd stays in place, unheard, until it is deassigned or the VM
 * is gone.
 */
export class EventFd extends PlainFile {
  readonly #count = new BigUint64Array(1)
  readonly #bytes = new Uint8Array(this.#count.buffer)
  #watch: EventWatch | EventRelay | undefined
  #keepsAlive = true

  /** Creates one. @throws KvmError `EMFILE` when the process has too many files. */
  static create(options: EventFdOptions = {}): EventFd {
    const { initial = 0, semaphore = false } = object(options, 'options')
    const native = binding()
    const handle = native.createEventFd(uint32(initial, 'options.initial'), semaphore ? 1 : 0)
    if (typeof handle === 'number') throw kvmError(handle, { syscall: 'eventfd2' })
    return new EventFd(native, handle)
  }

  /**
   * Adds to the count.
   *
   * @throws KvmError `EAGAIN` when it would exceed 2^64 - 2.
   */
  signal(count = 1): void {
    const result = this.handle.signal(integer(count, 'count', 1))
    if (result !== undefined) throw kvmError(result, { syscall: 'write' })
  }

  /**
   * Takes the count and leaves 0; of a semaphore it takes 1.
   *
   * @returns The count; 0 when nothing was signaled. Exact up to 2^53.
   */
  consume(): number {
    const result = this.native.readFile(this.handle, this.#bytes)
    if (result === EAGAIN) return 0
    if (result < 0) throw kvmError(result, { syscall: 'read' })
    return Number(this.#count[0])
  }

  /**
   * Calls `handler` on this thread's event loop with each count that it takes, until
   * {@link offSignal} or {@link close}. While it listens, the event loop stays alive, see
   * {@link unref}. An exception that leaves the handler is the application's, as of any event.
   *
   * A count goes to one reader only: do not listen to an eventfd that raises an interrupt, which KVM
   * reads, and give another thread an eventfd of its own.
   *
   * @throws KvmError `ERR_KVM_BUSY` when this object is listened to already.
   */
  onSignal(handler: (count: number) => void): this {
    this.#listen(callback(handler, 'handler'))
    return this
  }

  /**
   * Adds each count that it takes to `target`, on a native thread, whatever the JavaScript threads do
   * meanwhile: until {@link offSignal} or {@link close} of this object, or the end of this thread.
   * What would exceed the target's count, or finds it closed, is dropped.
   *
   * An ioeventfd and an irqfd that use the same eventfd need no relay. It is for what must stay apart:
   * several doorbells that raise one interrupt, an eventfd of another driver.
   *
   * @throws KvmError `ERR_KVM_BUSY` when this eventfd is listened to or passed on already.
   * @throws `ERR_INVALID_ARG_VALUE` when `target` is passed on to this eventfd.
   */
  relayTo(target: EventFd): this {
    const to = PlainFile.handleOf(instance(target, 'target', EventFd), 'target')
    if (this.#watch !== undefined) throw watchedAlready()
    this.#watch = new EventRelay(this.native, this.handle, to)
    return this
  }

  /**
   * Ends what {@link onSignal}, {@link signals} or {@link relayTo} began. What is signaled then stays
   * counted.
   */
  offSignal(): this {
    const watch = this.#watch
    this.#watch = undefined
    watch?.stop()
    return this
  }

  /**
   * The counts, one by one as they are taken: `for await (const count of eventFd.signals())`. What
   * is signaled while nobody waits is added up. Listening begins with the call; it ends, and so does
   * the loop, with {@link offSignal}, {@link close} or a `break`.
   *
   * @throws KvmError `ERR_KVM_BUSY` when this object is listened to already.
   * @throws AbortError from the loop, when `signal` is aborted.
   */
  signals(options: { signal?: AbortSignal } = {}): AsyncIterableIterator<number> {
    const { signal } = object(options, 'options')
    if (signal !== undefined && instance(signal, 'options.signal', AbortSignal).aborted) {
      throw new AbortError(signal)
    }
    let mine: EventWatch | undefined
    const release = (): void => {
      if (mine !== undefined && this.#watch === mine) this.offSignal()
    }
    const begin = (handler: (count: number) => void, onStop: () => void): void => {
      mine = this.#listen(handler, onStop)
    }
    return new SignalIterator(begin, release, signal)
  }

  /** {@link signals} without options. */
  [Symbol.asyncIterator](): AsyncIterableIterator<number> {
    return this.signals()
  }

  /** Lets listening keep the event loop alive, which it does at first. */
  ref(): this {
    return this.#setRef(true)
  }

  /** Lets the process or Worker end although this object is listened to. */
  unref(): this {
    return this.#setRef(false)
  }

  /**
   * A number under which another thread of the process reaches the same eventfd, by
   * {@link fromId}, as long as an object of it is open.
   */
  get id(): number {
    if (this.closed) throw closedError()
    return this.native.objectId(this.handle)
  }

  /**
   * The eventfd that another thread knows by its `id`. Closing either object closes both; a
   * thread that listens goes on until it stops itself.
   *
   * @throws KvmError `ERR_KVM_CLOSED` when there is none.
   */
  static fromId(id: number): EventFd {
    const native = binding()
    const handle = native.findObject(integer(id, 'id'), KIND_FILE)
    if (handle === null) throw closedError()
    return new EventFd(native, handle as PlainFileHandle)
  }

  override close(): void {
    this.offSignal()
    super.close()
  }

  #listen(handler: (count: number) => void, onStop?: () => void): EventWatch {
    if (this.#watch !== undefined) throw watchedAlready()
    const watch = new EventWatch(this.native, this.handle, this.#keepsAlive, handler, onStop)
    this.#watch = watch
    return watch
  }

  #setRef(on: boolean): this {
    this.#keepsAlive = on
    this.#watch?.ref(on)
    return this
  }
}
