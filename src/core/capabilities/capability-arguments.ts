// The arguments of the capabilities that can be turned on, by name. The sources are KVM API chapters
// 6 (vCPU) and 7 (VM), and the kernel where they are silent.

import type { PlainFile } from '../plain-file.js'
import type { Vm } from '../vm.js'

/** Of a capability without arguments. */
export type NoArguments = Record<never, never>

/** Of a capability that is a switch. */
export interface Switch {
  /** Default true. */
  enabled?: boolean
}

/** What the capabilities of a VM take, by name: the second argument of {@link Vm.enableCap}. */
export interface VmCapabilityArguments {
  /** Quirks to switch off: `KVM_X86_QUIRK_*`. Unknown ones are ignored. (KVM API 7.31) */
  KVM_CAP_DISABLE_QUIRKS: { quirks: number }
  /** Quirks to switch off: `KVM_X86_QUIRK_*`. (KVM API 7.31) */
  KVM_CAP_DISABLE_QUIRKS2: { quirks: number }
  /**
   * LAPICs in the kernel, PIC and IOAPIC outside of it. Before the first vCPU. `routes`: how many
   * interrupt routes are the IOAPIC's, at most 4096. (KVM API 7.5)
   */
  KVM_CAP_SPLIT_IRQCHIP: { routes: number }
  /** The highest APIC id of this VM; once, before the first vCPU. (KVM API 7.32) */
  KVM_CAP_MAX_VCPU_ID: { maxVcpuId: number }
  /** `KVM_X2APIC_API_*`, `KVM_X2APIC_*_SUPPRESS_EOI_BROADCAST`. (KVM API 7.7) */
  KVM_CAP_X2APIC_API: { flags: number }
  /** Exits not to be taken: `KVM_X86_DISABLE_EXITS_*`. Before the first vCPU. (KVM API 7.13) */
  KVM_CAP_X86_DISABLE_EXITS: { exits: number }
  /** Whether the guest may read MSR_PLATFORM_INFO. (KVM API 7.15) */
  KVM_CAP_MSR_PLATFORM_INFO: Switch
  /** Exception payloads and the pending state in `kvm_vcpu_events`. (KVM API 7.17) */
  KVM_CAP_EXCEPTION_PAYLOAD: Switch
  /** `KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE` (1), `KVM_DIRTY_LOG_INITIALLY_SET` (2). (KVM API 7.18) */
  KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: { modes: number }
  /** Longest poll in the kernel when a guest halts, in nanoseconds; 0: none. (KVM API 7.20) */
  KVM_CAP_HALT_POLL: { maxNs: number }
  /** MSR accesses that exit: `KVM_MSR_EXIT_REASON_*`. (KVM API 7.21) */
  KVM_CAP_X86_USER_SPACE_MSR: { reasons: number }
  /** Bytes of each vCPU's dirty ring, a power of two; once, before the first vCPU. (KVM API 8.29) */
  KVM_CAP_DIRTY_LOG_RING: { size: number }
  /** The same ring, with the order of accesses that weakly ordered hosts need. (KVM API 8.29) */
  KVM_CAP_DIRTY_LOG_RING_ACQ_REL: { size: number }
  /** `KVM_BUS_LOCK_DETECTION_OFF` (1) or `KVM_BUS_LOCK_DETECTION_EXIT` (2). (KVM API 7.22) */
  KVM_CAP_X86_BUS_LOCK_EXIT: { modes: number }
  /** The file that allows enclaves to use the provisioning key. (KVM API 7.25) */
  KVM_CAP_SGX_ATTRIBUTE: { file: PlainFile }
  /** The SEV VM whose encryption context this one shares. (KVM API 7.24) */
  KVM_CAP_VM_COPY_ENC_CONTEXT_FROM: { source: Vm }
  /** The SEV VM whose encryption context moves here. (KVM API 7.29) */
  KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM: { source: Vm }
  /** Hypercalls that exit, a bit for each number: `1 << KVM_HC_MAP_GPA_RANGE`. (KVM API 8.34) */
  KVM_CAP_EXIT_HYPERCALL: { hypercalls: number }
  /** Whether each instruction that KVM cannot emulate ends in an exit. (KVM API 7.27) */
  KVM_CAP_EXIT_ON_EMULATION_FAILURE: Switch
  /** `KVM_PMU_CAP_DISABLE` (1): no PMU. Before the first vCPU. (KVM API 8.35) */
  KVM_CAP_PMU_CAPABILITY: { capabilities: number }
  /** A pending triple fault in `kvm_vcpu_events`. (KVM API 4.32) */
  KVM_CAP_X86_TRIPLE_FAULT_EVENT: Switch
  /**
   * Ends runs in which no event window opens for `window` TSC cycles.
   * `KVM_X86_NOTIFY_VMEXIT_ENABLED` (1), `_USER` (2). Before the first vCPU. (KVM API 7.33)
   */
  KVM_CAP_X86_NOTIFY_VMEXIT: { flags: number; window: number }
  /**
   * Lets guest code run from huge pages without the iTLB multihit mitigation. Before the first vCPU;
   * needs the capability to reboot the host. (KVM API 8.38)
   */
  KVM_CAP_VM_DISABLE_NX_HUGE_PAGES: NoArguments
  /** Nanoseconds of a cycle of the APIC timer. Before the first vCPU. (KVM API 7.35) */
  KVM_CAP_X86_APIC_BUS_CYCLES_NS: { periodNs: number }
}

/** What the capabilities of a vCPU take, by name: the second argument of {@link Vcpu.enableCap}. */
export interface VcpuCapabilityArguments {
  /** Hyper-V's synthetic interrupt controller. (KVM API 8.2) */
  KVM_CAP_HYPERV_SYNIC: NoArguments
  /** The same, without wiping the pages that the guest names for messages. (KVM API 8.11) */
  KVM_CAP_HYPERV_SYNIC2: NoArguments
  /** Hyper-V's shortcut for nested guests. The call returns the version supported. (KVM API 4.118) */
  KVM_CAP_HYPERV_ENLIGHTENED_VMCS: NoArguments
  /** Lets a Hyper-V guest's own host flush TLBs for it. (KVM API 8.21) */
  KVM_CAP_HYPERV_DIRECT_TLBFLUSH: NoArguments
  /** Refuses paravirtual features of KVM that the guest's CPUID does not have. (KVM API 8.28) */
  KVM_CAP_ENFORCE_PV_FEATURE_CPUID: Switch
  /** The same for those of Hyper-V. (KVM API 8.33) */
  KVM_CAP_HYPERV_ENFORCE_CPUID: Switch
}

/** Capabilities that can be turned on for a VM. */
export type VmCapabilityName = keyof VmCapabilityArguments
/** Capabilities that can be turned on for a vCPU. */
export type VcpuCapabilityName = keyof VcpuCapabilityArguments

/** The arguments as a parameter list: optional where none of them is required. */
export type CapabilityParameters<T> = NoArguments extends T ? [args?: T] : [args: T]
