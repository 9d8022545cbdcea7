// Exits that most VMMs never see: each belongs to a capability or a kind of VM that must be asked
// for. Same rules as in exits.ts: objects over the page, fields read when asked for.

import type { StructView } from '../../uapi/index.js'

/** An exception KVM intercepted and could not handle (`KVM_EXIT_EXCEPTION`). */
export class ExceptionExit {
  readonly type = 'exception'
  readonly #page: StructView
  constructor(page: StructView) {
    this.#page = page
  }
  /** The vector. */
  get exception(): number {
    return this.#page.u32[8]!
  }
  get errorCode(): number {
    return this.#page.u32[9]!
  }
}

/** A hypercall that KVM_CAP_EXIT_HYPERCALL sends to user space (`KVM_EXIT_HYPERCALL`). */
export class HypercallExit {
  readonly type = 'hypercall'
  readonly #page: StructView
  constructor(page: StructView) {
    this.#page = page
  }
  /** `KVM_HC_*`. */
  get nr(): number {
    return this.#page.u32[8]!
  }
  /** The six arguments; a copy. */
  get args(): bigint[] {
    return Array.from(this.#page.u64.subarray(5, 11))
  }
  /** `KVM_EXIT_HYPERCALL_LONG_MODE` (1). */
  get flags(): bigint {
    return this.#page.u64[12]!
  }
  /** What the guest gets in RAX. */
  get ret(): bigint {
    return this.#page.u64[11]!
  }
  set ret(value: bigint) {
    this.#page.u64[11] = value
  }
}

/** CR8 was lowered while the LAPIC is in user space (`KVM_EXIT_SET_TPR`). */
export class SetTprExit {
  readonly type = 'setTpr'
  readonly #page: StructView
  constructor(page: StructView) {
    this.#page = page
  }
  get cr8(): bigint {
    return this.#page.u64[2]!
  }
}

/** A task-priority access under KVM_TPR_ACCESS_REPORTING (`KVM_EXIT_TPR_ACCESS`). */
export class TprAccessExit {
  readonly type = 'tprAccess'
  readonly #page: StructView
  constructor(page: StructView) {
    this.#page = page
  }
  get rip(): bigint {
    return this.#page.u64[4]!
  }
  get isWrite(): boolean {
    return this.#page.u32[10] !== 0
  }
}

/** The guest asked for a reset, or crashed, by a paravirtual way (`KVM_EXIT_SYSTEM_EVENT`). */
export class SystemEventExit {
  readonly type = 'systemEvent'
  readonly #page: StructView
  constructor(page: StructView) {
    this.#page = page
  }
  /** `KVM_SYSTEM_EVENT_*`: 2 reset, 3 crash, 6 SEV termination, 7 TDX fatal error. */
  get event(): number {
    return this.#page.u32[8]!
  }
  /** What the event brings (crash parameters, the GHCB address, TDX registers); a copy. */
  get data(): bigint[] {
    return Array.from(this.#page.u64.subarray(5, 5 + Math.min(this.#page.u32[9]!, 16)))
  }
}

/** Hyper-V SynIC, hypercall or debugger access (`KVM_EXIT_HYPERV`). */
export class HyperVExit {
  readonly type = 'hyperv'
  readonly #page: StructView
  constructor(page: StructView) {
    this.#page = page
  }
  /** `KVM_EXIT_HYPERV_SYNIC` (1), `_HCALL` (2) or `_SYNDBG` (3). */
  get event(): number {
    return this.#page.u32[8]!
  }
  get synic(): { msr: number; control: bigint; evtPage: bigint; msgPage: bigint } {
    const { u32, u64 } = this.#page
    return { msr: u32[10]!, control: u64[6]!, evtPage: u64[7]!, msgPage: u64[8]! }
  }
  get hcall(): { input: bigint; params: [bigint, bigint] } {
    const { u64 } = this.#page
    return { input: u64[5]!, params: [u64[7]!, u64[8]!] }
  }
  get syndbg(): {
    msr: number
    control: bigint
    sendPage: bigint
    recvPage: bigint
    pendingPage: bigint
  } {
    const { u32, u64 } = this.#page
    return {
      msr: u32[10]!,
      control: u64[6]!,
      sendPage: u64[8]!,
      recvPage: u64[9]!,
      pendingPage: u64[10]!,
    }
  }
  /** The answer: a hypercall's result, or the debugger's status. */
  get result(): bigint {
    return this.#page.u64[this.event === 3 ? 7 : 6]!
  }
  set result(value: bigint) {
    this.#page.u64[this.event === 3 ? 7 : 6] = value
  }
}

/** Harvest the dirty rings and reset them before running on (`KVM_EXIT_DIRTY_RING_FULL`). */
export class DirtyRingFullExit {
  readonly type = 'dirtyRingFull'
}

/** A SEV-ES application processor waits to be started (`KVM_EXIT_AP_RESET_HOLD`). */
export class ApResetHoldExit {
  readonly type = 'apResetHold'
}

/** The guest locked the bus (`KVM_EXIT_X86_BUS_LOCK`). */
export class BusLockExit {
  readonly type = 'busLock'
}

/** A Xen hypercall for user space (`KVM_EXIT_XEN`). */
export class XenExit {
  readonly type = 'xen'
  readonly #page: StructView
  constructor(page: StructView) {
    this.#page = page
  }
  /** `KVM_EXIT_XEN_HCALL` (1). */
  get event(): number {
    return this.#page.u32[8]!
  }
  get longmode(): boolean {
    return this.#page.u32[10] !== 0
  }
  get cpl(): number {
    return this.#page.u32[11]!
  }
  get input(): bigint {
    return this.#page.u64[6]!
  }
  /** The six parameters; a copy. */
  get params(): bigint[] {
    return Array.from(this.#page.u64.subarray(8, 14))
  }
  get result(): bigint {
    return this.#page.u64[7]!
  }
  set result(value: bigint) {
    this.#page.u64[7] = value
  }
}

/** No interrupt window opened for too long (`KVM_EXIT_NOTIFY`). */
export class NotifyExit {
  readonly type = 'notify'
  readonly #page: StructView
  constructor(page: StructView) {
    this.#page = page
  }
  /** `KVM_NOTIFY_CONTEXT_INVALID` (1): the guest's state is lost. */
  get flags(): number {
    return this.#page.u32[8]!
  }
}

/** A TDX guest called its host (`KVM_EXIT_TDX`). */
export class TdxExit {
  readonly type = 'tdx'
  readonly #page: StructView
  constructor(page: StructView) {
    this.#page = page
  }
  /** `KVM_EXIT_TDX_*`; none is defined. */
  get flags(): bigint {
    return this.#page.u64[4]!
  }
  /** The TDVMCALL leaf; the getters below are for one each. */
  get nr(): bigint {
    return this.#page.u64[5]!
  }
  /** What the guest gets in R10: `TDVMCALL_STATUS_*`. */
  get ret(): bigint {
    return this.#page.u64[6]!
  }
  set ret(value: bigint) {
    this.#page.u64[6] = value
  }
  /** Of GetQuote (0x10002): the shared buffer with the report, which takes the quote. */
  get quote(): { gpa: number; size: number } {
    const { u64 } = this.#page
    return { gpa: Number(u64[7]), size: Number(u64[8]) }
  }
  /** Of GetTdVmCallInfo (0x10000): the leaf that is asked about. Answer with {@link setRegisters}. */
  get infoLeaf(): bigint {
    return this.#page.u64[7]!
  }
  /** Answers GetTdVmCallInfo: what the guest gets in R11 to R14. */
  setRegisters(r11: bigint, r12: bigint, r13: bigint, r14: bigint): void {
    this.#page.u64.set([r11, r12, r13, r14], 8)
  }
  /** Of SetupEventNotifyInterrupt (0x10004): the vector on which the guest wants to be told. */
  get vector(): bigint {
    return this.#page.u64[7]!
  }
  /** `ret` followed by what the leaf brings (KVM API, KVM_EXIT_TDX); a copy. */
  get data(): bigint[] {
    return Array.from(this.#page.u64.subarray(6, 12))
  }
  /** Answers: the return code, and the outputs behind it. */
  set data(values: readonly bigint[]) {
    this.#page.u64.set(values.slice(0, 6), 6)
  }
}

/** A SEV-SNP guest wants an attestation report with certificates (`KVM_EXIT_SNP_REQ_CERTS`). */
export class SnpReqCertsExit {
  readonly type = 'snpReqCerts'
  readonly #page: StructView
  constructor(page: StructView) {
    this.#page = page
  }
  /** Where the guest wants them. */
  get gpa(): number {
    return Number(this.#page.u64[4])
  }
  /** Room for them, in pages; set it together with ENOSPC. */
  get npages(): number {
    return Number(this.#page.u64[5])
  }
  set npages(value: number) {
    this.#page.u64[5] = BigInt(value)
  }
  /** 0, or a positive ENOSPC, EAGAIN or EIO. */
  get ret(): number {
    return Number(this.#page.u64[6])
  }
  set ret(value: number) {
    this.#page.u64[6] = BigInt(value)
  }
}

/** The exits of this file. */
export type RareExit =
  | ExceptionExit
  | HypercallExit
  | SetTprExit
  | TprAccessExit
  | SystemEventExit
  | HyperVExit
  | DirtyRingFullExit
  | ApResetHoldExit
  | BusLockExit
  | XenExit
  | NotifyExit
  | TdxExit
  | SnpReqCertsExit
