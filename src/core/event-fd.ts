// eventfd(2): a counter in the kernel that threads, KVM and other drivers raise and consume.

import { binding } from '../binding.js'
import { kvmError } from './errors.js'
import { PlainFile } from './plain-file.js'
import { integer, object, uint32 } from './validate.js'

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
    this.#count[0] = BigInt(integer(count, 'count', 1))
    const result = this.native.writeFile(this.handle, this.#bytes)
    if (result < 0) throw kvmError(result, { syscall: 'write' })
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
}
