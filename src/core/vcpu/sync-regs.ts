// Registers that ride along in the run page (KVM_CAP_SYNC_REGS): no ioctl to read or write them.

import {
  decodeKvmRegs,
  decodeKvmSregs,
  decodeKvmVcpuEvents,
  encodeKvmRegs,
  encodeKvmSregs,
  encodeKvmVcpuEvents,
  KVM_SYNC_X86_EVENTS,
  KVM_SYNC_X86_REGS,
  KVM_SYNC_X86_SREGS,
  type KvmRegs,
  type KvmSregs,
  type KvmVcpuEvents,
  type StructView,
} from '../../uapi/index.js'
import { withDraft } from '../draft.js'

// Offsets in struct kvm_run.
const VALID = 288 / 4
const DIRTY = 296 / 4
const REGS = 304
const SREGS = 448
const EVENTS = 760
const SIZEOF_SREGS = 312
const SIZEOF_EVENTS = 64
const R = REGS / 8

/**
 * The state of a vCPU at its latest exit, in the shared run page. Reading costs no ioctl; what is
 * written takes effect when the vCPU next runs. Only what {@link Vcpu.enableSyncRegs} was asked for
 * is kept up to date.
 *
 * The general registers are also properties (`syncRegs.rip += 2n`), which allocate nothing but the
 * bigint itself.
 */
export class SyncRegs {
  readonly #page: StructView

  /** @internal */
  constructor(page: StructView, mask: number) {
    this.#page = page
    page.u32[VALID] = mask
  }

  /** All general registers at once. */
  getRegs(): KvmRegs {
    return decodeKvmRegs(this.#page, REGS)
  }
  /** What all general registers shall be when the vCPU next runs. */
  setRegs(regs: KvmRegs): void {
    encodeKvmRegs(this.#page, REGS, regs)
    this.#page.u32[DIRTY]! |= KVM_SYNC_X86_REGS
  }
  /** Segment, control and table registers, EFER and the APIC base. */
  getSregs(): KvmSregs {
    return decodeKvmSregs(this.#page, SREGS)
  }
  /** What the special registers shall be when the vCPU next runs. */
  setSregs(sregs: KvmSregs): void {
    withDraft((draft) => {
      encodeKvmSregs(draft, 0, sregs)
      this.#page.u8.set(draft.u8.subarray(0, SIZEOF_SREGS), SREGS)
    })
    this.#page.u32[DIRTY]! |= KVM_SYNC_X86_SREGS
  }
  /** Pending exceptions, interrupts, NMIs, SMIs. */
  getVcpuEvents(): KvmVcpuEvents {
    return decodeKvmVcpuEvents(this.#page, EVENTS)
  }
  /** What events shall be pending when the vCPU next runs. */
  setVcpuEvents(events: KvmVcpuEvents): void {
    withDraft((draft) => {
      encodeKvmVcpuEvents(draft, 0, events)
      this.#page.u8.set(draft.u8.subarray(0, SIZEOF_EVENTS), EVENTS)
    })
    this.#page.u32[DIRTY]! |= KVM_SYNC_X86_EVENTS
  }

  get rax(): bigint {
    return this.#page.u64[R]!
  }
  set rax(value: bigint) {
    this.#page.u64[R] = value
    this.#page.u32[DIRTY]! |= KVM_SYNC_X86_REGS
  }
  get rbx(): bigint {
    return this.#page.u64[R + 1]!
  }
  set rbx(value: bigint) {
    this.#page.u64[R + 1] = value
    this.#page.u32[DIRTY]! |= KVM_SYNC_X86_REGS
  }
  get rcx(): bigint {
    return this.#page.u64[R + 2]!
  }
  set rcx(value: bigint) {
    this.#page.u64[R + 2] = value
    this.#page.u32[DIRTY]! |= KVM_SYNC_X86_REGS
  }
  get rdx(): bigint {
    return this.#page.u64[R + 3]!
  }
  set rdx(value: bigint) {
    this.#page.u64[R + 3] = value
    this.#page.u32[DIRTY]! |= KVM_SYNC_X86_REGS
  }
  get rsi(): bigint {
    return this.#page.u64[R + 4]!
  }
  set rsi(value: bigint) {
    this.#page.u64[R + 4] = value
    this.#page.u32[DIRTY]! |= KVM_SYNC_X86_REGS
  }
  get rdi(): bigint {
    return this.#page.u64[R + 5]!
  }
  set rdi(value: bigint) {
    this.#page.u64[R + 5] = value
    this.#page.u32[DIRTY]! |= KVM_SYNC_X86_REGS
  }
  get rsp(): bigint {
    return this.#page.u64[R + 6]!
  }
  set rsp(value: bigint) {
    this.#page.u64[R + 6] = value
    this.#page.u32[DIRTY]! |= KVM_SYNC_X86_REGS
  }
  get rbp(): bigint {
    return this.#page.u64[R + 7]!
  }
  set rbp(value: bigint) {
    this.#page.u64[R + 7] = value
    this.#page.u32[DIRTY]! |= KVM_SYNC_X86_REGS
  }
  get r8(): bigint {
    return this.#page.u64[R + 8]!
  }
  set r8(value: bigint) {
    this.#page.u64[R + 8] = value
    this.#page.u32[DIRTY]! |= KVM_SYNC_X86_REGS
  }
  get r9(): bigint {
    return this.#page.u64[R + 9]!
  }
  set r9(value: bigint) {
    this.#page.u64[R + 9] = value
    this.#page.u32[DIRTY]! |= KVM_SYNC_X86_REGS
  }
  get r10(): bigint {
    return this.#page.u64[R + 10]!
  }
  set r10(value: bigint) {
    this.#page.u64[R + 10] = value
    this.#page.u32[DIRTY]! |= KVM_SYNC_X86_REGS
  }
  get r11(): bigint {
    return this.#page.u64[R + 11]!
  }
  set r11(value: bigint) {
    this.#page.u64[R + 11] = value
    this.#page.u32[DIRTY]! |= KVM_SYNC_X86_REGS
  }
  get r12(): bigint {
    return this.#page.u64[R + 12]!
  }
  set r12(value: bigint) {
    this.#page.u64[R + 12] = value
    this.#page.u32[DIRTY]! |= KVM_SYNC_X86_REGS
  }
  get r13(): bigint {
    return this.#page.u64[R + 13]!
  }
  set r13(value: bigint) {
    this.#page.u64[R + 13] = value
    this.#page.u32[DIRTY]! |= KVM_SYNC_X86_REGS
  }
  get r14(): bigint {
    return this.#page.u64[R + 14]!
  }
  set r14(value: bigint) {
    this.#page.u64[R + 14] = value
    this.#page.u32[DIRTY]! |= KVM_SYNC_X86_REGS
  }
  get r15(): bigint {
    return this.#page.u64[R + 15]!
  }
  set r15(value: bigint) {
    this.#page.u64[R + 15] = value
    this.#page.u32[DIRTY]! |= KVM_SYNC_X86_REGS
  }
  get rip(): bigint {
    return this.#page.u64[R + 16]!
  }
  set rip(value: bigint) {
    this.#page.u64[R + 16] = value
    this.#page.u32[DIRTY]! |= KVM_SYNC_X86_REGS
  }
  get rflags(): bigint {
    return this.#page.u64[R + 17]!
  }
  set rflags(value: bigint) {
    this.#page.u64[R + 17] = value
    this.#page.u32[DIRTY]! |= KVM_SYNC_X86_REGS
  }
}
