// What KVM's MMU really did for a VM, from its binary statistics.

import type { StatsFd } from './stats-fd.js'

/** Counts at one moment; undefined where this kernel does not count it. KVM API 4.133. */
export interface MmuSummary {
  /** Second-level (or shadow) mappings in place, by page size. */
  readonly pages4k: number | undefined
  readonly pages2m: number | undefined
  readonly pages1g: number | undefined
  /** Requests to flush the TLBs of all vCPUs, and those that had to be sent. */
  readonly tlbFlushRequests: number | undefined
  readonly tlbFlushes: number | undefined
  /** Shadow page tables thrown away. Stays 0 where the CPU translates guest addresses itself. */
  readonly shadowZapped: number | undefined
  /** Large pages split so that instruction fetches from them cannot crash the CPU. */
  readonly nxLargePageSplits: number | undefined
}

/** Reads the summary from the statistics of a VM ({@link Vm.getStatsFd}). */
export function mmuSummary(stats: StatsFd): MmuSummary {
  const values = stats.read()
  const count = (name: string) => {
    const value = values.get(name)
    return typeof value === 'bigint' ? Number(value) : undefined
  }
  return {
    pages4k: count('pages_4k'),
    pages2m: count('pages_2m'),
    pages1g: count('pages_1g'),
    tlbFlushRequests: count('remote_tlb_flush_requests'),
    tlbFlushes: count('remote_tlb_flush'),
    shadowZapped: count('mmu_shadow_zapped'),
    nxLargePageSplits: count('nx_lpage_splits'),
  }
}
