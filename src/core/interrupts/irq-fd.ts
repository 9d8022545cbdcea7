// An interrupt that an eventfd raises, as an object: assigned when it is made, gone when it is closed.

import { instance, object, uint32 } from '../validate.js'
import { Vm } from '../vm.js'
import { EventFd } from './event-fd.js'

/** What {@link IrqFd.create} takes. */
export interface IrqFdOptions {
  /** The input that it raises; {@link GsiRouting} says where that leads. */
  gsi: number
  /**
   * Level-triggered: the line stays up until the guest's EOI, which is told through
   * {@link IrqFd.resample}. An eventfd to tell, or true to make one. Default: an edge.
   */
  resample?: boolean | EventFd
  /** What to signal to raise it. Default: one is made. */
  eventFd?: EventFd
}

/**
 * An interrupt raised through an eventfd, by JavaScript ({@link raise}), by native code, or by
 * another kernel driver, without an exit of the guest.
 *
 * A level-triggered one: `raise()` puts the line up; at the guest's EOI the kernel takes it down and
 * signals `resample`; whoever listens there raises again if the device still wants attention.
 */
export class IrqFd implements Disposable {
  /** The input that it raises. */
  readonly gsi: number
  /** What raises it. KVM reads it: nobody else shall. */
  readonly eventFd: EventFd
  /** Is signaled at the guest's EOI; undefined of an edge. */
  readonly resample: EventFd | undefined
  readonly #vm: Vm
  readonly #own: EventFd[]
  #closed = false

  private constructor(vm: Vm, gsi: number, eventFd: EventFd, resample?: EventFd, own?: EventFd[]) {
    this.#vm = vm
    this.gsi = gsi
    this.eventFd = eventFd
    this.resample = resample
    this.#own = own ?? []
  }

  /**
   * Assigns one.
   *
   * @ioctl KVM_IRQFD (KVM API 4.75)
   * @capability KVM_CAP_IRQFD, with `resample` KVM_CAP_IRQFD_RESAMPLE
   * @throws KvmError `EBUSY` when the eventfd raises an interrupt already, `EINVAL` without
   *   interrupt controllers in the kernel or (`resample`) with split ones.
   */
  static create(vm: Vm, options: IrqFdOptions): IrqFd {
    instance(vm, 'vm', Vm)
    const { gsi, resample = false, eventFd } = object(options, 'options')
    uint32(gsi, 'options.gsi')
    const own: EventFd[] = []
    const make = (): EventFd => {
      const made = EventFd.create()
      own.push(made)
      return made
    }
    try {
      const raised = eventFd ?? make()
      const told = resample === true ? make() : resample === false ? undefined : resample
      vm.irqfd({ eventFd: raised, gsi, ...(told === undefined ? {} : { resample: told }) })
      return new IrqFd(vm, gsi, raised, told, own)
    } catch (error) {
      for (const made of own) made.close()
      throw error
    }
  }

  /** Raises the interrupt once; an edge once per call, unless one is still pending in the guest. */
  raise(): void {
    this.eventFd.signal()
  }

  /** Whether {@link close} was called. */
  get closed(): boolean {
    return this.#closed
  }

  /**
   * Ends it: when this returns, no later signal raises an interrupt, and the line of a
   * level-triggered one is down. Closes the eventfds that were made for it, not those that were
   * given. Idempotent; legal after the VM or an eventfd was closed.
   */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    // An eventfd or VM that is closed has ended it already.
    if (!this.#vm.closed && !this.eventFd.closed) {
      this.#vm.irqfd({ eventFd: this.eventFd, gsi: this.gsi, deassign: true })
    }
    for (const made of this.#own) made.close()
  }

  /** Closes it at the end of a `using` scope. */
  [Symbol.dispose](): void {
    this.close()
  }
}
