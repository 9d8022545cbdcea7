// Entries of paging structures: their bits, the address they hold, and which bits must be zero.

import { field, flag, flagBits } from './bitfields.js'
import type { PagingGeometry, PagingLevel } from './paging-mode.js'

/**
 * Bits of a page-table entry of any level. Bits 62:52 and the bits from 9 that have no name are
 * free for software. Source: SDM vol. 3A §4.3, tables 4-4 to 4-6; §4.4.2, tables 4-9 to 4-11;
 * §4.5.4, tables 4-14 to 4-20.
 */
export const PAGE_ENTRY = {
  /** Present. */
  P: flag(0),
  /** Writable. */
  RW: flag(1),
  /** User-mode accesses allowed. */
  US: flag(2),
  /** Write-through: bit 0 of the PAT index. */
  PWT: flag(3),
  /** Cache disable: bit 1 of the PAT index. */
  PCD: flag(4),
  /** Accessed. */
  A: flag(5),
  /** Dirty, in entries that map a page. */
  D: flag(6),
  /** Page size: the entry maps a page. In a PTE this bit is bit 2 of the PAT index. */
  PS: flag(7),
  /** Global, in entries that map a page. */
  G: flag(8),
  /** Bit 2 of the PAT index, in entries of large pages. */
  PATLarge: flag(12),
  /** Protection key, in entries that map a page; 4- and 5-level paging only. */
  key: field(59, 4),
  /** Execute disable; not in 32-bit paging. */
  XD: flag(63),
}

/** Bits of {@link PAGE_ENTRY} as masks, for code that combines many. */
export const PTE = {
  P: flagBits(PAGE_ENTRY, 'P'),
  RW: flagBits(PAGE_ENTRY, 'RW'),
  US: flagBits(PAGE_ENTRY, 'US'),
  PWT: flagBits(PAGE_ENTRY, 'PWT'),
  PCD: flagBits(PAGE_ENTRY, 'PCD'),
  A: flagBits(PAGE_ENTRY, 'A'),
  D: flagBits(PAGE_ENTRY, 'D'),
  PS: flagBits(PAGE_ENTRY, 'PS'),
  G: flagBits(PAGE_ENTRY, 'G'),
  PATLarge: flagBits(PAGE_ENTRY, 'PATLarge'),
  XD: flagBits(PAGE_ENTRY, 'XD'),
} as const

const ADDRESS_64 = 0x000f_ffff_ffff_f000n
const ADDRESS_32 = 0xffff_f000n

/** A range of bits, both ends included, as the manuals write `high:low`; empty if `low > high`. */
function bits(high: number, low: number): bigint {
  return low > high ? 0n : ((1n << BigInt(high - low + 1)) - 1n) << BigInt(low)
}

/** Guest-physical address of the table that a non-leaf entry points to. */
export function tableAddress(geometry: PagingGeometry, entry: bigint): number {
  return Number(entry & (geometry.entrySize === 4 ? ADDRESS_32 : ADDRESS_64))
}

/** Guest-physical address of the page that a leaf entry maps. */
export function pageAddress(geometry: PagingGeometry, level: PagingLevel, entry: bigint): number {
  if (geometry.entrySize === 8) return Number(entry & ADDRESS_64 & ~bits(level.shift - 1, 0))
  if (level.level === 1) return Number(entry & ADDRESS_32)
  // PSE-36: bits 20:13 of a 4 MiB entry are bits 39:32 of the address (SDM vol. 3A table 4-4).
  return Number((entry & bits(31, 22)) + (((entry >> 13n) & 0xffn) << 32n))
}

/** The address bits of an entry that maps the page at `gpa`: the inverse of {@link pageAddress}. */
export function pageAddressBits(geometry: PagingGeometry, level: PagingLevel, gpa: number): bigint {
  const value = BigInt(gpa)
  if (geometry.entrySize === 8 || level.level === 1) return value
  return (value & bits(31, 22)) + ((value >> 32n) << 13n)
}

/** What reserved bits depend on, besides the level. */
export interface ReservedBitRules {
  /** Width of a physical address, CPUID leaf 0x80000008, EAX bits 7:0. */
  maxPhyAddr: number
  /** EFER.NXE. */
  nxe: boolean
  /** 1 GiB pages exist (CPUID feature `pdpe1gb`). */
  gbPages: boolean
}

/**
 * The bits that must be zero in a present entry. Source: SDM vol. 3A §4.3, §4.4.1 table 4-8,
 * §4.4.2, §4.5.4, and §4.7 for the rule that they fault.
 */
export function reservedBits(
  geometry: PagingGeometry,
  level: PagingLevel,
  isLeaf: boolean,
  rules: ReservedBitRules,
): bigint {
  const large = isLeaf && level.level > 1
  if (geometry.mode === '32-bit') {
    return large ? bits(21, Math.min(40, rules.maxPhyAddr) - 19) : 0n
  }
  if (geometry.mode === 'pae' && level.level === 3) {
    return bits(2, 1) | bits(8, 5) | bits(63, rules.maxPhyAddr)
  }
  const top = geometry.mode === 'pae' ? 62 : 51
  return (
    bits(top, rules.maxPhyAddr) |
    (rules.nxe ? 0n : PTE.XD) |
    (large ? bits(level.shift - 1, 13) : 0n) |
    (forbidsPageSize(level, rules) ? PTE.PS : 0n)
  )
}

function forbidsPageSize(level: PagingLevel, rules: ReservedBitRules): boolean {
  return !level.canMapPage || (level.level === 3 && !rules.gbPages)
}
