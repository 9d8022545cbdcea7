// Who a CPUID table says the processor and the hypervisor are: vendor, family, brand, signature.

import { type CpuidEntry, cpuidEntry, findCpuidEntry } from './cpuid-entry.js'

/** Family, model and stepping with the extended fields folded in. */
export interface CpuidSignature {
  family: number
  model: number
  stepping: number
}

/**
 * The vendor string of leaf 0, such as `GenuineIntel` or `AuthenticAMD`; empty without that leaf.
 * Source: SDM vol. 2A, CPUID, leaf 0.
 */
export function cpuidVendor(entries: readonly CpuidEntry[]): string {
  const leaf = findCpuidEntry(entries, 0)
  return leaf === undefined ? '' : text([leaf.ebx, leaf.edx, leaf.ecx])
}

/** Whether the vendor is AMD or Hygon, who share the meaning of the extended leaves. */
export function isAmdCpuid(entries: readonly CpuidEntry[]): boolean {
  return ['AuthenticAMD', 'HygonGenuine'].includes(cpuidVendor(entries))
}

/**
 * Family, model and stepping of leaf 1. Source: SDM vol. 2A, CPUID, figure 3-6; APM vol. 3
 * appendix E, Fn0000_0001. The extended model counts for families 6 and 15.
 */
export function cpuidSignature(entries: readonly CpuidEntry[]): CpuidSignature {
  const eax = findCpuidEntry(entries, 1)?.eax ?? 0
  const base = (eax >>> 8) & 0xf
  const extendedModel = base === 6 || base === 15 ? (eax >>> 16) & 0xf : 0
  return {
    family: base === 15 ? base + ((eax >>> 20) & 0xff) : base,
    model: extendedModel * 16 + ((eax >>> 4) & 0xf),
    stepping: eax & 0xf,
  }
}

/** The brand string of leaves 0x80000002 to 0x80000004; empty without them. */
export function cpuidBrand(entries: readonly CpuidEntry[]): string {
  const words = [0x80000002, 0x80000003, 0x80000004].flatMap((leaf) => {
    const e = findCpuidEntry(entries, leaf)
    return e === undefined ? [] : [e.eax, e.ebx, e.ecx, e.edx]
  })
  return text(words).trim()
}

/** A hypervisor interface that a table announces. */
export interface HypervisorInterface {
  /** Signature, such as `KVMKVMKVM` or `Microsoft Hv`. */
  vendor: string
  /** First leaf of the interface: 0x40000000, or a multiple of 0x100 above it. */
  base: number
  /** Last leaf of the interface. */
  maxLeaf: number
}

/**
 * The hypervisor interfaces of a table, by base. There may be several: with Hyper-V or Xen
 * enlightenments at 0x40000000, KVM's own leaves sit at 0x40000100. Source: Linux,
 * Documentation/virt/kvm/x86/cpuid.rst; Hyper-V TLFS §2.3.
 */
export function cpuidHypervisors(entries: readonly CpuidEntry[]): HypervisorInterface[] {
  return entries
    .filter((e) => e.function >= 0x40000000 && e.function < 0x40010000 && e.function % 0x100 === 0)
    .map((e) => ({ vendor: text([e.ebx, e.ecx, e.edx]), base: e.function, maxLeaf: e.eax }))
    .filter((h) => h.vendor !== '')
    .sort((a, b) => a.base - b.base)
}

/**
 * The leaf that announces KVM's paravirtual interface. Source: Linux,
 * Documentation/virt/kvm/x86/cpuid.rst.
 *
 * @param base 0x40000000, or 0x40000100 behind another interface
 */
export function kvmSignatureEntry(base = 0x40000000): CpuidEntry {
  const [ebx, ecx, edx] = words('KVMKVMKVM', 3)
  return cpuidEntry(base, 0, { eax: base + 1, ebx: ebx!, ecx: ecx!, edx: edx! })
}

/** Leaf 0 for a vendor string of 12 characters. `maxLeaf` is the highest basic leaf. */
export function vendorEntry(vendor: string, maxLeaf: number): CpuidEntry {
  const [ebx, edx, ecx] = words(vendor, 3)
  return cpuidEntry(0, 0, { eax: maxLeaf, ebx: ebx!, ecx: ecx!, edx: edx! })
}

function text(registers: readonly number[]): string {
  const bytes = registers.flatMap((r) => [0, 8, 16, 24].map((shift) => (r >>> shift) & 0xff))
  const end = bytes.indexOf(0)
  return String.fromCharCode(...(end < 0 ? bytes : bytes.slice(0, end)))
}

function words(string: string, count: number): number[] {
  const byte = (i: number) => string.charCodeAt(i) || 0
  return Array.from({ length: count }, (_, w) =>
    [3, 2, 1, 0].reduce((value, i) => value * 256 + byte(w * 4 + i), 0),
  )
}
