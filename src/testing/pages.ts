// The page tables of a test guest: mappings with any rights, single entries, what the processor has
// noted in them.

import type { GuestMemory } from '../core/memory.js'
import { PTE } from '../x86/page-entry.js'
import type { PageFlags, PageTableBuilder } from '../x86/page-table-builder.js'
import {
  type PageAccess,
  type PageWalk,
  type PagingRegisters,
  walkPageTables,
} from '../x86/page-walk.js'
import { mapRam } from './guest-image.js'
import type { Mode } from './modes.js'
import type { TranslationCaches } from './translation-caches.js'

const PAGE = 4096
/** A user's page too, under SMAP. */
const ANY_PAGE: PageAccess = { ac: true }

/** The entry that maps a page. */
export interface MappedEntry {
  /** Where the entry lies. */
  readonly gpa: number
  readonly entry: bigint
  /** 1: a page of 4 KiB; 2 and 3: larger ones. */
  readonly level: number
}

/**
 * The page tables of a guest. What is changed counts from the next run on, and until a reset. The
 * test's changes are seen at once; a guest that changes entries itself must do as the manuals say
 * (INVLPG).
 */
export class GuestPages {
  readonly #memory: GuestMemory
  readonly #mode: Mode
  readonly #registers: () => PagingRegisters
  readonly #caches: TranslationCaches
  #builder: PageTableBuilder | undefined

  /** @internal */
  constructor(
    memory: GuestMemory,
    mode: Mode,
    registers: () => PagingRegisters,
    caches: TranslationCaches,
  ) {
    this.#memory = memory
    this.#mode = mode
    this.#registers = registers
    this.#caches = caches
  }

  get #tables(): PageTableBuilder {
    if (this.#builder) return this.#builder
    const builder = mapRam(this.#memory, this.#mode, this.#memory.size)
    if (!builder) throw new TypeError('this mode has no page tables')
    // All entries are new.
    this.#caches.changedAll()
    this.#builder = builder
    return builder
  }

  /** @internal The tables in RAM are those of the beginning. */
  reset(): void {
    this.#builder = undefined
  }

  /**
   * Maps `size` bytes at a linear address to a guest-physical one. Behind RAM (from
   * `memory.size` on) there is a hole: what reaches for it ends a run with an `'mmio'` exit.
   *
   * @throws RangeError for addresses that are not multiples of 4096, and when the room for tables
   *   (64 KiB) is used up.
   */
  map(linear: bigint, gpa: number, size: number, flags: PageFlags = {}): this {
    const tables = this.#tables
    this.#touch(linear, size)
    tables.map(linear, gpa, size, flags)
    if (gpa + size > this.#memory.size) this.#caches.addHole()
    return this
  }

  /** Takes mappings away. */
  unmap(linear: bigint, size: number): this {
    const tables = this.#tables
    this.#touch(linear, size)
    tables.unmap(linear, size)
    return this
  }

  /** Gives mapped pages other rights; what is not named is as {@link PageFlags} says. */
  protect(linear: bigint, size: number, flags: PageFlags): this {
    for (let done = 0; done < size; done += PAGE) {
      const at = linear + BigInt(done)
      const gpa = this.translate(at)
      if (gpa === undefined) throw notMapped(at)
      this.map(at, gpa - (gpa % PAGE), PAGE, flags)
    }
    return this
  }

  /** The last entry for an address, present or not; undefined where a table is missing. */
  entry(linear: bigint): MappedEntry | undefined {
    const last = this.walk(linear, ANY_PAGE).levels.at(-1)
    if (!last || (last.level > 1 && (last.entry & PTE.PS) === 0n)) return undefined
    return { gpa: last.entryGpa, entry: last.entry, level: last.level }
  }

  /** Changes the entry that maps an address, to any bits at all. */
  change(linear: bigint, change: (entry: bigint) => bigint): this {
    const found = this.entry(linear)
    if (!found) throw notMapped(linear)
    this.#touch(linear, PAGE)
    const { gpa, entry } = found
    if (this.#mode.paging === '32-bit') this.#memory.writeU32(gpa, Number(change(entry)))
    else this.#memory.writeU64(gpa, change(entry))
    return this
  }

  /** What the processor would find on its way to an address, level by level. */
  walk(linear: bigint, access?: PageAccess): PageWalk {
    return walkPageTables(this.#memory, this.#registers(), linear, access)
  }

  /** Where a linear address lies in guest-physical memory; undefined where nothing is mapped. */
  translate(linear: bigint): number | undefined {
    const walk = this.walk(linear, ANY_PAGE)
    return walk.fault ? undefined : walk.gpa
  }

  /** Whether the page was used and written, by the bits that the processor sets in its entry. */
  usage(linear: bigint): { accessed: boolean; dirty: boolean } {
    const { entry } = this.entry(linear) ?? { entry: 0n }
    return { accessed: (entry & PTE.A) !== 0n, dirty: (entry & PTE.D) !== 0n }
  }

  /** Clears the accessed and dirty bits of a page's entry. */
  clearUsage(linear: bigint): this {
    return this.change(linear, (entry) => entry & ~(PTE.A | PTE.D))
  }

  #touch(linear: bigint, size: number): void {
    for (let done = 0; done < size; done += PAGE) {
      const gpa = this.translate(linear + BigInt(done))
      if (gpa !== undefined) this.#caches.changed(gpa - (gpa % PAGE))
    }
  }
}

function notMapped(linear: bigint): RangeError {
  return new RangeError(`0x${linear.toString(16)} is not mapped`)
}
