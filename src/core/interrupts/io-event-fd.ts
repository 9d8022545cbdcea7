// A guest's writes that signal an eventfd, as an object: assigned when made, gone when closed.

import { instance, object } from '../validate.js'
import type { Ioeventfd } from '../vm/vm-events.js'
import { Vm } from '../vm.js'
import { EventFd } from './event-fd.js'

/** What {@link IoEventFd.create} takes: which writes, and what they signal. */
export interface IoEventFdOptions extends Omit<Ioeventfd, 'eventFd' | 'deassign'> {
  /** What they signal. Default: one is made. */
  eventFd?: EventFd
}

/**
 * A doorbell: the guest's writes to a port or address signal an eventfd inside the kernel; the vCPU
 * does not exit. `ioEventFd.eventFd.onSignal(...)` hears them on the event loop.
 */
export class IoEventFd implements Disposable {
  /** What the writes signal. */
  readonly eventFd: EventFd
  readonly #vm: Vm
  readonly #writes: Omit<Ioeventfd, 'deassign'>
  readonly #owned: boolean
  #closed = false

  private constructor(vm: Vm, writes: Omit<Ioeventfd, 'deassign'>, owned: boolean) {
    this.#vm = vm
    this.#writes = writes
    this.#owned = owned
    this.eventFd = writes.eventFd
  }

  /**
   * Assigns one.
   *
   * @ioctl KVM_IOEVENTFD (KVM API 4.59)
   * @capability KVM_CAP_IOEVENTFD, for a length of 0 KVM_CAP_IOEVENTFD_ANY_LENGTH
   * @throws KvmError `EEXIST` when there is one for the same writes, `EINVAL` for a `datamatch` of
   *   length 0, `ENOSPC` beyond the kernel's limit (1000 on a bus).
   */
  static create(vm: Vm, options: IoEventFdOptions): IoEventFd {
    instance(vm, 'vm', Vm)
    const { eventFd, ...where } = object(options, 'options')
    const writes = { ...where, eventFd: eventFd ?? EventFd.create() }
    const owned = eventFd === undefined
    try {
      vm.ioeventfd(writes)
    } catch (error) {
      if (owned) writes.eventFd.close()
      throw error
    }
    return new IoEventFd(vm, writes, owned)
  }

  /** Whether {@link close} was called. */
  get closed(): boolean {
    return this.#closed
  }

  /**
   * Ends it: such writes exit again. Closes the eventfd if it was made for this. Idempotent. Close
   * it before an eventfd of your own: without that, the kernel cannot tell which one to end, and it
   * stays, unheard, as long as the VM.
   */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    if (!this.#vm.closed && !this.eventFd.closed) {
      this.#vm.ioeventfd({ ...this.#writes, deassign: true })
    }
    if (this.#owned) this.eventFd.close()
  }

  /** Closes it at the end of a `using` scope. */
  [Symbol.dispose](): void {
    this.close()
  }
}
