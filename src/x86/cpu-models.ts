// Named processors for guests: which of a host's features a guest is shown, so that it can move to every
// host that has these. The levels are those of the x86-64 psABI, supplement "Micro-Architecture Levels".

import type { CpuidFeatureName } from './cpuid-features.js'
import type { CpuidTable } from './cpuid-table.js'
import { trimXsave } from './cpuid-xsave.js'
import { outOfRange } from './out-of-range.js'

/** `'host'` shows all that KVM supports; the others a level of x86-64 and what kernels need beside it. */
export const CPU_MODELS = ['host', 'x86-64', 'x86-64-v2', 'x86-64-v3', 'x86-64-v4'] as const

/** One of {@link CPU_MODELS}. */
export type CpuModel = (typeof CPU_MODELS)[number]

/** What each level adds to the one before; a host without one of them does not have the level. */
const LEVELS: readonly (readonly CpuidFeatureName[])[] = [
  ['lm', 'syscall', 'cmov', 'cx8', 'fpu', 'fxsr', 'mmx', 'sse', 'sse2'],
  ['cx16', 'lahf_lm', 'popcnt', 'pni', 'sse4_1', 'sse4_2', 'ssse3'],
  ['avx', 'avx2', 'bmi1', 'bmi2', 'f16c', 'fma', 'abm', 'movbe', 'xsave'],
  ['avx512f', 'avx512bw', 'avx512cd', 'avx512dq', 'avx512vl'],
]

/** What a kernel manages the machine by, where the host has it. */
const SYSTEM: ReadonlySet<string> = new Set<CpuidFeatureName>([
  ...([
    'vme',
    'de',
    'pse',
    'tsc',
    'msr',
    'pae',
    'mce',
    'apic',
    'sep',
    'mtrr',
    'pge',
    'mca',
  ] as const),
  ...([
    'pat',
    'pse36',
    'clflush',
    'ht',
    'nx',
    'pdpe1gb',
    'rdtscp',
    'topoext',
    'cmp_legacy',
  ] as const),
  ...(['x2apic', 'tsc_deadline_timer', 'tsc_adjust', 'nonstop_tsc', 'arat', 'hypervisor'] as const),
  ...(['pcid', 'invpcid', 'smep', 'smap', 'umip'] as const),
])

/** Leaves that tell of protections against speculation; a guest that cannot see them has none. */
const PROTECTIONS = /spec_ctrl|ibpb|ibrs|stibp|md_clear|flush_l1d|arch_capabilities|ssbd|ssb_no/

/**
 * A copy of a table that shows a model with some features on or off.
 *
 * @param table what the host can give a guest
 * @param features by name: `false` hides a feature, `true` demands one, also beyond the model
 * @throws RangeError `ERR_OUT_OF_RANGE` for a feature that there is not, or that the host lacks
 */
export function withCpuModel(
  table: CpuidTable,
  model: CpuModel,
  features: Readonly<Record<string, boolean>> = {},
): CpuidTable {
  const shown = table.clone()
  const wanted = Object.entries(features)
  const demanded = wanted.filter(([, on]) => on).map(([name]) => name)
  const needed: readonly string[] = model === 'host' ? [] : levelOf(model)
  const missing = [...needed, ...demanded].filter((name) => !table.has(name))
  if (missing.length > 0) {
    throw outOfRange('cpu model', `what this host can give (it lacks ${missing.join(', ')})`, model)
  }
  if (model !== 'host') shown.mask(table.features().filter((name) => !belongs(name, needed)))
  for (const [name, on] of wanted) shown.set(name, on)
  return trimXsave(shown)
}

/** All features of a level. */
function levelOf(model: Exclude<CpuModel, 'host'>): CpuidFeatureName[] {
  return LEVELS.slice(0, CPU_MODELS.indexOf(model)).flat()
}

// AMD repeats features of leaf 1 in another leaf, under names of their own here.
function belongs(name: string, level: readonly string[]): boolean {
  const plain = name.replace(/^ext_/, '')
  const isOwn = level.includes(plain) || SYSTEM.has(plain)
  return isOwn || name.startsWith('kvm_') || PROTECTIONS.test(name)
}
