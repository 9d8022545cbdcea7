// Who answers an exit: handlers by type and by range of addresses, shared by all vCPUs of a VM.

import { callback, integer } from '../validate.js'
import type { Vcpu } from '../vcpu.js'
import type { Exit, ExitType, IoExit, MmioExit } from './exits.js'
import { RangeTable } from './range-table.js'

const MAX_GPA = 2 ** 52

/**
 * Answers an exit of a vCPU that runs on its own thread. The vCPU continues when the handler has
 * returned, or its promise is fulfilled, unless it was stopped or paused meanwhile.
 */
export type ExitHandler<E extends Exit = Exit> = (exit: E, vcpu: Vcpu) => void | Promise<void>

/** Something that was registered, until it is removed. */
export interface Registration extends Disposable {
  /** Ends it; for what begins after that. Idempotent. */
  remove(): void
}

/** @internal */
export function registration(remove: () => void): Registration {
  return { remove, [Symbol.dispose]: remove }
}

/** The handlers of a VM. */
export class ExitHandlers {
  readonly #ports = new RangeTable<ExitHandler<IoExit>>()
  readonly #memory = new RangeTable<ExitHandler<MmioExit>>()
  readonly #types = new Map<ExitType, ExitHandler<never>>()

  addPio(port: number, length: number, handler: ExitHandler<IoExit>): Registration {
    checkPorts(port, length)
    return registration(this.#ports.add(port, length, callback(handler, 'handler')))
  }

  addMmio(gpa: number, length: number, handler: ExitHandler<MmioExit>): Registration {
    checkGpas(gpa, length)
    return registration(this.#memory.add(gpa, length, callback(handler, 'handler')))
  }

  /** The last one registered for a type counts. */
  addType<T extends ExitType>(type: T, handler: ExitHandler<never>): Registration {
    this.#types.set(type, callback(handler, 'handler'))
    return registration(() => {
      if (this.#types.get(type) === handler) this.#types.delete(type)
    })
  }

  /** Undefined when nobody claims the exit. */
  find(exit: Exit): ExitHandler<never> | undefined {
    let handler: ExitHandler<never> | undefined
    if (exit.type === 'io') handler = this.#ports.find(exit.port, exit.size)
    else if (exit.type === 'mmio') handler = this.#memory.find(exit.gpa, exit.length)
    return handler ?? this.#types.get(exit.type)
  }
}

/** Checks a range of ports. */
export function checkPorts(port: number, length: number): void {
  integer(port, 'port', 0, 0xffff)
  integer(length, 'length', 1, 0x1_0000 - port)
}

/** Checks a range of guest-physical addresses. */
export function checkGpas(gpa: number, length: number): void {
  integer(gpa, 'gpa', 0, MAX_GPA - 1)
  integer(length, 'length', 1, MAX_GPA - gpa)
}
