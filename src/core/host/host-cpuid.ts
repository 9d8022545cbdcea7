// A CPUID table as a report shows it: who, which features by name, and the leaves themselves.

import type { KvmCpuidEntry2 } from '../../uapi/index.js'
import { cpuidBrand, cpuidSignature, cpuidVendor } from '../../x86/cpuid-identity.js'
import { CpuidTable } from '../../x86/cpuid-table.js'

/** One leaf, as KVM gives it. */
export interface HostCpuidLeaf {
  leaf: number
  subleaf: number
  /** KVM_CPUID_FLAG_* bits. */
  flags: number
  eax: number
  ebx: number
  ecx: number
  edx: number
}

/** A CPUID table that KVM gave. */
export interface HostCpuid {
  vendor: string
  brand: string
  family: number
  model: number
  stepping: number
  /** Names of the feature bits that are set, by leaf and bit. */
  features: string[]
  leaves: HostCpuidLeaf[]
}

/** Reads names out of a table. */
export function describeHostCpuid(entries: readonly KvmCpuidEntry2[]): HostCpuid {
  return {
    vendor: cpuidVendor(entries),
    brand: cpuidBrand(entries),
    ...cpuidSignature(entries),
    features: new CpuidTable(entries).features(),
    leaves: entries.map(({ function: leaf, index: subleaf, flags, eax, ebx, ecx, edx }) => ({
      leaf,
      subleaf,
      flags,
      eax,
      ebx,
      ecx,
      edx,
    })),
  }
}
