// The four paging modes: which one the registers choose, and the shape of its tables.

import { flagBits } from './bitfields.js'
import { CR0, CR4 } from './control-registers.js'
import { EFER } from './efer.js'

/** A paging mode that translates. Source: SDM vol. 3A §4.1.1. */
export type PagingMode = '32-bit' | 'pae' | '4-level' | '5-level'

/** One level of the tables, from the top. Level 1 holds the entries of 4 KiB pages. */
export interface PagingLevel {
  /** 5 for PML5 down to 1 for the page table. */
  readonly level: number
  /** The manual's name of an entry at this level. */
  readonly entryName: 'PML5E' | 'PML4E' | 'PDPTE' | 'PDE' | 'PTE'
  /** Lowest bit of the linear address that indexes this level. */
  readonly shift: number
  /** Number of such bits. */
  readonly bits: number
  /** An entry at this level can map a page of `1 << shift` bytes itself. */
  readonly canMapPage: boolean
}

/** The shape of a paging mode's tables. */
export interface PagingGeometry {
  readonly mode: PagingMode
  /** Size of an entry in bytes. */
  readonly entrySize: 4 | 8
  /** Width of a linear address in bits. */
  readonly linearBits: number
  /** The levels, top first. */
  readonly levels: readonly PagingLevel[]
}

const PTE: PagingLevel = { level: 1, entryName: 'PTE', shift: 12, bits: 9, canMapPage: true }
const PDE: PagingLevel = { level: 2, entryName: 'PDE', shift: 21, bits: 9, canMapPage: true }
const PDPTE: PagingLevel = { level: 3, entryName: 'PDPTE', shift: 30, bits: 9, canMapPage: true }
const PML4E: PagingLevel = { level: 4, entryName: 'PML4E', shift: 39, bits: 9, canMapPage: false }
const PML5E: PagingLevel = { level: 5, entryName: 'PML5E', shift: 48, bits: 9, canMapPage: false }

/**
 * The shapes of all modes. Source: SDM vol. 3A §4.3 (32-bit), §4.4 (PAE), §4.5 (4- and 5-level).
 */
export const PAGING_GEOMETRY: Readonly<Record<PagingMode, PagingGeometry>> = {
  '32-bit': {
    mode: '32-bit',
    entrySize: 4,
    linearBits: 32,
    levels: [
      { ...PDE, shift: 22, bits: 10 },
      { ...PTE, bits: 10 },
    ],
  },
  pae: {
    mode: 'pae',
    entrySize: 8,
    linearBits: 32,
    levels: [{ ...PDPTE, bits: 2, canMapPage: false }, PDE, PTE],
  },
  '4-level': {
    mode: '4-level',
    entrySize: 8,
    linearBits: 48,
    levels: [PML4E, PDPTE, PDE, PTE],
  },
  '5-level': {
    mode: '5-level',
    entrySize: 8,
    linearBits: 57,
    levels: [PML5E, PML4E, PDPTE, PDE, PTE],
  },
}

/**
 * The paging mode that control registers select; `'none'` when paging is off. Source: SDM vol. 3A
 * §4.1.1, figure 4-1.
 */
export function pagingMode(registers: {
  cr0: bigint
  cr4: bigint
  efer: bigint
}): PagingMode | 'none' {
  const { cr0, cr4, efer } = registers
  if ((cr0 & flagBits(CR0, 'PG')) === 0n) return 'none'
  if ((cr4 & flagBits(CR4, 'PAE')) === 0n) return '32-bit'
  if ((efer & flagBits(EFER, 'LME', 'LMA')) === 0n) return 'pae'
  return (cr4 & flagBits(CR4, 'LA57')) === 0n ? '4-level' : '5-level'
}

/** Index of the entry that translates `va` in a table of this level. */
export function tableIndex(level: PagingLevel, va: bigint): number {
  return Number((va >> BigInt(level.shift)) & ((1n << BigInt(level.bits)) - 1n))
}

/** Whether a 64-bit linear address is canonical for addresses of `bits` bits. */
export function isCanonical(va: bigint, bits: number): boolean {
  return BigInt.asUintN(64, BigInt.asIntN(bits, va)) === BigInt.asUintN(64, va)
}
