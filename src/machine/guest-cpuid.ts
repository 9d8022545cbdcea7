// What the CPUID instruction tells one vCPU of a machine.

import type { KvmCpuidEntry2 } from '../uapi/index.js'
import { CpuidTable, withTopology } from '../x86/index.js'

/** The host's table, as KVM supports it, made true for one of `cpus` vCPUs. */
export function guestCpuid(
  supported: readonly KvmCpuidEntry2[],
  vcpuId: number,
  cpus: number,
): KvmCpuidEntry2[] {
  const table = new CpuidTable(withTopology(supported, { vcpuId, cpus }))
  // KVM leaves it to user space to say so; without it no guest looks for KVM's own leaves.
  table.set('hypervisor', true)
  return [...table.entries]
}
