// The facts about an engine that decide how fast guests are and what they may do. Each says where it
// was found, since the answer comes from different places on VMX, SVM and elsewhere.

import type { HostEngine } from './host-engine.js'
import { type HostModule, parameterSwitch } from './host-modules.js'

/** One fact about the engine. */
export interface HostFeature {
  /** The vendor's name for it. */
  name: string
  /** null: cannot be told, or does not apply. */
  enabled: boolean | null
  /** Where the answer comes from. */
  source: string
}

/** The facts that matter most, and the same keys on every engine. */
export interface HostFeatures {
  /** EPT or NPT: guest page tables need no shadow copies. */
  nestedPaging: HostFeature
  /** VPID or ASID: entering a guest does not empty the TLB. */
  tlbTags: HostFeature
  /** Real mode and unpaged code run on the processor too. */
  unrestrictedGuest: HostFeature
  /** APICv or AVIC: interrupts reach a running guest without an exit. */
  apicVirtualization: HostFeature
  /** Guests may be hypervisors. */
  nested: HostFeature
  /** The two-dimensional MMU without a global lock. */
  tdpMmu: HostFeature
  /** Accessed and dirty bits in EPT; SVM's nested page tables always have them. */
  nestedAccessedDirty: HostFeature
  /** Page-modification logging: dirty pages are written down by the processor. */
  pageModificationLog: HostFeature
  /** NMIs are delivered without interception tricks. */
  virtualNmi: HostFeature
  /** Encrypted guests: TDX, or SEV in any of its forms. */
  confidentialGuests: HostFeature
}

/** What the features are derived from. */
export interface HostFeatureSources {
  engine: HostEngine
  modules: readonly HostModule[]
  /** Kernel release, such as `6.12.9`. */
  release: string
  /** Value of a capability by its kernel name. */
  capability(name: string): number
}

/** Derives the facts. */
export function findHostFeatures(sources: HostFeatureSources): HostFeatures {
  switch (sources.engine.technology) {
    case 'VMX':
      return vmxFeatures(sources)
    case 'SVM':
      return svmFeatures(sources)
    case null:
      return otherFeatures(sources)
  }
}

function vmxFeatures(sources: HostFeatureSources): HostFeatures {
  const of = (name: string, parameter: string) => parameterFeature(sources, name, parameter)
  return {
    nestedPaging: of('EPT', 'ept'),
    tlbTags: of('VPID', 'vpid'),
    unrestrictedGuest: of('unrestricted guest', 'unrestricted_guest'),
    apicVirtualization: of('APICv', 'enable_apicv'),
    nested: of('nested VMX', 'nested'),
    tdpMmu: tdpMmu(sources),
    nestedAccessedDirty: of('EPT A/D', 'eptad'),
    pageModificationLog: of('PML', 'pml'),
    virtualNmi: of('virtual NMI', 'vnmi'),
    confidentialGuests: of('TDX', 'tdx'),
  }
}

function svmFeatures(sources: HostFeatureSources): HostFeatures {
  const of = (name: string, parameter: string) => parameterFeature(sources, name, parameter)
  const always = (name: string, source: string) => ({ name, enabled: true, source })
  return {
    nestedPaging: of('NPT', 'npt'),
    tlbTags: always('ASID', 'part of SVM (APM vol. 2, 15.16)'),
    unrestrictedGuest: always('real mode', 'part of SVM (APM vol. 2, 15.19)'),
    apicVirtualization: of('AVIC', 'avic'),
    nested: of('nested SVM', 'nested'),
    tdpMmu: tdpMmu(sources),
    nestedAccessedDirty: of('NPT A/D', 'npt'),
    pageModificationLog: absent('PML', 'VMX only'),
    virtualNmi: of('VNMI', 'vnmi'),
    confidentialGuests: sev(sources),
  }
}

function otherFeatures(sources: HostFeatureSources): HostFeatures {
  const unknown = (name: string) => ({ name, enabled: null, source: 'no hardware engine' })
  const state = sources.capability('KVM_CAP_NESTED_STATE')
  return {
    nestedPaging: twoDimensionalPaging(sources),
    tlbTags: unknown('VPID/ASID'),
    unrestrictedGuest: unknown('unrestricted guest'),
    apicVirtualization: unknown('APICv/AVIC'),
    nested: { name: 'nested', enabled: state > 0, source: `KVM_CAP_NESTED_STATE=${state}` },
    tdpMmu: tdpMmu(sources),
    nestedAccessedDirty: unknown('EPT/NPT A/D'),
    pageModificationLog: unknown('PML'),
    virtualNmi: unknown('virtual NMI'),
    confidentialGuests: unknown('TDX/SEV'),
  }
}

function parameterFeature(
  { engine, modules }: HostFeatureSources,
  name: string,
  parameter: string,
): HostFeature {
  const module = modules.find((m) => m.name === engine.module)
  return fromParameter(module, name, parameter)
}

function fromParameter(
  module: HostModule | undefined,
  name: string,
  parameter: string,
): HostFeature {
  if (module === undefined) return { name, enabled: null, source: 'module not visible' }
  const text = module.parameters[parameter]
  const seen = text === undefined ? 'absent' : (text ?? 'not readable')
  const source = `${module.name} parameter ${parameter}: ${seen}`
  return { name, enabled: parameterSwitch(module, parameter), source }
}

function tdpMmu({ modules }: HostFeatureSources): HostFeature {
  const kvm = modules.find(({ name }) => name === 'kvm')
  return fromParameter(kvm, 'TDP MMU', 'tdp_mmu')
}

// Without a vendor's parameter one capability still tells: memory can be faulted in ahead of the
// guest only with two-dimensional paging. Kernels before 6.11 do not know it and say 0 too.
function twoDimensionalPaging({ capability, release }: HostFeatureSources): HostFeature {
  const value = capability('KVM_CAP_PRE_FAULT_MEMORY')
  const known = value > 0 || isAtLeast(release, 6, 11)
  const source = `KVM_CAP_PRE_FAULT_MEMORY=${value}`
  return { name: 'two-dimensional paging', enabled: known ? value > 0 : null, source }
}

function sev(sources: HostFeatureSources): HostFeature {
  const forms = ['sev', 'sev_es', 'sev_snp'].map((p) => parameterFeature(sources, p, p))
  const enabled = forms.some((f) => f.enabled === true)
  const told = enabled || forms.some((f) => f.enabled === false)
  const source = forms.map((f) => f.source).join('; ')
  return { name: 'SEV', enabled: told ? enabled : null, source }
}

function absent(name: string, source: string): HostFeature {
  return { name, enabled: false, source }
}

function isAtLeast(release: string, major: number, minor: number): boolean {
  const [a = 0, b = 0] = release.split('.').map((part) => Number.parseInt(part, 10))
  return a > major || (a === major && b >= minor)
}
