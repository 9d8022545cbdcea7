// What happens to vCPU threads, for whoever wants to be told: logs, supervisors, user interfaces.

import { EventEmitter } from 'node:events'
import type { Vcpu } from '../vcpu.js'

/** Events of {@link Vcpu.events} and {@link Vm.events}, and what their listeners get. */
export interface ThreadEventMap {
  /** The vCPU has a thread. */
  start: [vcpu: Vcpu]
  /** The thread is outside the guest because of {@link Vcpu.pause}. */
  pause: [vcpu: Vcpu]
  /** {@link Vcpu.resume} was called on a thread that was paused. */
  resume: [vcpu: Vcpu]
  /** The thread is gone, by itself for the reason of `error`, or because it was stopped. */
  end: [vcpu: Vcpu, error: unknown]
}

/** Tells of threads that were started in this thread of JavaScript. Exits are no events. */
export type ThreadEvents = EventEmitter<ThreadEventMap>

/** Emitters that are made when somebody asks for them. */
export class ThreadEventSource {
  #emitter: ThreadEvents | undefined

  get emitter(): ThreadEvents {
    this.#emitter ??= new EventEmitter<ThreadEventMap>()
    return this.#emitter
  }

  emit<Name extends keyof ThreadEventMap>(name: Name, ...args: ThreadEventMap[Name]): void {
    // The types of `emit` cannot follow a name that is generic.
    ;(this.#emitter as EventEmitter | undefined)?.emit(name, ...args)
  }
}
