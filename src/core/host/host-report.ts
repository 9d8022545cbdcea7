// The host report: what this machine's KVM is and can do, or why it cannot be used.

import { arch, release, version } from 'node:os'
import { KvmError } from '../errors.js'
import { Kvm } from '../kvm.js'
import {
  type HostLimits,
  limitsOf,
  readCapabilities,
  vmTypes,
  x2apicApiFlags,
} from './host-capabilities.js'
import { type HostCpu, readHostCpu } from './host-cpu.js'
import { describeHostCpuid, type HostCpuid } from './host-cpuid.js'
import { type HostDevice, readHostDevice } from './host-device.js'
import { findHostEngine, type HostEngine } from './host-engine.js'
import { findHostFeatures, type HostFeatures } from './host-features.js'
import { type HostFiles, hostFiles } from './host-files.js'
import { type HostGuestExecution, probeGuestExecution } from './host-guest-probe.js'
import { type HostMemory, readHostMemory } from './host-memory.js'
import { type HostModule, readHostModules } from './host-modules.js'
import { describeHostMsrs, type HostMsr } from './host-msrs.js'
import { decodeHostVmx, type HostVmx } from './host-vmx.js'
import { explainOpenError } from './open-error.js'

/** What can be told of a host without opening its device. */
export interface HostFacts {
  /** Version of this shape; a field may be added without a new one. */
  schema: 1
  kernel: {
    /** As `uname -r` has it. */
    release: string
    /** As `uname -v` has it. */
    version: string
    /** Architecture, by Node's name for it. */
    arch: string
  }
  cpu: HostCpu
  device: HostDevice
  /** `kvm` and the modules of engines, with parameters. */
  modules: HostModule[]
  memory: HostMemory
}

/** A host whose KVM cannot be used. */
export interface UnavailableHostReport extends HostFacts {
  available: false
  /** Why, and what to do about it. */
  reason: string
  /** The code of the error that opening raised, such as `ENOENT`, or `ERR_KVM_UNAVAILABLE`. */
  code: string
}

/** A host whose KVM can be used. */
export interface AvailableHostReport extends HostFacts {
  available: true
  /** Version of the KVM API. */
  apiVersion: number
  /** Bytes of a vCPU's shared mapping. */
  vcpuMmapSize: number
  engine: HostEngine
  /** Whether a VM can be made; no, for instance, while another hypervisor holds the processor. */
  vm: { creatable: boolean; reason: string | null }
  /** Who executes guest code; null when it was not probed. */
  guestExecution: HostGuestExecution | null
  features: HostFeatures
  limits: HostLimits
  x2apic: {
    /** Guests may use it: the bit in the supported CPUID. */
    supported: boolean
    /** Flags of KVM_CAP_X2APIC_API, by their kernel names. */
    apiFlags: string[]
  }
  /** Machine types for {@link Kvm.createVm}, by their kernel names. */
  vmTypes: string[]
  /** Every capability that can mean something on x86, as `/dev/kvm` answers; 0 when absent. */
  capabilities: Record<string, number>
  /** Those capabilities to which a VM of the default type answers otherwise. */
  vmCapabilities: Record<string, number>
  cpuid: {
    /** What a guest may be shown. */
    supported: HostCpuid
    /** What KVM emulates although the processor lacks it; null when the kernel cannot say. */
    emulated: HostCpuid | null
  }
  msrs: {
    /** What a VMM should save and restore. */
    list: { index: number; name: string | null }[]
    /** What describes the processor to a guest. */
    features: HostMsr[]
  }
  /** The VMX capability MSRs decoded; null when KVM lists none. */
  vmx: HostVmx | null
}

/** What {@link hostReport} found. In JSON every bigint is a string such as `0x1f`. */
export type HostReport = AvailableHostReport | UnavailableHostReport

/** What to look at, and how closely. */
export interface HostReportOptions {
  /** The device file. */
  path?: string
  /**
   * Run a small guest to learn which modes the processor executes itself (default: yes). It takes a
   * few milliseconds.
   */
  probeGuest?: boolean
  /** @internal Where /proc, /sys and /etc are, other than in `/`. */
  root?: string
}

/**
 * Reports what this host's KVM is and can do: engine, features, limits, every capability, CPUID and
 * feature MSRs, module parameters, huge pages. When KVM cannot be used it does not throw: the report
 * has `available: false` and says why and what to do.
 *
 * ```ts
 * const report = hostReport()
 * if (report.available) console.log(report.engine.technology, report.limits.maxVcpus)
 * else console.error(report.reason)
 * ```
 */
export function hostReport(options: HostReportOptions = {}): HostReport {
  const { path = '/dev/kvm', root = '/', probeGuest = true } = options
  const files = hostFiles(root)
  const facts = readFacts(path, files)
  let kvm: Kvm
  try {
    kvm = Kvm.open(path)
  } catch (error) {
    return { available: false, ...explain(error, path, root), ...facts }
  }
  try {
    return { available: true, ...facts, ...askKvm(kvm, facts, probeGuest) }
  } finally {
    kvm.close()
  }
}

/** A report as JSON text, with each bigint as a hexadecimal string. */
export function hostReportToJson(report: HostReport): string {
  const plain = (_key: string, value: unknown) =>
    typeof value === 'bigint' ? `0x${value.toString(16)}` : value
  return JSON.stringify(report, plain, 2)
}

function readFacts(path: string, files: HostFiles): HostFacts {
  return {
    schema: 1,
    kernel: { release: release(), version: version(), arch: arch() },
    cpu: readHostCpu(files),
    device: readHostDevice(path, files),
    modules: readHostModules(files),
    memory: readHostMemory(files),
  }
}

function explain(error: unknown, path: string, root: string): { reason: string; code: string } {
  if (!(error instanceof KvmError)) throw error
  if (!(error.cause instanceof KvmError)) {
    return { reason: error.reason ?? error.message, code: error.code }
  }
  const { code } = error.cause
  return { reason: explainOpenError(code, path, root), code }
}

type Answers = Omit<AvailableHostReport, keyof HostFacts | 'available'>

function askKvm(kvm: Kvm, facts: HostFacts, probeGuest: boolean): Answers {
  const capabilities = readCapabilities((capability) => kvm.checkExtension(capability))
  const capability = (name: string) => capabilities[name] ?? 0
  const { release } = facts.kernel
  const featureList = capability('KVM_CAP_GET_MSR_FEATURES') ? kvm.getMsrFeatureIndexList() : []
  const featureValues = kvm.getMsrs(featureList)
  const vmx = decodeHostVmx(featureValues)
  const engine = findHostEngine(facts.modules, facts.cpu, vmx !== null)
  const supported = describeHostCpuid(kvm.getSupportedCpuid())
  const { vm, vmCapabilities } = askVm(kvm, capabilities)
  return {
    apiVersion: kvm.getApiVersion(),
    vcpuMmapSize: kvm.getVcpuMmapSize(),
    engine,
    vm,
    guestExecution: probeGuest && vm.creatable ? probeGuestExecution(kvm) : null,
    features: findHostFeatures({ engine, modules: facts.modules, release, capability }),
    limits: limitsOf(capabilities),
    x2apic: {
      supported: supported.features.includes('x2apic'),
      apiFlags: x2apicApiFlags(capability('KVM_CAP_X2APIC_API')),
    },
    vmTypes: vmTypes(capability('KVM_CAP_VM_TYPES')),
    capabilities,
    vmCapabilities,
    cpuid: { supported, emulated: emulatedCpuid(kvm, capability('KVM_CAP_EXT_EMUL_CPUID')) },
    msrs: {
      list: describeHostMsrs(kvm.getMsrIndexList(), new Map()).map(({ index, name }) => ({
        index,
        name,
      })),
      features: describeHostMsrs(featureList, featureValues),
    },
    vmx,
  }
}

function emulatedCpuid(kvm: Kvm, capability: number): HostCpuid | null {
  return capability === 0 ? null : describeHostCpuid(kvm.getEmulatedCpuid())
}

function askVm(
  kvm: Kvm,
  capabilities: Record<string, number>,
): Pick<Answers, 'vm' | 'vmCapabilities'> {
  try {
    const vm = kvm.createVm()
    try {
      const ofVm = readCapabilities((capability) => vm.checkExtension(capability))
      const differing = Object.entries(ofVm).filter(([name, value]) => value !== capabilities[name])
      const vmCapabilities = Object.fromEntries(differing)
      return { vm: { creatable: true, reason: null }, vmCapabilities }
    } finally {
      vm.close()
    }
  } catch (error) {
    if (!(error instanceof KvmError)) throw error
    return { vm: { creatable: false, reason: error.message }, vmCapabilities: {} }
  }
}
