// A vCPU: its registers, and the way into the guest.

import { type Binding, RUN_SLICE, RUN_STOPPED, type VcpuHandle } from '../binding.js'
import {
  decodeKvmCpuidEntry2,
  decodeKvmFpu,
  decodeKvmMsrEntry,
  decodeKvmRegs,
  decodeKvmSregs,
  decodeKvmVcpuEvents,
  encodeKvmCpuidEntry2,
  encodeKvmFpu,
  encodeKvmMsrEntry,
  encodeKvmRegs,
  encodeKvmSregs,
  encodeKvmVcpuEvents,
  KVM_CAP_SYNC_REGS,
  KVM_CAP_XSAVE2,
  KVM_GET_CPUID2,
  KVM_GET_FPU,
  KVM_GET_LAPIC,
  KVM_GET_MP_STATE,
  KVM_GET_MSRS,
  KVM_GET_REGS,
  KVM_GET_SREGS,
  KVM_GET_VCPU_EVENTS,
  KVM_GET_XSAVE,
  KVM_GET_XSAVE2,
  KVM_SET_CPUID2,
  KVM_SET_FPU,
  KVM_SET_LAPIC,
  KVM_SET_MP_STATE,
  KVM_SET_MSRS,
  KVM_SET_REGS,
  KVM_SET_SREGS,
  KVM_SET_VCPU_EVENTS,
  KVM_SET_XSAVE,
  KVM_SYNC_X86_EVENTS,
  KVM_SYNC_X86_REGS,
  KVM_SYNC_X86_SREGS,
  type KvmCpuidEntry2,
  type KvmFpu,
  type KvmRegs,
  type KvmSregs,
  type KvmVcpuEvents,
  StructView,
} from '../uapi/index.js'
import { withDraft } from './draft.js'
import { AbortError, capabilityMissing, closedError, KvmError, kvmError } from './errors.js'
import { type Exit, ExitTable } from './exits.js'
import { KvmFile } from './file.js'
import { SyncRegs } from './sync-regs.js'
import {
  bytes,
  callback,
  instance,
  invalidArgType,
  list,
  object,
  outOfRange,
  uint32,
} from './validate.js'
import { type ExitHandler, VcpuThread } from './vcpu-thread.js'
import type { Vm } from './vm.js'

/** The kernel takes at most this many MSRs in one call. */
const MSR_BATCH = 255
const MAX_CPUID_ENTRIES = 256
const XSAVE_SIZE = 4096

/** Limits of one {@link Vcpu.run}. */
export interface RunOptions {
  /** After this many milliseconds in the guest, the run ends with an `'intr'` exit. */
  timeoutMs?: number
  /** Looked at before the guest is entered and whenever the thread is back in JavaScript. */
  signal?: AbortSignal
}

/** One MSR and its value. */
export interface MsrEntry {
  index: number
  data: bigint
}

/**
 * A virtual CPU. One thread at a time may use it; a call that finds it in use by another throws
 * `ERR_KVM_BUSY`.
 */
export class Vcpu extends KvmFile {
  /** The VM it belongs to. */
  readonly vm: Vm
  /** Its number, which is also its initial APIC id. */
  readonly id: number
  readonly #handle: VcpuHandle
  readonly #slot: number
  readonly #chosen: Uint32Array
  readonly #runChosen: () => number | undefined
  readonly #page: StructView
  readonly #exits: ExitTable
  // Asked for once, here: a vCPU outlives the VM's own file.
  readonly #xsaveSize: number
  readonly #syncable: number
  #syncRegs: SyncRegs | undefined
  #thread: VcpuThread | undefined

  private constructor(native: Binding, handle: VcpuHandle, vm: Vm, id: number) {
    super(native, handle)
    this.vm = vm
    this.id = id
    this.#handle = handle
    this.#slot = handle.slot
    this.#chosen = native.chosen
    this.#runChosen = native.run
    this.#page = new StructView(native.runPage(handle))
    this.#exits = new ExitTable(this.#page)
    this.#xsaveSize = Math.max(vm.checkExtension(KVM_CAP_XSAVE2), XSAVE_SIZE)
    this.#syncable = vm.checkExtension(KVM_CAP_SYNC_REGS)
  }

  /** @internal */
  static adopt(native: Binding, handle: VcpuHandle, vm: Vm, id: number): Vcpu {
    return new Vcpu(native, handle, vm, id)
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
    if (options !== undefined) return this.#runLimited(options)
    const status = this.#enter()
    return status === undefined ? this.#exits.current : this.#resolveRun(status)
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
    while (status === RUN_SLICE) {
      // Coming back here lets Node end the thread (worker.terminate(), process.exit()) meanwhile.
      letNodeInterrupt()
      if (signal?.aborted) throw new AbortError(signal)
      status = this.#enter() ?? 0
    }
    if (status === 0) return this.#exits.current
    if (status < 0) throw kvmError(status, { ioctl: 'KVM_RUN', vcpuId: this.id })
    if (status & RUN_STOPPED && this.closed)
      throw closedError({ ioctl: 'KVM_RUN', vcpuId: this.id })
    return this.#exits.intr
  }

  /**
   * Ends the run that is under way, from any thread: it returns an `'intr'` exit. Without one, the
   * next run ends that way at once. Never blocks, harmless on a closed vCPU.
   */
  kick(): void {
    this.#handle.kick()
  }

  /**
   * Runs the guest on a thread of its own. Each exit is handed to `handler` on the thread that
   * called `start`, one at a time; the guest continues when it was answered. Use {@link join} to
   * wait for the end and to learn of errors, {@link stop} to bring it about.
   */
  start(handler: ExitHandler): void {
    callback(handler, 'handler')
    if (this.closed) throw closedError({ vcpuId: this.id })
    if (this.#thread !== undefined) {
      throw new KvmError('ERR_KVM_BUSY', undefined, 'the vCPU already runs on a thread', {
        vcpuId: this.id,
      })
    }
    const thread = new VcpuThread(this.native, this.#handle, this.#exits, handler)
    const forget = () => {
      if (this.#thread === thread) this.#thread = undefined
    }
    this.#thread = thread
    this.#ended = thread.ended
    thread.ended.then(forget, forget)
  }

  #ended: Promise<void> | undefined

  /** Asks the vCPU's thread to end, wherever it is. Returns at once; {@link join} waits. */
  requestStop(): void {
    this.#thread?.stop()
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
    return this.#thread?.tid
  }

  override close(): void {
    this.#thread?.stop()
    super.close()
  }

  /** General-purpose registers. @ioctl KVM_GET_REGS (KVM API 4.11) */
  getRegs(): KvmRegs {
    this.request(KVM_GET_REGS, 'KVM_GET_REGS')
    return decodeKvmRegs(this.native.view, 0)
  }
  /** @ioctl KVM_SET_REGS (KVM API 4.12) */
  setRegs(regs: KvmRegs): void {
    object(regs, 'regs')
    this.send(KVM_SET_REGS, 'KVM_SET_REGS', (draft) => encodeKvmRegs(draft, 0, regs))
  }

  /** Changes the registers named, and no others: {@link getRegs} and {@link setRegs} in one. */
  updateRegs(changes: Partial<KvmRegs>): void {
    this.setRegs({ ...this.getRegs(), ...object(changes, 'changes') })
  }

  /** Segments, control registers, tables, EFER, APIC base. @ioctl KVM_GET_SREGS (KVM API 4.13) */
  getSregs(): KvmSregs {
    this.request(KVM_GET_SREGS, 'KVM_GET_SREGS')
    return decodeKvmSregs(this.native.view, 0)
  }
  /** @ioctl KVM_SET_SREGS (KVM API 4.14) */
  setSregs(sregs: KvmSregs): void {
    object(sregs, 'sregs')
    this.send(KVM_SET_SREGS, 'KVM_SET_SREGS', (draft) => encodeKvmSregs(draft, 0, sregs))
  }

  /** Changes the registers named, and no others: {@link getSregs} and {@link setSregs} in one. */
  updateSregs(changes: Partial<KvmSregs>): void {
    this.setSregs({ ...this.getSregs(), ...object(changes, 'changes') })
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

  /**
   * What the guest's CPUID instruction answers. Before the first run.
   *
   * @ioctl KVM_SET_CPUID2 (KVM API 4.20) @capability KVM_CAP_EXT_CPUID
   */
  setCpuid2(entries: readonly KvmCpuidEntry2[]): void {
    const leaves = list(entries, 'entries')
    if (leaves.length > MAX_CPUID_ENTRIES) {
      throw outOfRange('entries.length', `<= ${MAX_CPUID_ENTRIES}`, leaves.length)
    }
    this.send(KVM_SET_CPUID2, 'KVM_SET_CPUID2', (draft) => {
      draft.u32[0] = leaves.length
      draft.u32[1] = 0
      for (let i = 0; i < leaves.length; i++) encodeKvmCpuidEntry2(draft, 8 + i * 40, leaves[i]!)
    })
  }
  /** @ioctl KVM_GET_CPUID2 (KVM API 4.21) @capability KVM_CAP_EXT_CPUID */
  getCpuid2(): KvmCpuidEntry2[] {
    const { view } = this.native
    view.u32[0] = MAX_CPUID_ENTRIES
    view.u32[1] = 0
    this.request(KVM_GET_CPUID2, 'KVM_GET_CPUID2')
    return Array.from({ length: view.u32[0]! }, (_, i) => decodeKvmCpuidEntry2(view, 8 + i * 40))
  }

  /**
   * Reads MSRs, any number of them.
   *
   * @ioctl KVM_GET_MSRS (KVM API 4.18)
   * @throws KvmError naming the first MSR that KVM refuses to read.
   */
  getMsrs(indices: readonly number[]): MsrEntry[] {
    const entries = list(indices, 'indices').map((index) => ({
      index: uint32(index, 'indices'),
      data: 0n,
    }))
    return batches(entries).flatMap((batch) =>
      this.#transferMsrs(KVM_GET_MSRS, 'KVM_GET_MSRS', batch),
    )
  }

  /**
   * Writes MSRs in order, any number of them.
   *
   * @ioctl KVM_SET_MSRS (KVM API 4.19)
   * @throws KvmError naming the MSR that KVM refused; those before it are written.
   */
  setMsrs(entries: readonly MsrEntry[]): void {
    for (const batch of batches(list(entries, 'entries'))) {
      this.#transferMsrs(KVM_SET_MSRS, 'KVM_SET_MSRS', batch)
    }
  }

  // KERNEL: both requests return how many MSRs they got through and stop at the first they refuse.
  #transferMsrs(request: number, name: string, batch: readonly MsrEntry[]): MsrEntry[] {
    return withDraft((draft) => {
      for (let i = 0; i < batch.length; i++) encodeKvmMsrEntry(draft, 8 + i * 16, batch[i]!)
      draft.u32[0] = batch.length
      draft.u32[1] = 0
      const done = this.request(request, name, draft.buffer as ArrayBuffer)
      const entries = batch.map((_, i) => msrEntry(draft, i))
      if (done === batch.length) return entries
      throw kvmError(-22, {
        ioctl: name,
        msr: entries[done]!.index,
        reason: 'KVM refuses this MSR',
      })
    })
  }

  /** x87 and SSE state. @ioctl KVM_GET_FPU (KVM API 4.22) */
  getFpu(): KvmFpu {
    this.request(KVM_GET_FPU, 'KVM_GET_FPU')
    return decodeKvmFpu(this.native.view, 0)
  }
  /** @ioctl KVM_SET_FPU (KVM API 4.23) */
  setFpu(fpu: KvmFpu): void {
    object(fpu, 'fpu')
    this.send(KVM_SET_FPU, 'KVM_SET_FPU', (draft) => encodeKvmFpu(draft, 0, fpu))
  }

  /**
   * The XSAVE area, all extended states, in the layout of CPUID leaf 0xD: 4096 bytes or, where
   * KVM_CAP_XSAVE2 says so, more.
   *
   * @ioctl KVM_GET_XSAVE2, else KVM_GET_XSAVE (KVM API 4.134, 4.43)
   */
  getXsave(): Uint8Array {
    const size = this.#xsaveSize
    if (size > XSAVE_SIZE) this.request(KVM_GET_XSAVE2, 'KVM_GET_XSAVE2')
    else this.request(KVM_GET_XSAVE, 'KVM_GET_XSAVE')
    return this.native.view.u8.slice(0, size)
  }
  /** @ioctl KVM_SET_XSAVE (KVM API 4.44) */
  setXsave(area: Uint8Array): void {
    const size = this.#xsaveSize
    bytes(area, 'area')
    if (area.length !== size) throw outOfRange('area.length', `${size}`, area.length)
    this.native.view.u8.set(area)
    this.request(KVM_SET_XSAVE, 'KVM_SET_XSAVE')
  }

  /**
   * Exceptions, interrupts, NMIs and SMIs that are pending or being delivered.
   *
   * @ioctl KVM_GET_VCPU_EVENTS (KVM API 4.31) @capability KVM_CAP_VCPU_EVENTS
   */
  getVcpuEvents(): KvmVcpuEvents {
    this.request(KVM_GET_VCPU_EVENTS, 'KVM_GET_VCPU_EVENTS')
    return decodeKvmVcpuEvents(this.native.view, 0)
  }
  /** @ioctl KVM_SET_VCPU_EVENTS (KVM API 4.32) @capability KVM_CAP_VCPU_EVENTS */
  setVcpuEvents(events: KvmVcpuEvents): void {
    object(events, 'events')
    this.send(KVM_SET_VCPU_EVENTS, 'KVM_SET_VCPU_EVENTS', (draft) =>
      encodeKvmVcpuEvents(draft, 0, events),
    )
  }

  /**
   * `KVM_MP_STATE_*`: 0 runnable, 1 uninitialized (waits for INIT), 2 init received, 3 halted.
   *
   * @ioctl KVM_GET_MP_STATE (KVM API 4.38) @capability KVM_CAP_MP_STATE
   */
  getMpState(): number {
    this.request(KVM_GET_MP_STATE, 'KVM_GET_MP_STATE')
    return this.native.view.u32[0]!
  }
  /** @ioctl KVM_SET_MP_STATE (KVM API 4.39) @capability KVM_CAP_MP_STATE */
  setMpState(state: number): void {
    this.native.view.u32[0] = uint32(state, 'state')
    this.request(KVM_SET_MP_STATE, 'KVM_SET_MP_STATE')
  }

  /**
   * The in-kernel LAPIC's registers, 1024 bytes in the xAPIC layout.
   *
   * @ioctl KVM_GET_LAPIC (KVM API 4.57) @capability KVM_CAP_IRQCHIP
   */
  getLapic(): Uint8Array {
    this.request(KVM_GET_LAPIC, 'KVM_GET_LAPIC')
    return this.native.view.u8.slice(0, 1024)
  }
  /** @ioctl KVM_SET_LAPIC (KVM API 4.58) @capability KVM_CAP_IRQCHIP */
  setLapic(regs: Uint8Array): void {
    bytes(regs, 'regs')
    if (regs.length !== 1024) throw outOfRange('regs.length', '1024', regs.length)
    this.native.view.u8.set(regs)
    this.request(KVM_SET_LAPIC, 'KVM_SET_LAPIC')
  }
}

// A JavaScript call is where V8 looks whether it shall stop; a loop around a native one is not.
function letNodeInterrupt(): void {}

function batches(entries: readonly MsrEntry[]): MsrEntry[][] {
  const count = Math.ceil(entries.length / MSR_BATCH)
  return Array.from({ length: count }, (_, i) => entries.slice(i * MSR_BATCH, (i + 1) * MSR_BATCH))
}

function msrEntry(view: StructView, i: number): MsrEntry {
  const { index, data } = decodeKvmMsrEntry(view, 8 + i * 16)
  return { index, data }
}
