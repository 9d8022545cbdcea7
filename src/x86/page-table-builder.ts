// Builds page tables in guest memory, in all four paging modes. Tables come from a range that the
// caller sets aside; nothing outside of it is written.

import { flagBits } from './bitfields.js'
import { CR0, CR4 } from './control-registers.js'
import { EFER } from './efer.js'
import { checkInteger, checkUnsigned, outOfRange } from './out-of-range.js'
import { PTE, pageAddress, pageAddressBits, tableAddress } from './page-entry.js'
import {
  isCanonical,
  PAGING_GEOMETRY,
  type PagingGeometry,
  type PagingLevel,
  type PagingMode,
  tableIndex,
} from './paging-mode.js'
import type { PhysicalMemory } from './physical-memory.js'

/** Rights and attributes of a mapping. */
export interface PageFlags {
  /** Writes allowed (true by default). */
  writable?: boolean
  /** User-mode accesses allowed (false). */
  user?: boolean
  /** No instruction fetches (false); not in 32-bit paging. */
  nx?: boolean
  /** Survives CR3 loads in the TLB (false). */
  global?: boolean
  /** Bit 0 of the PAT index (false). */
  pwt?: boolean
  /** Bit 1 of the PAT index (false). */
  pcd?: boolean
  /** Bit 2 of the PAT index (false). */
  pat?: boolean
  /** Accessed flag already set (false). */
  accessed?: boolean
  /** Dirty flag already set (false). */
  dirty?: boolean
  /** Protection key, 0 to 15 (0); 4- and 5-level paging only. */
  pkey?: number
}

/** Where a {@link PageTableBuilder} puts its tables, and what it may use. */
export interface PageTableOptions {
  mode: PagingMode
  /** Guest-physical address of the range for tables, 4 KiB aligned; below 4 GiB in 32-bit modes. */
  gpa: number
  /** Size of that range in bytes, a multiple of 4 KiB. The first table is the one CR3 points to. */
  size: number
  /**
   * Largest page to use, in bytes: 4 KiB, 2 MiB (4 MiB in 32-bit paging) or 1 GiB. The default is
   * 2 or 4 MiB, since 1 GiB pages need the CPUID feature `pdpe1gb`.
   */
  maxPageSize?: number
}

/** Bits that registers must have for the tables to work; other bits are the caller's. */
export interface PagingRegisterBits {
  /** PE and PG. */
  cr0: bigint
  /** The whole register. */
  cr3: bigint
  /** PAE, PSE, LA57, PGE and PKE, as far as used. */
  cr4: bigint
  /** LME, LMA and NXE, as far as used. */
  efer: bigint
}

const PAGE = 4096

/**
 * Builds page tables. Source: SDM vol. 3A §4.3 to §4.5.
 *
 * ```ts
 * const tables = new PageTableBuilder(memory, { mode: '4-level', gpa: 0x9000, size: 0x7000 })
 * tables.map(0n, 0, 512 * 2 ** 20).map(0xffff_8000_0000_0000n, 0, 2 ** 21, { user: true })
 * const { cr0, cr3, cr4, efer } = tables.registers()
 * ```
 */
export class PageTableBuilder {
  /** Guest-physical address of the top table. */
  readonly root: number
  readonly #memory: PhysicalMemory
  readonly #geometry: PagingGeometry
  readonly #end: number
  readonly #maxPageSize: number
  #next: number
  #cr4 = 0n
  #efer = 0n

  /**
   * Sets the range aside and clears its first page, the top table.
   *
   * @throws RangeError (`ERR_OUT_OF_RANGE`) for a misplaced or misaligned range, or one that is not
   * RAM
   */
  constructor(memory: PhysicalMemory, options: PageTableOptions) {
    const { mode, gpa, size } = options
    this.#memory = memory
    this.#geometry = PAGING_GEOMETRY[mode]
    const limit = this.#geometry.linearBits === 32 ? 2 ** 32 : 2 ** 52
    checkAligned('gpa', gpa, PAGE)
    checkAligned('size', size, PAGE)
    checkInteger('gpa + size', gpa + size, gpa + PAGE, limit)
    this.#next = gpa
    this.#end = gpa + size
    this.#maxPageSize = options.maxPageSize ?? (mode === '32-bit' ? 2 ** 22 : 2 ** 21)
    this.root = this.#allocate()
    if (mode === '32-bit' && this.#maxPageSize >= 2 ** 22) this.#cr4 |= flagBits(CR4, 'PSE')
  }

  /** Bytes of the range that tables occupy so far. */
  get used(): number {
    return this.#next - this.root
  }

  /**
   * Maps `size` bytes at linear address `va` to guest-physical address `gpa`, with the largest
   * pages that alignment allows. An existing mapping of the same addresses is replaced; a large
   * page that is replaced in part is split.
   *
   * @throws RangeError (`ERR_OUT_OF_RANGE`) when addresses or size are not multiples of 4 KiB or do
   * not fit the mode, or when a flag does not exist in the mode; also when the range for tables is
   * full, and then the first part of the addresses may already be mapped
   */
  map(va: bigint, gpa: number, size: number, flags: PageFlags = {}): this {
    checkAligned('gpa', gpa, PAGE)
    this.#checkLinear(va, size)
    checkInteger('gpa + size', gpa + size, gpa, 2 ** (this.#geometry.entrySize === 4 ? 40 : 52))
    this.#checkFlags(flags)
    for (let done = 0; done < size; ) {
      const linear = va + BigInt(done)
      const level = this.#largestPage(linear, gpa + done, size - done)
      this.#checkReach(level, gpa + done)
      const entryGpa = this.#entryFor(linear, level, true)!
      this.#write(entryGpa, this.#leafEntry(level, gpa + done, flags))
      done += 2 ** level.shift
    }
    return this
  }

  /**
   * Removes mappings. What was not mapped is no error; a large page that is removed in part is
   * split. Tables that become empty are not reused.
   *
   * @throws RangeError (`ERR_OUT_OF_RANGE`) for misaligned or impossible addresses, or when a split
   * finds the range for tables full
   */
  unmap(va: bigint, size: number): this {
    this.#checkLinear(va, size)
    for (let done = 0; done < size; ) {
      const linear = va + BigInt(done)
      const level = this.#largestPage(linear, 0, size - done)
      const entryGpa = this.#entryFor(linear, level, false)
      if (entryGpa !== undefined) this.#write(entryGpa, 0n)
      done += 2 ** level.shift
    }
    return this
  }

  /** What CR0, CR3, CR4 and EFER need for these tables, after all that was mapped so far. */
  registers(): PagingRegisterBits {
    const { mode } = this.#geometry
    const long = mode === '4-level' || mode === '5-level'
    return {
      cr0: flagBits(CR0, 'PE', 'PG'),
      cr3: BigInt(this.root),
      cr4:
        this.#cr4 |
        (mode === '32-bit' ? 0n : flagBits(CR4, 'PAE')) |
        (mode === '5-level' ? flagBits(CR4, 'LA57') : 0n),
      efer: this.#efer | (long ? flagBits(EFER, 'LME', 'LMA') : 0n),
    }
  }

  #checkLinear(va: bigint, size: number): void {
    const { linearBits } = this.#geometry
    checkAligned('size', size, PAGE)
    checkInteger('size', size, PAGE, Number.MAX_SAFE_INTEGER)
    checkUnsigned('va', va, 64)
    const last = va + BigInt(size) - 1n
    if (va % BigInt(PAGE) !== 0n) throw outOfRange('va', 'a multiple of 4096', va)
    const fits =
      linearBits === 32
        ? last < 2n ** 32n
        : isCanonical(va, linearBits) && isCanonical(last, linearBits) && last >> 63n === va >> 63n
    if (!fits) throw outOfRange('va', `the start of ${size} valid linear addresses`, va)
  }

  #checkFlags({ nx, global, pkey = 0 }: PageFlags): void {
    const { mode } = this.#geometry
    checkInteger('pkey', pkey, 0, this.#geometry.linearBits === 32 ? 0 : 15)
    if (nx && mode === '32-bit') throw outOfRange('nx', 'false in 32-bit paging', nx)
    if (nx) this.#efer |= flagBits(EFER, 'NXE')
    if (global) this.#cr4 |= flagBits(CR4, 'PGE')
    if (pkey !== 0) this.#cr4 |= flagBits(CR4, 'PKE')
  }

  // PSE-36 gives large pages 40-bit addresses, but a 32-bit PTE has no room above 4 GiB.
  #checkReach(level: PagingLevel, gpa: number): void {
    if (this.#geometry.entrySize === 4 && level.level === 1 && gpa >= 2 ** 32) {
      throw outOfRange('gpa', 'below 4 GiB for 4 KiB pages of 32-bit paging', gpa)
    }
  }

  #largestPage(va: bigint, gpa: number, size: number): PagingLevel {
    const fits = ({ shift, canMapPage }: PagingLevel) => {
      const bytes = 2 ** shift
      const aligned = va % BigInt(bytes) === 0n && gpa % bytes === 0
      return canMapPage && aligned && bytes <= size && bytes <= Math.max(this.#maxPageSize, PAGE)
    }
    return this.#geometry.levels.find(fits)!
  }

  // Guest-physical address of the entry for `va` at a level; without `create`, undefined where a
  // table on the way is missing.
  #entryFor(va: bigint, target: PagingLevel, create: boolean): number | undefined {
    let table = this.root
    for (const level of this.#geometry.levels) {
      const entryGpa = table + tableIndex(level, va) * this.#geometry.entrySize
      if (level.level === target.level) return entryGpa
      const entry = this.#read(entryGpa)
      if ((entry & PTE.P) === 0n && !create) return undefined
      table = this.#tableBelow(level, entryGpa, entry)
    }
    return undefined
  }

  #tableBelow(level: PagingLevel, entryGpa: number, entry: bigint): number {
    const present = (entry & PTE.P) !== 0n
    const large = present && (entry & PTE.PS) !== 0n
    if (present && !large) return tableAddress(this.#geometry, entry)
    const table = this.#allocate()
    if (large) this.#split(level, entry, table)
    // Rights are and-ed over the levels, so the leaf alone decides. PAE's PDPTEs have no such bits.
    const rights = this.#geometry.mode === 'pae' && level.level === 3 ? 0n : PTE.RW | PTE.US
    this.#write(entryGpa, BigInt(table) | PTE.P | rights)
    return table
  }

  // Fills a table with the pages that together are the large page of `entry`.
  #split(level: PagingLevel, entry: bigint, table: number): void {
    const { levels, entrySize } = this.#geometry
    const below = levels[levels.indexOf(level) + 1]!
    const first = pageAddress(this.#geometry, level, entry)
    this.#checkReach(below, first)
    const toPte = below.level === 1
    const pat = entry & PTE.PATLarge ? (toPte ? PTE.PS : PTE.PATLarge) : 0n
    const kept = entry & (0x1ffn | (0x7ffn << 52n) | PTE.XD)
    const attributes = ((toPte ? kept & ~PTE.PS : kept) | pat) & (entrySize === 4 ? 0xfffn : ~0n)
    for (let i = 0; i < 2 ** below.bits; i++) {
      const address = pageAddressBits(this.#geometry, below, first + i * 2 ** below.shift)
      this.#write(table + i * entrySize, attributes | address)
    }
  }

  #leafEntry(level: PagingLevel, gpa: number, flags: PageFlags): bigint {
    const large = level.level > 1
    const patBit = large ? PTE.PATLarge : PTE.PS
    return (
      pageAddressBits(this.#geometry, level, gpa) |
      PTE.P |
      (large ? PTE.PS : 0n) |
      ((flags.writable ?? true) ? PTE.RW : 0n) |
      (flags.user ? PTE.US : 0n) |
      (flags.nx ? PTE.XD : 0n) |
      (flags.global ? PTE.G : 0n) |
      (flags.pwt ? PTE.PWT : 0n) |
      (flags.pcd ? PTE.PCD : 0n) |
      (flags.pat ? patBit : 0n) |
      (flags.accessed ? PTE.A : 0n) |
      (flags.dirty ? PTE.D : 0n) |
      (BigInt(flags.pkey ?? 0) << 59n)
    )
  }

  #allocate(): number {
    if (this.#next + PAGE > this.#end) {
      throw outOfRange('size', 'large enough for all tables', this.#end - this.root)
    }
    const table = this.#next
    this.#memory.fill(table, PAGE, 0)
    this.#next += PAGE
    return table
  }

  #read(gpa: number): bigint {
    if (this.#geometry.entrySize === 8) return this.#memory.readU64(gpa)
    return BigInt(this.#memory.readU32(gpa))
  }

  #write(gpa: number, entry: bigint): void {
    if (this.#geometry.entrySize === 8) this.#memory.writeU64(gpa, entry)
    else this.#memory.writeU32(gpa, Number(entry))
  }
}

function checkAligned(name: string, value: number, alignment: number): void {
  if (!Number.isSafeInteger(value) || value < 0 || value % alignment !== 0) {
    throw outOfRange(name, `a multiple of ${alignment}`, value)
  }
}
