// The head of the run page: what passes between KVM and the VMM beside the exits, at every entry.

import {
  KVM_RUN_X86_BUS_LOCK,
  KVM_RUN_X86_GUEST_MODE,
  KVM_RUN_X86_SMM,
  type StructView,
} from '../../uapi/index.js'

/**
 * Fields of `struct kvm_run` that every run updates, whatever its exit (KVM API 5). A vCPU has one;
 * reading costs no ioctl.
 */
export class RunState {
  readonly #page: StructView

  /** @internal */
  constructor(page: StructView) {
    this.#page = page
  }

  /** Ask for an `'irqWindowOpen'` exit as soon as {@link Vcpu.interrupt} would do. */
  get requestInterruptWindow(): boolean {
    return this.#page.u8[0] !== 0
  }
  set requestInterruptWindow(value: boolean) {
    this.#page.u8[0] = value ? 1 : 0
  }
  /** Whether the guest could take an interrupt at the last exit. */
  get readyForInterruptInjection(): boolean {
    return this.#page.u8[12] !== 0
  }
  /** RFLAGS.IF at the last exit. */
  get ifFlag(): boolean {
    return this.#page.u8[13] !== 0
  }
  /** `KVM_RUN_X86_*`; see the properties below. */
  get flags(): number {
    return this.#page.u16[7]!
  }
  /** The vCPU is in system-management mode. */
  get isInSmm(): boolean {
    return (this.flags & KVM_RUN_X86_SMM) !== 0
  }
  /** A bus lock was seen since the run began, whatever ended it (KVM_CAP_X86_BUS_LOCK_EXIT). */
  get hasBusLock(): boolean {
    return (this.flags & KVM_RUN_X86_BUS_LOCK) !== 0
  }
  /** The guest's own guest was running (KVM_CAP_X86_GUEST_MODE). */
  get isInGuestMode(): boolean {
    return (this.flags & KVM_RUN_X86_GUEST_MODE) !== 0
  }
  /** The task priority; what is written counts when the LAPIC is not in the kernel. */
  get cr8(): bigint {
    return this.#page.u64[2]!
  }
  set cr8(value: bigint) {
    this.#page.u64[2] = value
  }
  /** IA32_APIC_BASE. */
  get apicBase(): bigint {
    return this.#page.u64[3]!
  }
}
