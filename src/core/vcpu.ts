// A vCPU: the way into the guest. What it keeps is in the classes below it, one topic a file.

import {
  type Binding,
  binding,
  KIND_VCPU,
  RUN_RING_FULL,
  RUN_SLICE,
  RUN_STOPPED,
  type VcpuHandle,
} from '../binding.js'
import {
  KVM_CAP_SYNC_REGS,
  KVM_SYNC_X86_EVENTS,
  KVM_SYNC_X86_REGS,
  KVM_SYNC_X86_SREGS,
  StructView,
} from '../uapi/index.js'
import { AbortError, capabilityMissing, closedError, KvmError, kvmError } from './errors.js'
import { type Exit, ExitTable } from './exits/exits.js'
import { findObject, type SharedVcpu } from './shared.js'
import { restoreVcpuState, saveVcpuState, type VcpuState } from './state/state-vcpu.js'
import { instance, invalidArgType, object, outOfRange, uint32 } from './validate.js'
import { RunState } from './vcpu/run-state.js'
import { SyncRegs } from './vcpu/sync-regs.js'
import { VcpuThreads } from './vcpu/vcpu-threads.js'
import { Vm } from './vm.js'

/** Limits of one {@link Vcpu.run}. */
export interface RunOptions {
  /** After this many milliseconds in the guest, the run ends with an `'intr'` exit. */
  timeoutMs?: number
  /** Looked at before the guest is entered and whenever the thread is back in JavaScript. */
  signal?: AbortSignal
}

/**
 * A virtual CPU. One thread at a time may use it; a call that finds it in use by another throws
 * `ERR_KVM_BUSY`.
 */
export class Vcpu extends VcpuThreads {
  /** What passes between KVM and the VMM at every entry and exit. */
  readonly runState: RunState
  readonly #handle: VcpuHandle
  readonly #slot: number
  readonly #chosen: Uint32Array
  readonly #runChosen: () => number | undefined
  readonly #page: StructView
  // Asked for once, here: a vCPU outlives the VM's own file.
  readonly #syncable: number
  #syncRegs: SyncRegs | undefined

  private constructor(native: Binding, handle: VcpuHandle, vm: Vm, id: number) {
    const page = new StructView(native.runPage(handle))
    super(native, handle, vm, id, new ExitTable(page))
    this.#handle = handle
    this.#slot = handle.slot
    this.#chosen = native.chosen
    this.#runChosen = native.run
    this.#page = page
    this.runState = new RunState(this.#page)
    this.#syncable = vm.checkExtension(KVM_CAP_SYNC_REGS)
  }

  /** @internal */
  static adopt(native: Binding, handle: VcpuHandle, vm: Vm, id: number): Vcpu {
    return new Vcpu(native, handle, vm, id)
  }

  /** @internal Its native object. */
  static handleOf(vcpu: Vcpu): VcpuHandle {
    if (vcpu !== null && typeof vcpu === 'object' && #handle in vcpu) return vcpu.#handle
    throw invalidArgType('vcpu', 'an instance of Vcpu', vcpu)
  }

  /** What {@link Vcpu.open} in another thread of the process takes; see {@link Vm.share}. */
  share(): SharedVcpu {
    if (this.closed) throw closedError({ vcpuId: this.id })
    const { native, vm, id } = this
    return { vm: vm.share(), vcpuId: id, vcpu: native.objectId(this.#handle) }
  }

  /**
   * Opens a vCPU of another thread of this process, to run it here: {@link run} costs the same in a
   * Worker. It is the same vCPU: while one thread uses it, others get `ERR_KVM_BUSY`; {@link kick}
   * and {@link close} work from all.
   *
   * @param vm Its VM, when that was opened here already.
   * @throws KvmError `ERR_KVM_CLOSED` when it, or the VM, is gone.
   */
  static open(shared: SharedVcpu, vm?: Vm): Vcpu {
    const { vcpu, vcpuId } = object(shared, 'shared')
    const native = binding()
    const handle = findObject(native, vcpu, KIND_VCPU, 'shared.vcpu') as VcpuHandle
    return new Vcpu(native, handle, vm ?? Vm.open(shared.vm), uint32(vcpuId, 'shared.vcpuId'))
  }

  /** @internal The mapping that the kernel shares: kvm_run, port data, the coalesced ring. */
  static pageOf(vcpu: Vcpu): StructView {
    if (vcpu !== null && typeof vcpu === 'object' && #page in vcpu) return vcpu.#page
    throw invalidArgType('vcpu', 'an instance of Vcpu', vcpu)
  }

  /**
   * Runs the guest on the calling thread until it exits, and says why. The returned object belongs
   * to the vCPU: the next exit of the same type overwrites its fields.
   *
   * Signals, and application processors waiting to be started, do not end a run; {@link kick},
   * `timeoutMs` and the end of a Worker or of the process do.
   *
   * @ioctl KVM_RUN (KVM API 4.10)
   * @throws KvmError whatever the kernel refuses; `ERR_KVM_BUSY` while the vCPU runs on a thread.
   * @throws AbortError when `signal` is aborted.
   */
  run(options?: RunOptions): Exit {
    if (this.thread !== undefined) throw this.startedError()
    if (options !== undefined) return this.#runLimited(options)
    const status = this.#enter()
    return status === undefined ? this.exitTable.current : this.#resolveRun(status)
  }

  #enter(): number | undefined {
    this.#chosen[0] = this.#slot
    return this.#runChosen()
  }

  #runLimited(options: RunOptions): Exit {
    const { timeoutMs, signal } = object(options, 'options')
    if (signal !== undefined) {
      if (instance(signal, 'options.signal', AbortSignal).aborted) throw new AbortError(signal)
    }
    if (timeoutMs === undefined) return this.#resolveRun(this.#enter() ?? 0, signal)
    if (typeof timeoutMs !== 'number') {
      throw invalidArgType('options.timeoutMs', 'of type number', timeoutMs)
    }
    if (!(timeoutMs > 0 && timeoutMs <= 2 ** 31)) {
      throw outOfRange('options.timeoutMs', '> 0 and <= 2147483648', timeoutMs)
    }
    this.native.setDeadline(this.#handle, Math.ceil(timeoutMs * 1e6))
    try {
      return this.#resolveRun(this.#enter() ?? 0, signal)
    } finally {
      this.native.setDeadline(this.#handle, 0)
    }
  }

  /** What a run's status means; enters the guest again after a slice. */
  #resolveRun(first: number, signal?: AbortSignal): Exit {
    let status = first
    while (status === RUN_SLICE || status === RUN_RING_FULL) {
      if (status === RUN_RING_FULL) this.#makeRoom()
      // Coming back here lets Node end the thread (worker.terminate(), process.exit()) meanwhile.
      letNodeInterrupt()
      if (signal?.aborted) throw new AbortError(signal)
      status = this.#enter() ?? 0
    }
    if (status === 0) return this.exitTable.current
    if (status < 0) throw kvmError(status, { ioctl: 'KVM_RUN', vcpuId: this.id })
    if (status & RUN_STOPPED && this.closed)
      throw closedError({ ioctl: 'KVM_RUN', vcpuId: this.id })
    return this.exitTable.intr
  }

  #makeRoom(): void {
    // Otherwise it is another thread's to drain, and takes that as long as it takes.
    if (this.vm.drainSinks() === 0) Atomics.wait(pause, 0, 0, 0.05)
  }

  /**
   * Finishes the instruction that the last exit interrupted (port, memory, MSR, hypercall: `'io'`,
   * `'mmio'`, `'rdmsr'`, `'wrmsr'`, `'hypercall'`, …) with the answer given so far, without running
   * any further one. Until then the registers are those of before the instruction, and saving them
   * would lose the answer. {@link saveState} does it by itself.
   *
   * @returns Undefined; or an exit, when the same instruction wants more (the second half of a
   *   16-byte access): answer it and call again.
   * @throws KvmError `ERR_KVM_IO_PENDING` when the answer is a {@link WriteSink} that is full and
   *   another thread's.
   * @ioctl KVM_RUN (KVM API 5, immediate_exit)
   * @capability KVM_CAP_IMMEDIATE_EXIT
   */
  completeIo(): Exit | undefined {
    let status = this.native.vcpuCompleteIo(this.#handle)
    while (status === RUN_RING_FULL && this.vm.drainSinks() > 0) {
      status = this.native.vcpuCompleteIo(this.#handle)
    }
    if (status === RUN_RING_FULL) {
      const text = 'a WriteSink is full, which another thread must drain'
      throw new KvmError('ERR_KVM_IO_PENDING', undefined, text, { vcpuId: this.id })
    }
    if (status < 0) throw kvmError(status, { ioctl: 'KVM_RUN', vcpuId: this.id })
    return status === 0 ? this.exitTable.current : undefined
  }

  /**
   * Ends the run that is under way, from any thread: it returns an `'intr'` exit. Without one, the
   * next run ends that way at once. Never blocks, harmless on a closed vCPU.
   */
  kick(): void {
    this.#chosen[0] = this.#slot
    this.native.kick()
  }

  /**
   * Everything KVM keeps for this vCPU, as a plain value: CPUID, registers, MSRs, FPU, LAPIC, nested
   * state, what is pending. Not saved: guest RAM, the VM's own state ({@link Vm.saveState}), and what
   * the VMM chose (debugging, signal mask, enabled capabilities, Xen attributes).
   *
   * The instruction of the last exit is finished first, see {@link completeIo}. Stop the VM's other
   * vCPUs as well: they may send this one interrupts. Needs the VM and its {@link Kvm} open.
   *
   * @throws KvmError `ERR_KVM_IO_PENDING` when that instruction needs another answer.
   */
  saveState(): VcpuState {
    return saveVcpuState(this)
  }

  /**
   * Makes this vCPU what {@link saveState} saw. It must be one that has not run yet, in a VM with the
   * same interrupt controllers, enabled capabilities and guest RAM in place: some MSRs point there.
   * KVM lets a one-shot APIC timer that was over fire once more, since it cannot tell whether its
   * interrupt had been taken.
   *
   * @throws KvmError naming the first part that this host refuses; the vCPU is then of no more use.
   */
  restoreState(state: VcpuState): void {
    restoreVcpuState(this, state)
  }

  /**
   * Registers that travel in the run page, without ioctls.
   *
   * @param which What to keep up to date; everything unless said.
   * @capability KVM_CAP_SYNC_REGS (KVM API 5, kvm_valid_regs)
   */
  enableSyncRegs(which: { regs?: boolean; sregs?: boolean; events?: boolean } = {}): SyncRegs {
    const { regs = true, sregs = true, events = true } = object(which, 'which')
    const mask =
      (regs ? KVM_SYNC_X86_REGS : 0) |
      (sregs ? KVM_SYNC_X86_SREGS : 0) |
      (events ? KVM_SYNC_X86_EVENTS : 0)
    if (this.closed) throw closedError({ vcpuId: this.id })
    if ((mask & ~this.#syncable) !== 0) throw capabilityMissing('KVM_CAP_SYNC_REGS')
    this.#syncRegs = new SyncRegs(this.#page, mask)
    return this.#syncRegs
  }

  /** What {@link enableSyncRegs} gave. */
  get syncRegs(): SyncRegs | undefined {
    return this.#syncRegs
  }
}

const pause = new Int32Array(new SharedArrayBuffer(4))

// A JavaScript call is where V8 looks whether it shall stop; a loop around a native one is not.
function letNodeInterrupt(): void {}
