// What guest RAM costs, and what the host saves by huge and by merged pages.

import { readdirSync, readFileSync } from 'node:fs'

/** Figures of `/proc/self/smaps` in bytes; see proc(5). */
export interface MemoryUsage {
  /** Address space. */
  readonly size: number
  /** Mapped in this process. */
  readonly rss: number
  /** The same, with every page divided by the number of processes that map it. */
  readonly pss: number
  /** Mapped nowhere else. */
  readonly private: number
  /** Of that, what was written: of a private copy of a file, what it really costs. */
  readonly privateDirty: number
  /** Mapped elsewhere too. */
  readonly shared: number
  readonly swap: number
  readonly locked: number
  /** In transparent huge pages: anonymous, and of shared memory or files. */
  readonly hugePages: number
  /** In pages of the huge page pool. */
  readonly hugetlb: number
  /** Merged by KSM. */
  readonly ksm: number
}

/** @internal Adds up smaps entries. */
export function sumSmaps(texts: readonly string[]): MemoryUsage {
  const kib = new Map<string, number>()
  for (const text of texts) {
    for (const [, name, value] of text.matchAll(/^(\w+):\s+(\d+) kB$/gm)) {
      kib.set(name!, (kib.get(name!) ?? 0) + Number(value))
    }
  }
  const sum = (...names: string[]) =>
    names.reduce((total, name) => total + (kib.get(name) ?? 0) * 1024, 0)
  return {
    size: sum('Size'),
    rss: sum('Rss'),
    pss: sum('Pss'),
    private: sum('Private_Clean', 'Private_Dirty'),
    privateDirty: sum('Private_Dirty'),
    shared: sum('Shared_Clean', 'Shared_Dirty'),
    swap: sum('Swap'),
    locked: sum('Locked'),
    hugePages: sum('AnonHugePages', 'ShmemPmdMapped', 'FilePmdMapped'),
    hugetlb: sum('Shared_Hugetlb', 'Private_Hugetlb'),
    ksm: sum('KSM'),
  }
}

/** The host's figures about kernel same-page merging: the files of `/sys/kernel/mm/ksm`. */
export function ksmStatistics(): ReadonlyMap<string, number> {
  return numbersIn('/sys/kernel/mm/ksm')
}

/** The host's figures about transparent huge pages: the `thp_*` of `/proc/vmstat`. */
export function thpStatistics(): ReadonlyMap<string, number> {
  const found = new Map<string, number>()
  for (const [, name, value] of textOf('/proc/vmstat').matchAll(/^(thp_\w+) (\d+)$/gm)) {
    found.set(name!, Number(value))
  }
  return found
}

function numbersIn(folder: string): Map<string, number> {
  const found = new Map<string, number>()
  for (const name of namesIn(folder)) {
    const text = textOf(`${folder}/${name}`).trim()
    if (/^-?\d+$/.test(text)) found.set(name, Number(text))
  }
  return found
}

// A kernel without the feature has no such file, which is an answer as well.
function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}
