// A vCPU on a thread of its own: starting, pausing and stopping it, and how the host schedules it.

import type { Binding, VcpuHandle } from '../../binding.js'
import { AbortError, closedError, KvmError } from '../errors.js'
import type { ExitHandler } from '../exits/exit-handlers.js'
import { ExitStatistics } from '../exits/exit-statistics.js'
import { ExitTrace } from '../exits/exit-trace.js'
import type { Exit, ExitTable } from '../exits/exits.js'
import { ThreadEventSource, type ThreadEvents } from '../threads/thread-events.js'
import { cpuMask, type ThreadScheduler } from '../threads/thread-scheduler.js'
import { VcpuThread } from '../threads/vcpu-thread.js'
import { callback, instance, integer, object, outOfRange } from '../validate.js'
import type { Vcpu } from '../vcpu.js'
import type { Vm } from '../vm.js'
import { VcpuEncryption } from './vcpu-encryption.js'

/** How {@link Vcpu.start} starts. */
export interface StartOptions {
  /** Whether the thread waits for {@link Vcpu.resume} before it enters the guest. Default false. */
  paused?: boolean
}

/** Threads of vCPUs. */
export abstract class VcpuThreads extends VcpuEncryption {
  /** @internal */
  protected readonly exitTable: ExitTable
  /** @internal What has the vCPU now. */
  protected thread: VcpuThread | undefined
  readonly #events = new ThreadEventSource()
  #ended: Promise<void> | undefined

  /** @internal */
  protected constructor(
    native: Binding,
    handle: VcpuHandle,
    vm: Vm,
    id: number,
    exitTable: ExitTable,
  ) {
    super(native, handle, vm, id)
    this.exitTable = exitTable
  }

  /**
   * Runs the guest on a thread of its own. Each exit is answered on the thread that called `start`,
   * one at a time for each vCPU: by what {@link Vm.onPio}, {@link Vm.onMmio} and {@link Vm.onExit}
   * have registered, else by `handler`. The guest continues when it was answered. An exit that
   * nobody answers ends the thread with `ERR_KVM_UNHANDLED_EXIT`, except an `'intr'` (a
   * {@link kick}).
   *
   * Use {@link join} to wait for the end and to learn of errors, {@link stop} to bring it about. An
   * error that nobody waits for is an unhandled rejection, as that of any promise.
   *
   * @throws KvmError `ERR_KVM_BUSY` when the vCPU has a thread, `EAGAIN` when there can be no more.
   */
  start(handler?: ExitHandler, options: StartOptions = {}): void {
    if (handler !== undefined) callback(handler, 'handler')
    const { paused = false } = object(options, 'options')
    if (this.closed) throw closedError({ vcpuId: this.id })
    if (this.thread !== undefined) throw this.startedError()
    const answer = (exit: Exit) => this.#answer(exit, handler)
    const { native, vm, vcpuHandle, exitTable } = this
    const observer = {
      onDrain: () => {
        vm.drainSinks()
        vm.coalescedWrites.drain(this as unknown as Vcpu)
      },
      onPause: () => this.#emit('pause'),
      onResume: () => this.#emit('resume'),
      onEnd: (error: unknown) => {
        this.thread = undefined
        this.#emit('end', error)
      },
    }
    const begin = paused === true
    this.thread = new VcpuThread(native, vm, vcpuHandle, exitTable, answer, observer, begin)
    this.#ended = this.thread.ended
    this.#emit('start')
  }

  #emit(name: 'start' | 'pause' | 'resume' | 'end', error?: unknown): void {
    const vcpu = this as unknown as Vcpu
    for (const source of [this.#events, this.vm.threadEvents]) {
      if (name === 'end') source.emit(name, vcpu, error)
      else source.emit(name, vcpu)
    }
  }

  /**
   * Tells of this vCPU's threads: `'start'`, `'pause'`, `'resume'`, `'end'`. Those of all vCPUs of a
   * VM are told by {@link Vm.events}.
   */
  get events(): ThreadEvents {
    return this.#events.emitter
  }

  #answer(exit: Exit, handler: ExitHandler | undefined): void | Promise<void> {
    if (this.vm.coalescedWrites.take(exit)) return
    const found = (this.vm.findExitHandler(exit) ?? handler) as ExitHandler | undefined
    if (found !== undefined) return found(exit, this as unknown as Vcpu)
    if (exit.type === 'intr') return
    const why = exit.type === 'internalError' ? `: ${exit.describe()}` : ''
    const text = `no handler for an exit of type '${exit.type}'${why}`
    throw new KvmError('ERR_KVM_UNHANDLED_EXIT', undefined, text, { vcpuId: this.id })
  }

  /** @internal */
  protected startedError(): KvmError {
    const text = 'the vCPU runs on a thread of its own'
    return new KvmError('ERR_KVM_BUSY', undefined, text, { vcpuId: this.id })
  }

  /**
   * Runs the guest on a thread of its own and gives its exits one after the other. Each is answered
   * by asking for the next; leaving the loop stops the vCPU. What {@link Vm.onPio} and its kin have
   * registered is answered there and does not turn up.
   *
   * @throws AbortError when `signal` is aborted; else what {@link join} rejects with.
   */
  async *exits(options: { signal?: AbortSignal } = {}): AsyncGenerator<Exit, void, void> {
    const { signal } = object(options, 'options')
    if (signal !== undefined && instance(signal, 'options.signal', AbortSignal).aborted) {
      throw new AbortError(signal)
    }
    let answer = () => {}
    let arrive: (exit: Exit) => void = () => {}
    let next = new Promise<Exit>((resolve) => {
      arrive = resolve
    })
    this.start((exit) => {
      arrive(exit)
      return new Promise<void>((resolve) => {
        answer = resolve
      })
    })
    const ended = this.join()
    const abort = () => this.requestStop()
    signal?.addEventListener('abort', abort)
    try {
      for (;;) {
        const exit = await Promise.race([next, ended])
        if (signal?.aborted) throw new AbortError(signal)
        if (exit === undefined) return
        next = new Promise((resolve) => {
          arrive = resolve
        })
        yield exit
        answer()
      }
    } finally {
      signal?.removeEventListener('abort', abort)
      this.requestStop()
      await ended
    }
  }

  /**
   * Takes the vCPU out of the guest. When it resolves, every exit was answered, and the thread stays
   * outside until {@link resume}, {@link stop} or {@link close}: meanwhile this thread may use the
   * vCPU, as if it were stopped. Resolves at once when there is no thread, and when it ends instead.
   *
   * A handler may ask for a pause of its own vCPU, but must not wait for it: it comes after the
   * handler's answer.
   */
  async pause(): Promise<void> {
    await this.thread?.pause()
  }

  #statistics: ExitStatistics | undefined

  /** How often the vCPU has exited and why, on whatever thread it ran. */
  get statistics(): ExitStatistics {
    if (this.#statistics === undefined) {
      if (this.closed) throw closedError({ vcpuId: this.id })
      const { native } = this
      this.#statistics = new ExitStatistics(native.exitCounts(this.vcpuHandle), native.tscRate)
    }
    return this.#statistics
  }

  /**
   * Begins to record the vCPU's exits in a ring of the latest `capacity` ones (a power of two). A
   * vCPU has one such ring in its life: keep what you get.
   *
   * @throws KvmError `EEXIST` the second time.
   */
  startTrace(options: { capacity?: number } = {}): ExitTrace {
    const { capacity = 65_536 } = object(options, 'options')
    integer(capacity, 'options.capacity', 2, 2 ** 24)
    if (capacity & (capacity - 1)) {
      throw outOfRange('options.capacity', 'a power of two', capacity)
    }
    const { native, vcpuHandle, id, statistics } = this
    const trace = new ExitTrace(native, vcpuHandle, id, statistics, capacity)
    trace.start()
    return trace
  }

  /** Ends {@link pause}. One call does, however often it was paused. */
  resume(): void {
    this.thread?.resume()
  }

  /** Asks the vCPU's thread to end, wherever it is. Returns at once; {@link join} waits. */
  requestStop(): void {
    this.thread?.stop()
  }

  /** {@link requestStop}, then {@link join}. */
  stop(): Promise<void> {
    this.requestStop()
    return this.join()
  }

  /**
   * Resolves when the vCPU's thread has ended because of {@link stop} or {@link close}; rejects with
   * what ended it otherwise: an exception of the handler, or an error of KVM.
   */
  join(): Promise<void> {
    return this.#ended ?? Promise.resolve()
  }

  /** The kernel's id of the vCPU's thread, for /proc, cgroups and the like; undefined without one. */
  get tid(): number | undefined {
    return this.thread?.tid
  }

  /** CPU time that the vCPU's thread has used, in nanoseconds, the guest's included; 0 without one. */
  get cpuTimeNs(): number {
    return this.thread?.cpuTimeNs ?? 0
  }

  /**
   * Restricts the vCPU's thread to these CPUs of the host (sched_setaffinity(2)).
   *
   * @throws KvmError `EINVAL` when none of them is there, `ESRCH` without a thread.
   */
  setAffinity(cpus: readonly number[]): void {
    this.#ownThread('sched_setaffinity').setAffinity(cpuMask(cpus))
  }

  /**
   * Sets the nice value of the vCPU's thread, -20 (favoured) to 19 (setpriority(2)).
   *
   * @throws KvmError `EACCES` for lower values than the process may use, `ESRCH` without a thread.
   */
  setNice(nice: number): void {
    integer(nice, 'nice', -20, 19)
    this.#ownThread('setpriority').setNice(nice)
  }

  /**
   * Sets the scheduling policy of the vCPU's thread (sched_setscheduler(2)).
   *
   * @throws KvmError `EPERM` for real-time policies without the right to them, `EINVAL` for a
   *   priority that the policy does not have, `ESRCH` without a thread.
   */
  setScheduler(scheduler: ThreadScheduler): void {
    object(scheduler, 'scheduler')
    this.#ownThread('sched_setscheduler').setScheduler(scheduler)
  }

  #ownThread(syscall: string): VcpuThread {
    if (this.thread !== undefined) return this.thread
    throw new KvmError('ESRCH', 3, 'the vCPU has no thread', { syscall, vcpuId: this.id })
  }

  override close(): void {
    this.thread?.stop()
    super.close()
  }
}
