// vCPUs on threads of their own: the JavaScript end of native/run_loop.cc. The thread parks at every
// exit until it is answered here, on the thread that started it.

import {
  type Binding,
  type Handle,
  RESULT_CLOSED,
  RUN_RING_FULL,
  RUN_STOPPED,
  THREAD_ENDED,
  THREAD_PAUSED,
  type VcpuHandle,
} from '../../binding.js'
import { kvmError } from '../errors.js'
import type { Exit, ExitTable } from '../exits/exits.js'
import { integer } from '../validate.js'
import { schedulerNumber, type ThreadScheduler } from './thread-scheduler.js'

/** What becomes of a thread by itself or after a while. */
export interface ThreadObserver {
  /** Before an exit is answered, and before the next two: hands over the writes that wait for it. */
  onDrain(): void
  onPause(): void
  onResume(): void
  /** The last that is heard of it. */
  onEnd(error: unknown): void
}

/** Answers an exit: at once, or when the promise is fulfilled. */
export type ExitAnswer = (exit: Exit) => void | Promise<void>

const running: (VcpuThread | undefined)[] = []
let dispatching = false

function dispatch(index: number, status: number, event: number): boolean {
  return running[index]?.onEvent(status, event) ?? false
}

function freeIndex(): number {
  const free = running.indexOf(undefined)
  return free < 0 ? running.length : free
}

const threadsOf = (vm: object) => running.filter((thread) => thread?.vm === vm)

/** Pauses all threads of a VM that were started here: asks each of them before it waits for any. */
export async function pauseThreads(vm: object): Promise<void> {
  await Promise.all(threadsOf(vm).map((thread) => thread?.pause()))
}

/** Ends {@link pauseThreads}. */
export function resumeThreads(vm: object): void {
  for (const thread of threadsOf(vm)) thread?.resume()
}

/** A running vCPU thread. */
export class VcpuThread {
  readonly ended: Promise<void>
  readonly vm: object
  readonly #native: Binding
  readonly #thread: Handle
  readonly #index: number
  readonly #exits: ExitTable
  readonly #handler: ExitAnswer
  readonly #observer: ThreadObserver
  readonly #pauses: { number: number; resolve: () => void }[] = []
  #pauseCount = 0
  #settle!: { resolve: () => void; reject: (error: unknown) => void }
  #failure: { error: unknown } | undefined
  #stopping = false
  #paused: boolean

  constructor(
    native: Binding,
    vm: object,
    vcpu: VcpuHandle,
    exits: ExitTable,
    handler: ExitAnswer,
    observer: ThreadObserver,
    paused: boolean,
  ) {
    this.#native = native
    this.vm = vm
    this.#exits = exits
    this.#handler = handler
    this.#observer = observer
    this.#paused = paused
    this.#index = freeIndex()
    if (!dispatching) native.setDispatch(dispatch)
    dispatching = true
    const thread = native.startThread(vcpu, this.#index, paused ? 1 : 0)
    if (typeof thread === 'number') throw kvmError(thread, { syscall: 'pthread_create' })
    this.#thread = thread
    running[this.#index] = this
    this.ended = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject }
    })
  }

  get tid(): number {
    return this.#native.threadTid(this.#thread)
  }

  get cpuTimeNs(): number {
    return this.#native.threadCpuTime(this.#thread)
  }

  setAffinity(mask: Uint8Array): void {
    check(this.#native.threadAffinity(this.#thread, mask), 'sched_setaffinity')
  }

  setNice(nice: number): void {
    check(this.#native.threadNice(this.#thread, nice + 20), 'setpriority')
  }

  setScheduler({ policy, priority = 0 }: ThreadScheduler): void {
    const number = schedulerNumber(policy)
    integer(priority, 'scheduler.priority', 0, 99)
    check(this.#native.threadScheduler(this.#thread, number, priority), 'sched_setscheduler')
  }

  stop(): void {
    this.#stopping = true
    this.#native.stopThread(this.#thread)
  }

  pause(): Promise<void> {
    const number = ++this.#pauseCount
    return new Promise((resolve) => {
      this.#pauses.push({ number, resolve })
      this.#native.pauseThread(this.#thread)
    })
  }

  resume(): void {
    this.#native.resumeThread(this.#thread)
    this.#setPaused(false)
  }

  #setPaused(paused: boolean): void {
    if (paused === this.#paused) return
    this.#paused = paused
    if (paused) this.#observer.onPause()
    else this.#observer.onResume()
  }

  /** @returns Whether the exit is answered now. */
  onEvent(status: number, event: number): boolean {
    switch (event) {
      case THREAD_ENDED:
        this.#onEnd(status)
        return false
      case THREAD_PAUSED:
        this.#drain()
        this.#resolvePauses(status)
        this.#setPaused(true)
        return false
      default:
        return this.#onExit(status)
    }
  }

  #onEnd(status: number): void {
    running[this.#index] = undefined
    this.#drain()
    // Another thread may have closed it.
    const asked = this.#stopping || status === RESULT_CLOSED
    if (status < 0 && !asked) this.#fail(kvmError(status, { ioctl: 'KVM_RUN' }))
    if (this.#failure) this.#settle.reject(this.#failure.error)
    else this.#settle.resolve()
    this.#resolvePauses(this.#pauseCount)
    this.#observer.onEnd(this.#failure?.error)
  }

  #resolvePauses(upTo: number): void {
    while (this.#pauses[0] !== undefined && this.#pauses[0].number <= upTo) {
      this.#pauses.shift()?.resolve()
    }
  }

  #onExit(status: number): boolean {
    if (this.#stopping || status & RUN_STOPPED) {
      this.stop()
      return false
    }
    if (!this.#drain()) return false
    if (status === RUN_RING_FULL) return true
    try {
      const answer = this.#handler(status > 0 ? this.#exits.intr : this.#exits.current)
      if (typeof (answer as PromiseLike<void> | undefined)?.then !== 'function') return true
      // Through a promise of our own: a thenable may call back twice, and the second time would
      // answer an exit that nobody has seen.
      Promise.resolve(answer).then(
        () => this.#native.answerExit(this.#thread),
        (error) => this.#fail(error),
      )
      return false
    } catch (error) {
      return this.#fail(error)
    }
  }

  /** What the guest wrote before its exit is handled before it. */
  #drain(): boolean {
    try {
      this.#observer.onDrain()
      return true
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

function check(result: number, syscall: string): void {
  if (result < 0) throw kvmError(result, { syscall })
}
