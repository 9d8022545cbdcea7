// What a VM's vCPU threads have in common: who answers their exits, and halting them all.

import { type ExitHandler, ExitHandlers, type Registration } from './exit-handlers.js'
import type { Exit, ExitType, IoExit, MmioExit } from './exits.js'
import { callback } from './validate.js'
import { pauseThreads, resumeThreads } from './vcpu-thread.js'
import { VmDevices } from './vm-devices.js'

/** Exits of a VM. */
export abstract class VmExits extends VmDevices {
  readonly #handlers = new ExitHandlers()

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
