// Leaf 0xD, the state that XSAVE saves: it has to fit the features that a table shows.

import type { CpuidFeatureName } from './cpuid-features.js'
import type { CpuidTable } from './cpuid-table.js'

/** Components of the extended state by the feature they belong to (SDM vol. 1 §13.1). */
const COMPONENTS: readonly (readonly [feature: CpuidFeatureName, ...bits: number[]])[] = [
  ['avx', 2],
  ['mpx', 3, 4],
  ['avx512f', 5, 6, 7],
  ['pku', 9],
  ['amx_tile', 17, 18],
]

const LEAF = 0xd
/** The legacy region and the header: what there is without any further component. */
const LEAST_SIZE = 576

/** Takes components out of leaf 0xD whose feature is off, and all of it without XSAVE. */
export function trimXsave(table: CpuidTable): CpuidTable {
  if (!table.has('xsave')) return table.remove(LEAF)
  const main = table.find(LEAF)
  if (main === undefined) return table
  const gone = COMPONENTS.filter(([feature]) => !table.has(feature)).flatMap(([, ...bits]) => bits)
  for (const bit of gone) main.eax = (main.eax & ~(1 << bit)) >>> 0
  const kept = table.entries.filter((e) => e.function !== LEAF || !gone.includes(e.index))
  table.entries.splice(0, table.entries.length, ...kept)
  main.ecx = Math.max(LEAST_SIZE, ...kept.filter(isUserState).map(({ eax, ebx }) => eax + ebx))
  return table
}

// ECX bit 0 marks supervisor state, which has no place of its own in the standard format.
function isUserState(entry: { function: number; index: number; ecx: number }): boolean {
  return entry.function === LEAF && entry.index > 1 && (entry.ecx & 1) === 0
}
