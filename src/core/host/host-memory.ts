// What the host's memory management offers to guests: huge pages and page merging.

import type { HostFiles } from './host-files.js'

/** A pool of preallocated huge pages (hugetlb). Counts are pages. */
export interface HugePagePool {
  /** Bytes of one page. */
  pageSize: number
  total: number
  free: number
  reserved: number
  surplus: number
  /** How many more may be allocated on demand. */
  overcommit: number
}

/** Memory facts of `/proc/meminfo` and `/sys/kernel/mm`. */
export interface HostMemory {
  /** Bytes of RAM. */
  total: number | null
  /** Bytes that can be had without swapping. */
  available: number | null
  /** Transparent huge pages; null when the kernel is built without. */
  transparentHugePages: {
    /** `always`, `madvise` or `never`, for anonymous memory. */
    enabled: string | null
    /** How hard a fault tries to get one. */
    defrag: string | null
    /** For shared memory, of which guest RAM is made. */
    shmemEnabled: string | null
  } | null
  hugePagePools: HugePagePool[]
  /** Kernel same-page merging; null when the kernel is built without. */
  ksm: {
    state: 'stopped' | 'running' | 'unmerged' | null
    /** Pages that serve several places. */
    pagesShared: number | null
    /** Places that they serve: what is saved. */
    pagesSharing: number | null
  } | null
}

const MM = '/sys/kernel/mm'

/** Reads the memory facts. */
export function readHostMemory(files: HostFiles): HostMemory {
  const meminfo = files.read('/proc/meminfo') ?? ''
  return {
    total: meminfoBytes(meminfo, 'MemTotal'),
    available: meminfoBytes(meminfo, 'MemAvailable'),
    transparentHugePages: readTransparentHugePages(files),
    hugePagePools: readPools(files),
    ksm: readKsm(files),
  }
}

function readTransparentHugePages(files: HostFiles): HostMemory['transparentHugePages'] {
  const folder = `${MM}/transparent_hugepage`
  if (!files.has(folder)) return null
  return {
    enabled: chosen(files.read(`${folder}/enabled`)),
    defrag: chosen(files.read(`${folder}/defrag`)),
    shmemEnabled: chosen(files.read(`${folder}/shmem_enabled`)),
  }
}

function readPools(files: HostFiles): HugePagePool[] {
  const folder = `${MM}/hugepages`
  return files
    .list(folder)
    .map((name) => {
      const count = (file: string) => number(files.read(`${folder}/${name}/${file}`)) ?? 0
      return {
        pageSize: Number(/^hugepages-(\d+)kB$/.exec(name)?.[1] ?? 0) * 1024,
        total: count('nr_hugepages'),
        free: count('free_hugepages'),
        reserved: count('resv_hugepages'),
        surplus: count('surplus_hugepages'),
        overcommit: count('nr_overcommit_hugepages'),
      }
    })
    .filter((pool) => pool.pageSize > 0)
    .sort((a, b) => a.pageSize - b.pageSize)
}

function readKsm(files: HostFiles): HostMemory['ksm'] {
  const run = number(files.read(`${MM}/ksm/run`))
  if (run === null && !files.has(`${MM}/ksm`)) return null
  return {
    state: (['stopped', 'running', 'unmerged'] as const)[run ?? -1] ?? null,
    pagesShared: number(files.read(`${MM}/ksm/pages_shared`)),
    pagesSharing: number(files.read(`${MM}/ksm/pages_sharing`)),
  }
}

// The kernel shows a choice as all its values, the current one in brackets.
function chosen(text: string | undefined): string | null {
  return text === undefined ? null : (/\[(.+?)\]/.exec(text)?.[1] ?? text)
}

function number(text: string | undefined): number | null {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : null
}

function meminfoBytes(meminfo: string, name: string): number | null {
  const kib = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(meminfo)?.[1]
  return kib === undefined ? null : Number(kib) * 1024
}
