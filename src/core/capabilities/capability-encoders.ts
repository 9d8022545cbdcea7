// How the arguments of each capability become those of KVM_ENABLE_CAP, and what its errors mean.

import { integer, uint32 } from '../validate.js'
import type { VcpuCapabilityArguments, VmCapabilityArguments } from './capability-arguments.js'

/** One capability that {@link encodeCapability} knows. */
export interface CapabilityEncoder<T> {
  /** The values of `kvm_enable_cap.args`, at most four; the rest is zero. */
  encode(args: T): readonly bigint[]
  /** What an error means, by its code. */
  readonly reasons?: Readonly<Record<string, string>>
  /** Whether KVM_CHECK_EXTENSION answers the bits that may be set. */
  readonly mask?: true
}

const BEFORE_VCPUS = 'it must be enabled before the first vCPU is created'

const word = (value: number, name: string) => [BigInt(uint32(value, `args.${name}`))]
const enabled = {
  encode: ({ enabled = true }: { enabled?: boolean }) => [enabled ? 1n : 0n],
}
const none = { encode: () => [] }
const ring: CapabilityEncoder<{ size: number }> = {
  encode: ({ size }) => word(size, 'size'),
  reasons: {
    EINVAL: `the size must be a power of two of at least 4096 bytes, set once; ${BEFORE_VCPUS}`,
    E2BIG: 'the size is more than checkExtension() of this capability says',
  },
}

type Encoders<Arguments> = {
  readonly [Name in keyof Arguments]: CapabilityEncoder<Arguments[Name]>
}

/** Those whose argument is a file are not here: native code puts the descriptor in. */
export type FileCapabilityName =
  | 'KVM_CAP_SGX_ATTRIBUTE'
  | 'KVM_CAP_VM_COPY_ENC_CONTEXT_FROM'
  | 'KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM'

/** The capabilities of a VM. */
export const vmCapabilities: Encoders<Omit<VmCapabilityArguments, FileCapabilityName>> = {
  KVM_CAP_DISABLE_QUIRKS: { encode: ({ quirks }) => word(quirks, 'quirks') },
  KVM_CAP_DISABLE_QUIRKS2: { encode: ({ quirks }) => word(quirks, 'quirks'), mask: true },
  KVM_CAP_SPLIT_IRQCHIP: {
    encode: ({ routes }) => [BigInt(integer(routes, 'args.routes', 0, 4096))],
    reasons: {
      EEXIST: `the VM has its interrupt controllers already, or vCPUs; ${BEFORE_VCPUS}`,
    },
  },
  KVM_CAP_MAX_VCPU_ID: {
    encode: ({ maxVcpuId }) => word(maxVcpuId, 'maxVcpuId'),
    reasons: {
      EINVAL: `it can be set once, to at most what checkExtension() says; ${BEFORE_VCPUS}`,
    },
  },
  KVM_CAP_X2APIC_API: { encode: ({ flags }) => word(flags, 'flags'), mask: true },
  KVM_CAP_X86_DISABLE_EXITS: {
    encode: ({ exits }) => word(exits, 'exits'),
    mask: true,
    reasons: { EINVAL: BEFORE_VCPUS },
  },
  KVM_CAP_MSR_PLATFORM_INFO: enabled,
  KVM_CAP_EXCEPTION_PAYLOAD: enabled,
  KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: { encode: ({ modes }) => word(modes, 'modes'), mask: true },
  KVM_CAP_HALT_POLL: { encode: ({ maxNs }) => word(maxNs, 'maxNs') },
  KVM_CAP_X86_USER_SPACE_MSR: { encode: ({ reasons }) => word(reasons, 'reasons') },
  KVM_CAP_DIRTY_LOG_RING: ring,
  KVM_CAP_DIRTY_LOG_RING_ACQ_REL: ring,
  KVM_CAP_X86_BUS_LOCK_EXIT: { encode: ({ modes }) => word(modes, 'modes'), mask: true },
  KVM_CAP_EXIT_HYPERCALL: {
    encode: ({ hypercalls }) => word(hypercalls, 'hypercalls'),
    mask: true,
  },
  KVM_CAP_EXIT_ON_EMULATION_FAILURE: enabled,
  KVM_CAP_PMU_CAPABILITY: {
    encode: ({ capabilities }) => word(capabilities, 'capabilities'),
    mask: true,
    reasons: { EINVAL: BEFORE_VCPUS },
  },
  KVM_CAP_X86_TRIPLE_FAULT_EVENT: enabled,
  KVM_CAP_X86_NOTIFY_VMEXIT: {
    encode: ({ flags, window }) => [
      BigInt(uint32(flags, 'args.flags')) | (BigInt(uint32(window, 'args.window')) << 32n),
    ],
    reasons: { EINVAL: BEFORE_VCPUS },
  },
  KVM_CAP_VM_DISABLE_NX_HUGE_PAGES: {
    encode: () => [],
    reasons: {
      EPERM: 'the process may not reboot the host (CAP_SYS_BOOT), so it may not weaken it either',
      EINVAL: BEFORE_VCPUS,
    },
  },
  KVM_CAP_X86_APIC_BUS_CYCLES_NS: {
    encode: ({ periodNs }) => word(periodNs, 'periodNs'),
    reasons: {
      ENXIO: 'the VM has no LAPICs in the kernel: create them first',
      EINVAL: `the period must not be 0; ${BEFORE_VCPUS}`,
    },
  },
}

/** The capabilities of a vCPU. The address that enlightened VMCS needs is put in by native code. */
export const vcpuCapabilities: Encoders<VcpuCapabilityArguments> = {
  KVM_CAP_HYPERV_SYNIC: none,
  KVM_CAP_HYPERV_SYNIC2: none,
  KVM_CAP_HYPERV_ENLIGHTENED_VMCS: none,
  KVM_CAP_HYPERV_DIRECT_TLBFLUSH: none,
  KVM_CAP_ENFORCE_PV_FEATURE_CPUID: enabled,
  KVM_CAP_HYPERV_ENFORCE_CPUID: enabled,
}
