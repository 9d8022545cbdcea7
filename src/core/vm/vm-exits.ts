// What a VM's vCPU threads have in common: who answers their exits, and halting them all.

import { closedError } from '../errors.js'
import { type CoalescedHandler, CoalescedWrites } from '../exits/coalesced-writes.js'
import {
  checkGpas,
  checkPorts,
  type ExitHandler,
  ExitHandlers,
  type Registration,
  registration,
} from '../exits/exit-handlers.js'
import type { Exit, ExitType, IoExit, MmioExit } from '../exits/exits.js'
import { addExitRange, type NativeAnswer } from '../exits/native-answer.js'
import { WriteSink } from '../exits/write-sink.js'
import { ThreadEventSource, type ThreadEvents } from '../threads/thread-events.js'
import { pauseThreads, resumeThreads } from '../threads/vcpu-thread.js'
import { callback, object } from '../validate.js'
import { VmDevices } from './vm-devices.js'
import type { CoalescedZone } from './vm-events.js'

/** Exits of a VM. */
export abstract class VmExits extends VmDevices {
  readonly #handlers = new ExitHandlers()
  readonly #sinks = new Set<WriteSink>()
  /** @internal */
  readonly coalescedWrites = new CoalescedWrites()
  /** @internal */
  readonly threadEvents = new ThreadEventSource()

  /** Tells of the threads of all vCPUs that this thread has started; see {@link Vcpu.events}. */
  get events(): ThreadEvents {
    return this.threadEvents.emitter
  }

  /**
   * Hands accesses to ports to `handler`, whichever vCPU's thread makes them. An access that is not
   * wholly in the range is not the range's. Counts for the next exit of vCPUs that run already.
   *
   * For vCPUs on threads of their own ({@link Vcpu.start}); {@link Vcpu.run} returns every exit.
   *
   * @throws KvmError `ERR_KVM_RANGE_TAKEN` when another such range overlaps.
   */
  onPio(port: number, length: number, handler: ExitHandler<IoExit>): Registration {
    return this.#handlers.addPio(port, length, handler)
  }

  /** The same as {@link onPio} for guest-physical addresses that are not RAM. */
  onMmio(gpa: number, length: number, handler: ExitHandler<MmioExit>): Registration {
    return this.#handlers.addMmio(gpa, length, handler)
  }

  /** Hands exits of that type which no range claims to `handler`. The latest registered counts. */
  onExit<T extends ExitType>(
    type: T,
    handler: ExitHandler<Extract<Exit, { type: T }>>,
  ): Registration {
    return this.#handlers.addType(type, callback(handler, 'handler') as ExitHandler<never>)
  }

  /**
   * Answers accesses to ports without JavaScript: on threads, in {@link Vcpu.run} and in Workers
   * alike, before any handler. What the answer leaves out, and an access that is not wholly in the
   * range, exits as usual. Counts for the next exit of vCPUs that run already.
   *
   * @throws KvmError `ERR_KVM_RANGE_TAKEN` when another such range overlaps.
   */
  answerPio(port: number, length: number, answer: NativeAnswer): Registration {
    checkPorts(port, length)
    return this.#addAnswer({ isPort: true, start: port, length }, answer)
  }

  /** The same as {@link answerPio} for guest-physical addresses that are not RAM. */
  answerMmio(gpa: number, length: number, answer: NativeAnswer): Registration {
    checkGpas(gpa, length)
    return this.#addAnswer({ isPort: false, start: gpa, length }, answer)
  }

  #addAnswer(
    range: { isPort: boolean; start: number; length: number },
    answer: NativeAnswer,
  ): Registration {
    if (this.closed) throw closedError()
    const number = addExitRange(this.native, this.handle, range, answer)
    // A sink stays: there may be writes in it.
    if (answer.write instanceof WriteSink) this.#sinks.add(answer.write)
    return registration(() => this.native.removeExitRange(this.handle, number))
  }

  /**
   * Hands the guest's writes to a range to `handler` without an exit for each. KVM keeps them in a
   * ring ({@link CoalescedRing}), which is emptied before each exit of a vCPU's thread that JavaScript
   * sees, when such a thread pauses or ends; a write that finds it full exits, and goes to `handler`
   * too. Reads exit as usual.
   *
   * Nothing tells of writes of a guest that never exits: see {@link WriteSink} for those.
   *
   * @throws KvmError `ERR_KVM_RANGE_TAKEN` when another such range overlaps, and what
   *   {@link registerCoalescedMmio} throws.
   */
  coalesce(zone: CoalescedZone, handler: CoalescedHandler): Registration {
    const { address, size, pio = false } = object(zone, 'zone')
    if (pio) checkPorts(address, size)
    else checkGpas(address, size)
    const range = { address, size, pio }
    const remove = this.coalescedWrites.add(range, handler)
    try {
      this.registerCoalescedMmio(range)
    } catch (error) {
      remove()
      throw error
    }
    return registration(() => {
      if (!this.closed) this.unregisterCoalescedMmio(range)
      remove()
    })
  }

  /** @internal Returns how many writes there were. */
  drainSinks(): number {
    let count = 0
    for (const sink of this.#sinks) count += sink.drain()
    return count
  }

  /** @internal */
  findExitHandler(exit: Exit): ExitHandler<never> | undefined {
    return this.#handlers.find(exit)
  }

  /**
   * Pauses every vCPU that this thread has started. When it resolves, none of them is in the guest
   * and none enters it before {@link resumeAll}: RAM, vCPUs and devices can be saved as one state.
   */
  async pauseAll(): Promise<void> {
    await pauseThreads(this)
  }

  /** Lets every vCPU that this thread has started go on. */
  resumeAll(): void {
    resumeThreads(this)
  }
}
