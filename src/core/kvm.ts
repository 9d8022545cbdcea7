// The /dev/kvm file: what the host can do, and the way to VMs.

import { type Binding, type BoundHandle, binding } from '../binding.js'
import {
  decodeKvmCpuidEntry2,
  decodeKvmMsrEntry,
  encodeKvmMsrEntry,
  KVM_CAP_EXT_CPUID,
  KVM_CAP_EXT_EMUL_CPUID,
  KVM_CAP_GET_MSR_FEATURES,
  KVM_CAP_MCE,
  KVM_CAP_SYS_ATTRIBUTES,
  KVM_CAP_SYS_HYPERV_CPUID,
  KVM_CHECK_EXTENSION,
  KVM_GET_API_VERSION,
  KVM_GET_EMULATED_CPUID,
  KVM_GET_MSR_FEATURE_INDEX_LIST,
  KVM_GET_MSR_INDEX_LIST,
  KVM_GET_MSRS,
  KVM_GET_SUPPORTED_CPUID,
  KVM_GET_SUPPORTED_HV_CPUID,
  KVM_GET_VCPU_MMAP_SIZE,
  KVM_X86_GET_MCE_CAP_SUPPORTED,
  type KvmCpuidEntry2,
} from '../uapi/index.js'
import { type CapabilityName, capabilityNumber } from './capabilities/capability-number.js'
import { FileCapabilities } from './capabilities/file-capabilities.js'
import { checkName, DeviceAttributes } from './device-attributes.js'
import { KvmError, kvmError } from './errors.js'
import { KvmFile } from './file.js'
import { explainOpenError } from './host/open-error.js'
import { filePath, list, uint32 } from './validate.js'
import { Vm } from './vm.js'

/** The one version of the API there has been since Linux 2.6.22. */
const API_VERSION = 12
const MAX_CPUID_ENTRIES = 256
/** Bytes of `struct kvm_cpuid2` before its entries, and of one entry. */
const CPUID_HEADER = 8
const CPUID_ENTRY = 40

/**
 * An open `/dev/kvm`. Everything begins here: ask what the host supports, create VMs.
 *
 * Closing it does not touch the VMs it created.
 */
export class Kvm extends KvmFile {
  readonly #capabilities: FileCapabilities
  readonly #attributes: DeviceAttributes

  private constructor(native: Binding, handle: BoundHandle) {
    super(native, handle)
    this.#capabilities = new FileCapabilities((capability) => this.checkExtension(capability))
    this.#attributes = new DeviceAttributes(native, handle)
  }

  /** @internal */
  static adopt(native: Binding, handle: BoundHandle): Kvm {
    return new Kvm(native, handle)
  }

  /**
   * Opens `/dev/kvm`.
   *
   * @throws KvmError `ERR_KVM_UNAVAILABLE` when there is no usable one; the message says why and
   *   what to do about it.
   */
  static open(path = '/dev/kvm'): Kvm {
    filePath(path, 'path')
    const native = loadBinding(path)
    const handle = native.openSystem(path)
    if (typeof handle === 'number') {
      const cause = kvmError(handle, { syscall: 'open', path })
      throw unavailable(explainOpenError(cause.code, path), path, cause)
    }
    const kvm = new Kvm(native, handle)
    try {
      kvm.#checkVersion(path)
      return kvm
    } catch (error) {
      kvm.close()
      throw error
    }
  }

  #checkVersion(path: string): void {
    const version = this.ioctl(KVM_GET_API_VERSION)
    if (version === API_VERSION) return
    if (version >= 0) {
      throw unavailable(`it speaks version ${version} of the KVM API, not ${API_VERSION}`, path)
    }
    const cause = kvmError(version, { ioctl: 'KVM_GET_API_VERSION', path })
    throw unavailable(explainOpenError(cause.code, path), path, cause)
  }

  /** Whether {@link open} would succeed, and KVM be of use. */
  static isAvailable(path = '/dev/kvm'): boolean {
    return Kvm.unavailableReason(path) === undefined
  }

  /** Why {@link open} would fail, with what to do; undefined when it would not. */
  static unavailableReason(path = '/dev/kvm'): string | undefined {
    try {
      Kvm.open(path).close()
      return undefined
    } catch (error) {
      return (error as Error).message
    }
  }

  /** The API's version, which is 12. @ioctl KVM_GET_API_VERSION (KVM API 4.1) */
  getApiVersion(): number {
    return this.request(KVM_GET_API_VERSION, 'KVM_GET_API_VERSION')
  }

  /**
   * Creates a VM without RAM or vCPUs. `type` is one of `KVM_X86_DEFAULT_VM` (0),
   * `KVM_X86_SW_PROTECTED_VM`, `KVM_X86_SEV_VM`, `KVM_X86_SEV_ES_VM`, `KVM_X86_SNP_VM`,
   * `KVM_X86_TDX_VM`, as far as `KVM_CAP_VM_TYPES` has its bit.
   *
   * @ioctl KVM_CREATE_VM (KVM API 4.2)
   * @throws KvmError `EINVAL` for a type that this host does not have.
   */
  createVm(type = 0): Vm {
    const handle = this.native.createVm(this.handle, uint32(type, 'type'))
    if (typeof handle === 'number') {
      throw kvmError(handle, {
        ioctl: 'KVM_CREATE_VM',
        reasons: { EINVAL: `this host has no VMs of type ${type}: see KVM_CAP_VM_TYPES` },
      })
    }
    return Vm.adopt(this.native, handle, this)
  }

  /**
   * What the host's KVM says of a capability: 0 when it is absent, else 1 or a value with the
   * capability's own meaning. Ask the VM once there is one: some answers depend on it.
   *
   * @param capability Its kernel name (`KVM_CAP_IRQCHIP`) or its number.
   * @ioctl KVM_CHECK_EXTENSION (KVM API 4.4)
   */
  checkExtension(capability: CapabilityName | number): number {
    const number = capabilityNumber(capability)
    return this.request(KVM_CHECK_EXTENSION, 'KVM_CHECK_EXTENSION', number)
  }

  /** Bytes of a vCPU's shared mapping. @ioctl KVM_GET_VCPU_MMAP_SIZE (KVM API 4.5) */
  getVcpuMmapSize(): number {
    return this.request(KVM_GET_VCPU_MMAP_SIZE, 'KVM_GET_VCPU_MMAP_SIZE')
  }

  /**
   * The CPUID leaves that this host and KVM support in a guest; the usual start for
   * {@link Vcpu.setCpuid2}.
   *
   * @ioctl KVM_GET_SUPPORTED_CPUID (KVM API 4.46) @capability KVM_CAP_EXT_CPUID
   */
  getSupportedCpuid(): KvmCpuidEntry2[] {
    this.#capabilities.require(KVM_CAP_EXT_CPUID)
    return this.#cpuid(KVM_GET_SUPPORTED_CPUID, 'KVM_GET_SUPPORTED_CPUID')
  }

  /**
   * CPUID features that KVM emulates although the host lacks them: they work, slowly.
   *
   * @ioctl KVM_GET_EMULATED_CPUID (KVM API 4.88) @capability KVM_CAP_EXT_EMUL_CPUID
   */
  getEmulatedCpuid(): KvmCpuidEntry2[] {
    this.#capabilities.require(KVM_CAP_EXT_EMUL_CPUID)
    return this.#cpuid(KVM_GET_EMULATED_CPUID, 'KVM_GET_EMULATED_CPUID')
  }

  /**
   * The leaves of Hyper-V that KVM can offer a guest. The nested ones are a vCPU's affair.
   *
   * @ioctl KVM_GET_SUPPORTED_HV_CPUID (KVM API 4.118)
   * @capability KVM_CAP_SYS_HYPERV_CPUID
   */
  getSupportedHvCpuid(): KvmCpuidEntry2[] {
    this.#capabilities.require(KVM_CAP_SYS_HYPERV_CPUID)
    return this.#cpuid(KVM_GET_SUPPORTED_HV_CPUID, 'KVM_GET_SUPPORTED_HV_CPUID')
  }

  /**
   * The MSRs a VMM should save and restore.
   *
   * @ioctl KVM_GET_MSR_INDEX_LIST (KVM API 4.3)
   */
  getMsrIndexList(): number[] {
    return this.#indexList(KVM_GET_MSR_INDEX_LIST, 'KVM_GET_MSR_INDEX_LIST')
  }

  /**
   * The MSRs that describe what the host offers to guests: VMX capabilities, microcode version and
   * the like. Read them with {@link getMsrs}.
   *
   * @ioctl KVM_GET_MSR_FEATURE_INDEX_LIST (KVM API 4.3) @capability KVM_CAP_GET_MSR_FEATURES
   */
  getMsrFeatureIndexList(): number[] {
    this.#capabilities.require(KVM_CAP_GET_MSR_FEATURES)
    return this.#indexList(KVM_GET_MSR_FEATURE_INDEX_LIST, 'KVM_GET_MSR_FEATURE_INDEX_LIST')
  }

  /**
   * Reads feature MSRs. Those that KVM does not know are left out of the answer.
   *
   * @ioctl KVM_GET_MSRS (KVM API 4.18) @capability KVM_CAP_GET_MSR_FEATURES
   */
  getMsrs(indices: readonly number[]): Map<number, bigint> {
    const checked = list(indices, 'indices').map((index) => uint32(index, 'index'))
    this.#capabilities.require(KVM_CAP_GET_MSR_FEATURES)
    const values = new Map<number, bigint>()
    const { view } = this.native
    for (const index of checked) {
      view.u32[0] = 1
      view.u32[1] = 0
      encodeKvmMsrEntry(view, 8, { index, data: 0n })
      const read = this.request(KVM_GET_MSRS, 'KVM_GET_MSRS')
      if (read === 1) values.set(index, decodeKvmMsrEntry(view, 8).data)
    }
    return values
  }

  /**
   * The machine-check features KVM supports, as IA32_MCG_CAP has them.
   *
   * @ioctl KVM_X86_GET_MCE_CAP_SUPPORTED (KVM API 4.104) @capability KVM_CAP_MCE
   */
  x86GetMceCapSupported(): bigint {
    this.#capabilities.require(KVM_CAP_MCE)
    this.request(KVM_X86_GET_MCE_CAP_SUPPORTED, 'KVM_X86_GET_MCE_CAP_SUPPORTED')
    return this.native.view.u64[0]!
  }

  /**
   * Whether the system has an attribute.
   *
   * @ioctl KVM_HAS_DEVICE_ATTR (KVM API 4.81)
   * @capability KVM_CAP_SYS_ATTRIBUTES
   */
  hasDeviceAttr(group: number, attr: number): boolean {
    checkName(group, attr)
    this.#capabilities.require(KVM_CAP_SYS_ATTRIBUTES)
    return this.#attributes.has(group, attr)
  }

  /**
   * Reads an attribute of the system, which are all 64-bit masks: group `KVM_X86_GRP_SYSTEM` (0) has
   * `KVM_X86_XCOMP_GUEST_SUPP` (0), the XCR0 bits for guests; group `KVM_X86_GRP_SEV` (1) has what
   * {@link Sev} and {@link Snp} need to know.
   *
   * @ioctl KVM_GET_DEVICE_ATTR (KVM API 4.80)
   * @capability KVM_CAP_SYS_ATTRIBUTES
   * @throws KvmError `ENXIO` when there is no such attribute.
   */
  getDeviceAttr(group: number, attr: number): bigint {
    checkName(group, attr)
    this.#capabilities.require(KVM_CAP_SYS_ATTRIBUTES)
    return Buffer.from(this.#attributes.get(group, attr, 8)).readBigUInt64LE()
  }

  #cpuid(request: number, name: string): KvmCpuidEntry2[] {
    const { view } = this.native
    // KERNEL: KVM_GET_EMULATED_CPUID refuses entries whose padding is not zero on the way in.
    view.u32.fill(0, 0, (CPUID_HEADER + MAX_CPUID_ENTRIES * CPUID_ENTRY) / 4)
    view.u32[0] = MAX_CPUID_ENTRIES
    this.request(request, name)
    const offset = (i: number) => CPUID_HEADER + i * CPUID_ENTRY
    return Array.from({ length: view.u32[0]! }, (_, i) => decodeKvmCpuidEntry2(view, offset(i)))
  }

  #indexList(request: number, name: string): number[] {
    const { view } = this.native
    const room = view.u32.length - 1
    view.u32[0] = room
    this.request(request, name)
    return Array.from(view.u32.subarray(1, 1 + view.u32[0]!))
  }
}

function unavailable(reason: string, path: string, cause?: unknown): KvmError {
  return new KvmError('ERR_KVM_UNAVAILABLE', undefined, 'KVM cannot be used here', {
    path,
    reason,
    cause,
  })
}

function loadBinding(path: string): Binding {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    const platform = `${process.platform} on ${process.arch}`
    throw unavailable(
      `KVM is part of Linux, and this library knows x86-64; this is ${platform}`,
      path,
    )
  }
  try {
    return binding()
  } catch (cause) {
    const reason =
      'the native addon did not load; node-kvm ships a binary for glibc-based Linux on x86-64, ' +
      'elsewhere build it with `npx node-gyp rebuild` in the package folder'
    throw unavailable(reason, path, cause)
  }
}
