// What guest RAM is made of and how the host shall treat it, checked and carried out.

import type { Binding, Handle } from '../../binding.js'
import { type KvmErrorDetails, kvmError } from '../errors.js'
import { filePath, integer, invalidArgType, list, object, outOfRange } from '../validate.js'

/** Kinds of regions (native/memory.h). */
const BACKING = {
  memfd: 0,
  anonymous: 1,
  sharedFile: 2,
  privateFile: 3,
  huge2M: 4,
  huge1G: 5,
} as const
const PAGE = 4096
const MIB_2 = 0x20_0000
const GIB = 0x4000_0000

/**
 * A file as guest RAM. It must be at least as long as the region; if `private`, it may end within the last page, which
 * reads as zeros behind it.
 */
export interface FileBacking {
  file: string
  /** Where in the file the region begins; a multiple of 4096. Default 0. */
  offset?: number
  /**
   * `shared`: the guest's writes go to the file. `private`: they stay in the region, page by page
   * (copy on write), and the file is only read.
   */
  mode: 'shared' | 'private'
}

/** Huge pages of the host's pool (hugetlb). Refused with `ENOMEM` when the pool has too few. */
export interface HugePageBacking {
  hugePages: '2MiB' | '1GiB'
}

/**
 * What a region is made of. `memfd`, the default: shared memory that has no name, whose size is
 * sealed. `anonymous`: private memory, the only kind that merges (KSM) and that gets transparent huge
 * pages on most hosts.
 */
export type MemoryBacking = 'memfd' | 'anonymous' | FileBacking | HugePageBacking

/** On which NUMA nodes pages are allocated; mbind(2). */
export interface NumaPolicy {
  mode: 'bind' | 'preferred' | 'interleave'
  /** Node numbers, 0 to 52. */
  nodes: readonly number[]
}

/** How a region is allocated. */
export interface MemoryOptions {
  backing?: MemoryBacking
  /** Allocates every page now, so that none is missing later: `ENOMEM` comes now as well. */
  prefault?: boolean
  /** Keeps pages from being swapped out; all of them, or each from its first use on. mlock2(2). */
  mlock?: boolean | 'onfault'
  /**
   * Transparent huge pages: asks for them, forbids them, or makes them now (`collapse`, of what is
   * allocated; Linux 6.1). Without it the host's own setting holds.
   */
  thp?: 'madvise' | 'never' | 'collapse'
  /** Lets KSM merge equal pages; anonymous memory and private files. */
  mergeable?: boolean
  /** A child of fork(2) does not get the mapping. */
  dontFork?: boolean
  /** Core dumps leave it out. */
  dontDump?: boolean
  numa?: NumaPolicy
}

/** Advice of madvise(2), by the names of linux/mman.h. */
export const ADVICE = {
  free: 8,
  dontFork: 10,
  mergeable: 12,
  unmergeable: 13,
  hugePage: 14,
  noHugePage: 15,
  dontDump: 16,
  cold: 20,
  pageOut: 21,
  populateRead: 22,
  populateWrite: 23,
  collapse: 25,
} as const

const NUMA_MODES = { preferred: 1, bind: 2, interleave: 3 } as const

interface Source {
  backing: number
  path: string
  offset: number
  /** Bytes of the smallest page. */
  page: number
}

/** The options with what they come down to. */
export interface CheckedOptions extends Source {
  readonly options: MemoryOptions
  readonly nodes: number
}

/** Checks options before anything is allocated. */
export function checkedOptions(options: MemoryOptions, name: string): CheckedOptions {
  object(options, name)
  oneOf(options.thp, `${name}.thp`, ['madvise', 'never', 'collapse', undefined])
  oneOf(options.mlock, `${name}.mlock`, [true, false, 'onfault', undefined])
  for (const flag of ['prefault', 'mergeable', 'dontFork', 'dontDump'] as const) {
    oneOf(options[flag], `${name}.${flag}`, [true, false, undefined])
  }
  const nodes = options.numa === undefined ? 0 : nodeMask(options.numa, `${name}.numa`)
  return { ...sourceOf(options.backing, `${name}.backing`), options, nodes }
}

function sourceOf(backing: MemoryBacking = 'memfd', name: string): Source {
  const plain = { path: '', offset: 0, page: PAGE }
  if (backing === 'memfd') return { ...plain, backing: BACKING.memfd }
  if (backing === 'anonymous') return { ...plain, backing: BACKING.anonymous }
  object(backing, name)
  if ('hugePages' in backing) {
    oneOf(backing.hugePages, `${name}.hugePages`, ['2MiB', '1GiB'])
    return backing.hugePages === '2MiB'
      ? { ...plain, page: MIB_2, backing: BACKING.huge2M }
      : { ...plain, page: GIB, backing: BACKING.huge1G }
  }
  const { file, offset = 0, mode } = backing
  oneOf(mode, `${name}.mode`, ['shared', 'private'])
  const path = filePath(file, `${name}.file`)
  if (path === '') throw outOfRange(`${name}.file`, 'the path of a file', file)
  if (integer(offset, `${name}.offset`) % PAGE) {
    throw outOfRange(`${name}.offset`, `a multiple of ${PAGE}`, offset)
  }
  const kind = mode === 'shared' ? BACKING.sharedFile : BACKING.privateFile
  return { path, offset, page: PAGE, backing: kind }
}

function oneOf(value: unknown, name: string, allowed: readonly unknown[]): void {
  if (allowed.includes(value)) return
  throw invalidArgType(name, `one of ${allowed.map(String).join(', ')}`, value)
}

function nodeMask({ mode, nodes }: NumaPolicy, name: string): number {
  oneOf(mode, `${name}.mode`, Object.keys(NUMA_MODES))
  const numbers = new Set(list(nodes, `${name}.nodes`).map((n) => integer(n, name, 0, 52)))
  if (numbers.size === 0) throw outOfRange(`${name}.nodes`, 'at least one node', nodes)
  return [...numbers].reduce((mask, node) => mask + 2 ** node, 0)
}

/** Allocates a region and treats it as the options say; gives it up when the host refuses. */
export function createRegion(
  native: Binding,
  gpa: number,
  size: number,
  checked: CheckedOptions,
): Handle {
  const { backing, path, offset } = checked
  const handle = native.createRegion(size, gpa, backing, path, offset)
  if (typeof handle === 'number') throw kvmError(handle, creationDetails(gpa, size, checked))
  try {
    treat(native, handle, size, checked)
  } catch (error) {
    native.close(handle)
    throw error
  }
  return handle
}

function creationDetails(gpa: number, size: number, { path, page }: CheckedOptions) {
  const where = { gpa, size }
  if (path !== '') {
    const reasons = {
      EINVAL: 'not a regular file',
      EOVERFLOW: 'the file ends before the region does',
    }
    return { ...where, syscall: 'mmap', path, reasons }
  }
  if (page === PAGE) return { ...where, syscall: 'memfd_create' }
  const reason = 'the pool has too few free pages: see /sys/kernel/mm/hugepages'
  const reasons = { ENOMEM: reason, ENODEV: 'this host has no huge pages of that size' }
  return { ...where, syscall: 'mmap', reasons }
}

// ORDER: policies before pages are allocated; collapsing after.
function treat(native: Binding, handle: Handle, size: number, checked: CheckedOptions): void {
  const { options, nodes, backing } = checked
  const done = (result: number, details: KvmErrorDetails) => {
    if (result < 0) throw kvmError(result, { size, ...details })
  }
  const advise = (advice: number, reasons: Readonly<Record<string, string>> = {}) =>
    done(native.adviseRegion(handle, 0, size, advice), { syscall: 'madvise', reasons })
  if (options.numa !== undefined) {
    const reason = { EINVAL: 'a node is not there or has no memory' }
    const mode = NUMA_MODES[options.numa.mode]
    done(native.bindRegion(handle, mode, nodes), { syscall: 'mbind', reasons: reason })
  }
  if (options.thp === 'madvise') advise(ADVICE.hugePage)
  if (options.thp === 'never') advise(ADVICE.noHugePage)
  if (options.mergeable) advise(ADVICE.mergeable, { EINVAL: 'the host has no KSM' })
  if (options.dontFork) advise(ADVICE.dontFork)
  if (options.dontDump) advise(ADVICE.dontDump)
  // A private file's pages stay the file's own until they are written.
  const populate = backing === BACKING.privateFile ? ADVICE.populateRead : ADVICE.populateWrite
  if (options.prefault) advise(populate, { EINVAL: 'needs Linux 5.14' })
  if (options.thp === 'collapse') advise(ADVICE.collapse, { EINVAL: 'needs Linux 6.1' })
  if (options.mlock) {
    const onFault = options.mlock === 'onfault' ? 1 : 0
    done(native.lockRegion(handle, onFault), {
      syscall: 'mlock2',
      reasons: { ENOMEM: 'beyond RLIMIT_MEMLOCK', EPERM: 'RLIMIT_MEMLOCK is 0' },
    })
  }
}
