// What KVM's MMU really did for a VM, from its binary statistics.

import type { StatsFd } from '../stats-fd.js'

/** Counts of a VM at one moment; undefined where this kernel does not count it. KVM API 4.133. */
export interface MmuSummary {
  /** Second-level (or shadow) mappings in place, by page size. */
  readonly pages4k: number | undefined
  readonly pages2m: number | undefined
  readonly pages1g: number | undefined
  /** Requests to flush the TLBs of all vCPUs, and those that had to be sent. */
  readonly tlbFlushRequests: number | undefined
  readonly tlbFlushes: number | undefined
  /** Large pages split so that instruction fetches from them cannot crash the CPU. */
  readonly nxLargePageSplits: number | undefined
  /** Page tables thrown away. */
  readonly shadowZapped: number | undefined
  /** Guest page tables: pages of them shadowed, written to, and out of step until the next flush. */
  readonly cacheMiss: number | undefined
  readonly pteWrite: number | undefined
  readonly unsync: number | undefined
  /** Entries dropped with a guest's table, tables dropped for too many writes, and for want of room. */
  readonly pdeZapped: number | undefined
  readonly flooded: number | undefined
  readonly recycled: number | undefined
}

/** Counts of a vCPU at one moment; undefined where this kernel does not count it. */
export interface VcpuMmuSummary {
  /** Page faults that KVM saw, those it mended by a mapping, those mended without a lock. */
  readonly faults: number | undefined
  readonly faultsFixed: number | undefined
  readonly faultsFast: number | undefined
  /** Faults that led to the emulation of an instruction, and those that another vCPU had mended. */
  readonly faultsEmulated: number | undefined
  readonly faultsSpurious: number | undefined
  /** Faults that were the guest's own. */
  readonly faultsOfGuest: number | undefined
  /** Places remembered as being no RAM. */
  readonly mmioMappings: number | undefined
  readonly tlbFlushes: number | undefined
  /** INVLPG instructions that KVM carried out. */
  readonly invlpg: number | undefined
}

const VM_NAMES = {
  pages4k: 'pages_4k',
  pages2m: 'pages_2m',
  pages1g: 'pages_1g',
  tlbFlushRequests: 'remote_tlb_flush_requests',
  tlbFlushes: 'remote_tlb_flush',
  nxLargePageSplits: 'nx_lpage_splits',
  shadowZapped: 'mmu_shadow_zapped',
  cacheMiss: 'mmu_cache_miss',
  pteWrite: 'mmu_pte_write',
  unsync: 'mmu_unsync',
  pdeZapped: 'mmu_pde_zapped',
  flooded: 'mmu_flooded',
  recycled: 'mmu_recycled',
} as const

const VCPU_NAMES = {
  faults: 'pf_taken',
  faultsFixed: 'pf_fixed',
  faultsFast: 'pf_fast',
  faultsEmulated: 'pf_emulate',
  faultsSpurious: 'pf_spurious',
  faultsOfGuest: 'pf_guest',
  mmioMappings: 'pf_mmio_spte_created',
  tlbFlushes: 'tlb_flush',
  invlpg: 'invlpg',
} as const

type Counts<Names> = { readonly [Key in keyof Names]: number | undefined }

function counts<Names extends Readonly<Record<string, string>>>(
  stats: StatsFd,
  names: Names,
): Counts<Names> {
  const values = stats.read()
  const count = (name: string) => {
    const value = values.get(name)
    return typeof value === 'bigint' ? Number(value) : undefined
  }
  const entries = Object.entries(names).map(([key, name]) => [key, count(name)])
  return Object.fromEntries(entries) as Counts<Names>
}

/** Reads the summary from the statistics of a VM ({@link Vm.getStatsFd}), again and again. */
export const mmuSummary = (stats: StatsFd): MmuSummary => counts(stats, VM_NAMES)

/** Reads the summary from the statistics of a vCPU ({@link Vcpu.getStatsFd}). */
export const vcpuMmuSummary = (stats: StatsFd): VcpuMmuSummary => counts(stats, VCPU_NAMES)
