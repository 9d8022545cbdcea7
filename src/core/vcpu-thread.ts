// vCPUs on threads of their own: the JavaScript end of native/run_loop.cc. The thread parks at every
// exit until it is answered here, on the thread that started it.

import { type Binding, type Handle, RUN_STOPPED, type VcpuHandle } from '../binding.js'
import { kvmError } from './errors.js'
import type { Exit, ExitTable } from './exits.js'

/**
 * Answers an exit of a vCPU that runs on its own thread. The vCPU continues when the handler has
 * returned, or its promise is fulfilled, unless it was stopped meanwhile.
 */
export type ExitHandler = (exit: Exit) => void | Promise<void>

const running: (VcpuThread | undefined)[] = []
let dispatching = false

function dispatch(index: number, status: number, ended: boolean): boolean {
  return running[index]?.onExit(status, ended) ?? false
}

function freeIndex(): number {
  const free = running.indexOf(undefined)
  return free < 0 ? running.length : free
}

/** A running vCPU thread. */
export class VcpuThread {
  readonly ended: Promise<void>
  readonly #native: Binding
  readonly #thread: Handle
  readonly #index: number
  readonly #exits: ExitTable
  readonly #handler: ExitHandler
  #settle!: { resolve: () => void; reject: (error: unknown) => void }
  #failure: { error: unknown } | undefined
  #stopping = false

  constructor(native: Binding, vcpu: VcpuHandle, exits: ExitTable, handler: ExitHandler) {
    this.#native = native
    this.#exits = exits
    this.#handler = handler
    this.#index = freeIndex()
    if (!dispatching) native.setDispatch(dispatch)
    dispatching = true
    const thread = native.startThread(vcpu, this.#index)
    if (typeof thread === 'number') throw kvmError(thread, { syscall: 'pthread_create' })
    this.#thread = thread
    running[this.#index] = this
    this.ended = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject }
    })
  }

  /** The kernel's thread id; 0 for the moment before the thread runs. */
  get tid(): number {
    return this.#native.threadTid(this.#thread)
  }

  stop(): void {
    this.#stopping = true
    this.#native.stopThread(this.#thread)
  }

  /** @returns Whether the exit is answered now. */
  onExit(status: number, ended: boolean): boolean {
    if (ended) {
      running[this.#index] = undefined
      if (status < 0 && !this.#stopping) this.#fail(kvmError(status, { ioctl: 'KVM_RUN' }))
      if (this.#failure) this.#settle.reject(this.#failure.error)
      else this.#settle.resolve()
      return false
    }
    if (status < 0) return this.#fail(kvmError(status, { ioctl: 'KVM_RUN' }))
    if (this.#stopping || status & RUN_STOPPED) {
      this.stop()
      return false
    }
    try {
      const answer = this.#handler(status > 0 ? this.#exits.intr : this.#exits.current)
      if (typeof (answer as PromiseLike<void> | undefined)?.then !== 'function') return true
      // Through a promise of our own: a thenable may call back twice, and the second time would
      // answer an exit that nobody has seen.
      Promise.resolve(answer).then(
        () => this.#native.resumeThread(this.#thread),
        (error) => this.#fail(error),
      )
      return false
    } catch (error) {
      return this.#fail(error)
    }
  }

  #fail(error: unknown): false {
    this.#failure ??= { error }
    this.stop()
    return false
  }
}
