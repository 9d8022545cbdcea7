// What the CPUID instruction tells each vCPU of a machine, and what their APIC ids are.

import type { Kvm } from '../core/kvm.js'
import { integer, object, oneOf } from '../core/validate.js'
import { KVM_CAP_TSC_DEADLINE_TIMER, type KvmCpuidEntry2 } from '../uapi/index.js'
import {
  apicIdOf,
  CPU_MODELS,
  CpuidTable,
  type CpuModel,
  type CpuTopology,
  withCpuModel,
  withTopology,
} from '../x86/index.js'

/** The processors of a machine. */
export interface CpuOptions {
  /** vCPUs; 1 unless said. */
  cpus?: number
  /** Logical processors of a core; 1 unless said. */
  threadsPerCore?: number
  /** Cores of a socket; all of them in one unless said. */
  coresPerSocket?: number
  /** Which features of the host a guest sees. Default `'host'`: all that KVM supports. */
  cpuModel?: CpuModel
  /**
   * Features by name, such as `{ avx512f: false, pcid: true }`: hidden, or shown though the model does not
   * have them. What the host lacks cannot be shown.
   */
  cpuFeatures?: Readonly<Record<string, boolean>>
}

/** {@link CpuOptions} that were checked. */
export interface CpuSettings {
  readonly topology: CpuTopology
  readonly model: CpuModel
  readonly features: Readonly<Record<string, boolean>>
  /** APIC ids, which are the vCPUs' ids, in order. */
  readonly ids: readonly number[]
}

const MAX_CPUS = 4096

/** Checks what a user says. */
export function cpuSettings(options: CpuOptions): CpuSettings {
  const {
    cpus = 1,
    threadsPerCore = 1,
    coresPerSocket,
    cpuModel = 'host',
    cpuFeatures = {},
  } = options
  integer(cpus, 'cpus', 1, MAX_CPUS)
  const topology: CpuTopology = {
    cpus,
    threadsPerCore: integer(threadsPerCore, 'threadsPerCore', 1, 256),
    ...(coresPerSocket === undefined
      ? {}
      : { coresPerSocket: integer(coresPerSocket, 'coresPerSocket', 1, MAX_CPUS) }),
  }
  return {
    topology,
    model: oneOf(cpuModel, 'cpuModel', CPU_MODELS),
    features: object(cpuFeatures, 'cpuFeatures'),
    ids: Array.from({ length: cpus }, (_, index) => apicIdOf(index, topology)),
  }
}

/**
 * The tables of all vCPUs, in the order of their ids, from what KVM supports of a machine whose LAPICs are in the kernel.
 *
 * @throws RangeError `ERR_OUT_OF_RANGE` for features that the host lacks
 */
export function guestCpuids(
  kvm: Kvm,
  { topology, model, features, ids }: CpuSettings,
): KvmCpuidEntry2[][] {
  const host = new CpuidTable(kvm.getSupportedCpuid())
  // KERNEL: KVM's table never has it, as it needs these LAPICs. Without it a guest measures its timer, which takes it 100 ms.
  if (kvm.checkExtension(KVM_CAP_TSC_DEADLINE_TIMER)) host.set('tsc_deadline_timer', true)
  const table = withCpuModel(host, model, features)
  // KVM leaves it to user space to say so; without it no guest looks for KVM's own leaves.
  if (features.hypervisor !== false) table.set('hypervisor', true)
  return ids.map((vcpuId) => withTopology(table.entries, { ...topology, vcpuId }))
}
