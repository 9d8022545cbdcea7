// KVM's statistics as one flat record, and what they grew by.

import type { StatsFd } from '../core/stats-fd.js'
import type { Vcpu } from '../core/vcpu.js'
import type { Vm } from '../core/vm.js'

/** Numbers by the kernel's names; without histograms. */
export type GuestStatistics = Readonly<Record<string, number>>

/** Reads the statistics of a VM and its vCPUs. */
export class StatisticsReader {
  readonly #files: readonly StatsFd[]

  constructor(vm: Vm, vcpus: readonly Vcpu[]) {
    this.#files = [vm, ...vcpus].map((owner) => owner.getStatsFd())
  }

  read(since: GuestStatistics): GuestStatistics {
    const sums: Record<string, number> = {}
    for (const file of this.#files) {
      for (const [name, value] of file.read()) {
        if (typeof value === 'bigint') sums[name] = (sums[name] ?? 0) + Number(value)
      }
    }
    for (const name of Object.keys(sums)) sums[name]! -= since[name] ?? 0
    return sums
  }

  close(): void {
    for (const file of this.#files) file.close()
  }
}
