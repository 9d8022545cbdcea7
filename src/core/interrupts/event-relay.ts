// An eventfd whose counts native code adds to another one.

import type { Binding, Handle } from '../../binding.js'
import { kvmError } from '../errors.js'
import { invalidArgValue } from '../validate.js'
import { watchedAlready } from './event-watch.js'

const EBUSY = -16
const ELOOP = -40

/** What {@link EventFd.relayTo} starts. */
export class EventRelay {
  readonly #native: Binding
  readonly #number: number

  constructor(native: Binding, source: Handle, target: Handle) {
    this.#native = native
    this.#number = native.relayEventFd(source, target)
    if (this.#number === EBUSY) throw watchedAlready()
    if (this.#number === ELOOP) {
      throw invalidArgValue('target', 'must not lead back to this eventfd')
    }
    if (this.#number < 0) throw kvmError(this.#number, { syscall: 'epoll_ctl' })
  }

  /** It never keeps the event loop alive. */
  ref(): void {}

  stop(): void {
    this.#native.endEventFdRelay(this.#number)
  }
}
