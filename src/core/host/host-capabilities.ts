// Every capability of the KVM API that can mean something on x86, asked of the kernel.

import {
  capabilityNumbers,
  KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK,
  KVM_X2APIC_API_USE_32BIT_IDS,
  KVM_X2APIC_DISABLE_SUPPRESS_EOI_BROADCAST,
  KVM_X2APIC_ENABLE_SUPPRESS_EOI_BROADCAST,
  KVM_X86_DEFAULT_VM,
  KVM_X86_SEV_ES_VM,
  KVM_X86_SEV_VM,
  KVM_X86_SNP_VM,
  KVM_X86_SW_PROTECTED_VM,
  KVM_X86_TDX_VM,
} from '../../uapi/index.js'

/** How much of everything KVM allows. */
export interface HostLimits {
  /** vCPUs of one VM. */
  maxVcpus: number
  /** vCPUs of one VM that are advised: as many as the host has processors. */
  recommendedVcpus: number
  /** One more than the largest vCPU id, which is also the APIC id. */
  maxVcpuIds: number
  /** Slots of guest RAM. */
  memslots: number
  /** Address spaces; the second one is that of SMM. */
  addressSpaces: number
  /** Entries of the interrupt routing table. */
  irqRoutes: number
  /** Bytes of a vCPU's dirty ring; 0 without. */
  dirtyRingBytes: number
  /** Bytes of nested state; 0 when guests cannot be hypervisors. */
  nestedStateBytes: number
  /** Bytes of a buffer for KVM_GET_XSAVE2. */
  xsaveBytes: number
}

const OTHER_ARCHITECTURES = /^KVM_CAP_(PPC|SPAPR|S390|ARM|MIPS|RISCV|LOONGARCH)_/

/** Names of the capabilities that are asked for, in the order of their numbers. */
export const HOST_CAPABILITY_NAMES: readonly string[] = Object.keys(capabilityNumbers)
  .filter((name) => !OTHER_ARCHITECTURES.test(name))
  .sort((a, b) => capabilityNumbers[a]! - capabilityNumbers[b]!)

/** The value of every capability, by its kernel name. */
export function readCapabilities(check: (capability: number) => number): Record<string, number> {
  return Object.fromEntries(
    HOST_CAPABILITY_NAMES.map((name) => [name, check(capabilityNumbers[name]!)]),
  )
}

/**
 * The limits, with the values that the API prescribes for a kernel which does not know the
 * capability (KVM API 4.7, 4.35 and the text of KVM_CAP_NR_VCPUS).
 */
export function limitsOf(capabilities: Readonly<Record<string, number>>): HostLimits {
  const value = (name: string) => capabilities[name] ?? 0
  const recommendedVcpus = value('KVM_CAP_NR_VCPUS') || 4
  const maxVcpus = value('KVM_CAP_MAX_VCPUS') || recommendedVcpus
  return {
    maxVcpus,
    recommendedVcpus,
    maxVcpuIds: value('KVM_CAP_MAX_VCPU_ID') || maxVcpus,
    memslots: value('KVM_CAP_NR_MEMSLOTS') || 32,
    addressSpaces: value('KVM_CAP_MULTI_ADDRESS_SPACE') || 1,
    irqRoutes: value('KVM_CAP_IRQ_ROUTING'),
    dirtyRingBytes: value('KVM_CAP_DIRTY_LOG_RING_ACQ_REL') || value('KVM_CAP_DIRTY_LOG_RING'),
    nestedStateBytes: value('KVM_CAP_NESTED_STATE'),
    xsaveBytes: value('KVM_CAP_XSAVE2') || 4096,
  }
}

const X2APIC_FLAGS = {
  KVM_X2APIC_API_USE_32BIT_IDS,
  KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK,
  KVM_X2APIC_ENABLE_SUPPRESS_EOI_BROADCAST,
  KVM_X2APIC_DISABLE_SUPPRESS_EOI_BROADCAST,
}

/** Names of the flags in the value of KVM_CAP_X2APIC_API. */
export function x2apicApiFlags(value: number): string[] {
  return Object.entries(X2APIC_FLAGS)
    .filter(([, flag]) => (value & flag) !== 0)
    .map(([name]) => name)
}

const VM_TYPES = {
  KVM_X86_DEFAULT_VM,
  KVM_X86_SW_PROTECTED_VM,
  KVM_X86_SEV_VM,
  KVM_X86_SEV_ES_VM,
  KVM_X86_SNP_VM,
  KVM_X86_TDX_VM,
}

/** Names of the machine types in the value of KVM_CAP_VM_TYPES; without it there is the default. */
export function vmTypes(value: number): string[] {
  return Object.entries(VM_TYPES)
    .filter(([, type]) => ((value || 1) & (1 << type)) !== 0)
    .map(([name]) => name)
}
