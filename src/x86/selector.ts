// Segment selectors: an index into the GDT or LDT with a requested privilege level.

import { choice, decodeBits, encodeBits, field } from './bitfields.js'

/** A segment selector. Source: SDM vol. 3A §3.4.2, figure 3-6. */
export const SELECTOR = {
  /** Requested privilege level. */
  rpl: field(0, 2),
  /** The table that `index` counts in. */
  table: choice(2, 1, { gdt: 0, ldt: 1 }),
  /** Index of the 8-byte slot in the table. */
  index: field(3, 13),
}

/**
 * Builds a selector: `selector(2)` is 0x10.
 *
 * @param index 8-byte slot, 0 to 8191
 * @throws RangeError (`ERR_OUT_OF_RANGE`)
 */
export function selector(index: number, rpl = 0, table: 'gdt' | 'ldt' = 'gdt'): number {
  return Number(encodeBits(SELECTOR, { index, rpl, table }))
}

/** Splits a selector. Only its low 16 bits count. */
export function decodeSelector(value: number): {
  index: number
  rpl: number
  table: 'gdt' | 'ldt'
} {
  const { index, rpl, table } = decodeBits(SELECTOR, value & 0xffff)
  return { index, rpl, table: table as 'gdt' | 'ldt' }
}
