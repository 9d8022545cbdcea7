// A CPUID leaf as KVM exchanges it, and the rule by which the kernel finds one. Everything about
// CPUID in this folder works on arrays of these, so that a table read from KVM, edited, and given
// back never changes shape.

import type { CpuidRegister } from './cpuid-feature-bits.js'

/** `struct kvm_cpuid_entry2` without its padding (KVM API, KVM_GET_SUPPORTED_CPUID). */
export interface CpuidEntry {
  /** CPUID leaf: the input EAX. */
  function: number
  /** CPUID sub-leaf: the input ECX; meaningful with {@link CPUID_SIGNIFICANT_INDEX}. */
  index: number
  /** KVM_CPUID_FLAG_* bits. */
  flags: number
  eax: number
  ebx: number
  ecx: number
  edx: number
}

/** KVM_CPUID_FLAG_SIGNIFCANT_INDEX: the entry is one sub-leaf, not all of them. */
export const CPUID_SIGNIFICANT_INDEX = 1

// Leaves whose output depends on ECX (SDM vol. 2A, CPUID; APM vol. 3 appendix E). An entry made for
// one of them must carry the flag, or KVM would answer every sub-leaf with it.
const INDEXED_LEAVES = new Set([
  0x4, 0x7, 0xb, 0xd, 0xf, 0x10, 0x12, 0x14, 0x17, 0x18, 0x1b, 0x1d, 0x1e, 0x1f, 0x20, 0x23, 0x24,
  0x8000001d, 0x80000020, 0x80000026,
])

/** Whether CPUID's answer to this leaf depends on the sub-leaf. */
export function isIndexedLeaf(leaf: number): boolean {
  return INDEXED_LEAVES.has(leaf)
}

/** A new entry of a leaf, all output registers as given or zero, flagged as KVM expects it. */
export function cpuidEntry(
  leaf: number,
  subleaf = 0,
  registers: Partial<Record<CpuidRegister, number>> = {},
): CpuidEntry {
  const flags = isIndexedLeaf(leaf) ? CPUID_SIGNIFICANT_INDEX : 0
  const zero = { eax: 0, ebx: 0, ecx: 0, edx: 0 }
  return { function: leaf, index: subleaf, flags, ...zero, ...registers }
}

/**
 * The entry that answers CPUID with these inputs: the same leaf and, where the index is
 * significant, the same sub-leaf. This is KVM's own rule, without its redirection of leaves beyond
 * the maximum.
 */
export function findCpuidEntry<E extends CpuidEntry>(
  entries: readonly E[],
  leaf: number,
  subleaf = 0,
): E | undefined {
  return entries.find(
    (e) =>
      e.function === leaf && ((e.flags & CPUID_SIGNIFICANT_INDEX) === 0 || e.index === subleaf),
  )
}
