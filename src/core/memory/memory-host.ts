// Guest RAM as the host has it: which pages there are, what they cost, and how to give them back.

import type { Binding, Handle } from '../../binding.js'
import { kvmError } from '../errors.js'
import { integer, invalidArgType, list, object, oneOf, outOfRange } from '../validate.js'
import { MemoryAccess } from './memory-access.js'
import { ADVICE } from './memory-options.js'
import { type MemoryUsage, sumSmaps } from './memory-usage.js'
import { type PageState, Residency } from './residency.js'

const PAGE = 4096

/** @internal A part of a native region. */
export interface RegionPart {
  readonly handle: Handle
  readonly gpa: number
  readonly offset: number
  readonly length: number
}

/** What {@link GuestMemory.advise} can say of pages. */
export type MemoryAdvice = keyof typeof ADVICE

const TOUCHING: ReadonlySet<MemoryAdvice> = new Set(['populateRead', 'populateWrite', 'collapse'])

/** Guest RAM and the host's memory management. Ranges are aligned to 4096 here. */
export abstract class MemoryHost extends MemoryAccess {
  /** @internal */
  protected abstract get binding(): Binding
  /** @internal The range in native regions; throws when any of it is not RAM. */
  protected abstract parts(gpa: number, length: number): RegionPart[]

  /**
   * Gives pages back to the host: they read as zeros afterwards and are allocated anew when they are
   * touched. In a private copy of a file they read as the file has them; a shared file gets a hole.
   *
   * What a balloon does with a page that the guest gave up. Memory that is locked (`mlock`) and
   * anonymous cannot be given back (`EINVAL`); huge pages only whole.
   *
   * @throws KvmError what fallocate(2) or madvise(2) refuses.
   */
  discard(gpa: number, length: number): void {
    this.#eachPart(gpa, length, 'discard', (part) =>
      this.binding.discardRegion(part.handle, part.offset, part.length),
    )
  }

  /**
   * Takes note of pages that the guest says it has no use for, as a balloon with free page reporting
   * hears of them: their contents may be lost until they are written again. Anonymous memory loses
   * them only when the host is short of memory (MADV_FREE), other kinds at once.
   *
   * What comes from a guest is not to be trusted: parts of pages, and what is not RAM, are left out.
   *
   * @returns How many bytes were taken note of.
   * @throws KvmError what madvise(2) or fallocate(2) refuses.
   */
  hintFree(ranges: readonly { readonly gpa: number; readonly size: number }[]): number {
    let bytes = 0
    for (const range of list(ranges, 'ranges')) {
      const { gpa, size } = object(range, 'ranges[]')
      const end = integer(gpa, 'gpa') + integer(size, 'size')
      for (const ram of this.ranges) {
        const from = Math.ceil(Math.max(gpa, ram.gpa) / PAGE) * PAGE
        const to = Math.floor(Math.min(end, ram.gpa + ram.size) / PAGE) * PAGE
        if (from >= to) continue
        this.#release(from, to - from)
        bytes += to - from
      }
    }
    return bytes
  }

  #release(gpa: number, length: number): void {
    for (const part of this.parts(gpa, length)) {
      const { handle, offset } = part
      if (this.binding.adviseRegion(handle, offset, part.length, ADVICE.free) === 0) continue
      this.discard(part.gpa, part.length)
    }
  }

  /**
   * Says what is to be expected of pages: madvise(2). None of it changes what the guest reads, but
   * for `free` (MADV_FREE), after which anonymous pages may turn into zeros until they are written.
   *
   * @throws KvmError `EINVAL` where the kernel or the region's kind has no such thing.
   */
  advise(gpa: number, length: number, advice: MemoryAdvice): void {
    if (!Object.hasOwn(ADVICE, advice)) {
      throw invalidArgType('advice', `one of ${Object.keys(ADVICE).join(', ')}`, advice)
    }
    // These touch the pages here and now.
    if (TOUCHING.has(advice)) this.checkTouch(gpa, length)
    this.#eachPart(gpa, length, 'madvise', (part) =>
      this.binding.adviseRegion(part.handle, part.offset, part.length, ADVICE[advice]),
    )
  }

  /**
   * Begins to bring pages in, to be read or to be written, on a thread of its own with a low priority, and returns at
   * once: what is touched later is there, and what is touched meanwhile comes as it always does. It is help and no
   * promise: the thread ends early when the kernel refuses (MADV_POPULATE_READ and _WRITE need Linux 5.14) or nobody
   * uses the memory any more, and nobody is told.
   *
   * @throws KvmError `EBUSY` where a {@link Userfault} serves pages.
   */
  prefault(gpa: number, length: number, access: 'read' | 'write' = 'write'): void {
    const write = oneOf(access, 'access', ['read', 'write']) === 'write' ? 1 : 0
    this.checkTouch(gpa, length)
    this.#eachPart(gpa, length, 'madvise', (part) =>
      this.binding.prefaultRegion(part.handle, part.offset, part.length, write),
    )
  }

  /**
   * Which pages have memory behind them; mincore(2). Of shared memory: wherever it is, of anonymous
   * memory: in this process's page tables.
   */
  residency(gpa: number, length: number): Residency {
    checkAligned(gpa, length)
    // Found to be RAM before as many bytes are allocated as its pages need.
    this.parts(gpa, length)
    const pages = new Uint8Array(length / PAGE)
    this.#eachPart(gpa, length, 'mincore', (part) => {
      const first = (part.gpa - gpa) / PAGE
      const bytes = pages.subarray(first, first + part.length / PAGE)
      return this.binding.regionResidency(part.handle, part.offset, bytes)
    })
    return new Residency(gpa, pages)
  }

  /**
   * What this process's page tables say of one page: `/proc/self/pagemap`.
   *
   * @throws KvmError what open(2) or pread(2) refuses.
   */
  pageState(gpa: number): PageState {
    const entry = new BigUint64Array(1)
    const page = integer(gpa, 'gpa') - (gpa % PAGE)
    this.#eachPart(page, PAGE, 'pread64', (part) =>
      this.binding.regionPagemap(part.handle, part.offset, new Uint8Array(entry.buffer)),
    )
    const word = entry[0]!
    const bit = (n: bigint) => ((word >> n) & 1n) === 1n
    return { present: bit(63n), swapped: bit(62n), file: bit(61n), exclusive: bit(56n) }
  }

  /** What all of it costs, from `/proc/self/smaps`. */
  usage(): MemoryUsage {
    const texts = new Set<Handle>()
    for (const { gpa, size } of this.ranges) {
      for (const { handle } of this.parts(gpa, size)) texts.add(handle)
    }
    return sumSmaps([...texts].map((handle) => this.binding.regionSmaps(handle)))
  }

  /**
   * Pages that were not there when they were touched, because a file was truncated or the pool of huge
   * pages was empty, and that are private zeros since. 0 for memfd and anonymous memory.
   */
  get lostPages(): number {
    let lost = 0
    for (const { gpa, size } of this.ranges) {
      for (const { handle } of this.parts(gpa, size)) lost += this.binding.regionLostPages(handle)
    }
    return lost
  }

  #eachPart(gpa: number, length: number, syscall: string, act: (part: RegionPart) => number): void {
    checkAligned(gpa, length)
    for (const part of this.parts(gpa, length)) {
      const result = act(part)
      if (result < 0) throw kvmError(result, { syscall, gpa: part.gpa, size: part.length })
    }
  }
}

function checkAligned(gpa: number, length: number): void {
  if (integer(gpa, 'gpa') % PAGE) throw outOfRange('gpa', `a multiple of ${PAGE}`, gpa)
  if (integer(length, 'length') % PAGE) throw outOfRange('length', `a multiple of ${PAGE}`, length)
}
