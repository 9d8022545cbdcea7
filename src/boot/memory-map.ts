// Which guest-physical addresses are RAM: first as the VMM lays RAM out, then as the guest is told
// (e820), after the parts that a PC never offers as RAM are cut away.

import { checkInteger } from '../x86/out-of-range.js'
import { checkPageAligned, checkRange } from './arguments.js'
import { BootError } from './boot-error.js'
import {
  BIOS_GPA,
  E820_MAX_ENTRIES,
  EBDA_GPA,
  EBDA_SIZE,
  GPA_4G,
  GPA_END,
  HIGH_MEMORY_GPA,
  MMIO_HOLE_GPA,
  PLATFORM_GPA,
} from './layout.js'

/** A range of guest-physical addresses, in bytes. */
export interface GpaRange {
  readonly gpa: number
  readonly size: number
}

/** Address range types of the BIOS memory map (ACPI specification, "Address Range Types"). */
export const E820_TYPE = { RAM: 1, RESERVED: 2, ACPI: 3, NVS: 4, UNUSABLE: 5, PMEM: 7 } as const

/** One entry of the memory map that the guest gets; `type` is one of {@link E820_TYPE}. */
export interface MemoryMapEntry extends GpaRange {
  readonly type: number
}

/**
 * Where RAM of `size` bytes goes: from 0 up to the MMIO hole, the rest from 4 GiB on.
 *
 * @param size - bytes, a multiple of 4 KiB, not 0
 * @param holeGpa - start of the hole, a multiple of 4 KiB, at most 4 GiB; default 0xc000_0000
 * @throws RangeError with code `ERR_OUT_OF_RANGE`
 */
export function layOutRam(size: number, holeGpa: number = MMIO_HOLE_GPA): GpaRange[] {
  checkPageAligned('holeGpa', holeGpa)
  checkInteger('holeGpa', holeGpa, HIGH_MEMORY_GPA, GPA_4G)
  checkPageAligned('size', size)
  checkInteger('size', size, 1, GPA_END - GPA_4G)
  if (size <= holeGpa) return [{ gpa: 0, size }]
  return [
    { gpa: 0, size: holeGpa },
    { gpa: GPA_4G, size: size - holeGpa },
  ]
}

/** `ranges` (ascending, not overlapping) with neighbours that touch, or are up to `gap` bytes apart, made one. */
export function mergeRanges(ranges: readonly GpaRange[], gap = 0): GpaRange[] {
  const merged: { gpa: number; size: number }[] = []
  for (const { gpa, size } of ranges) {
    const last = merged.at(-1)
    const apart = last ? gpa - (last.gpa + last.size) : -1
    if (last && apart >= 0 && apart <= gap) last.size += apart + size
    else if (size > 0) merged.push({ gpa, size })
  }
  return merged
}

/** `ranges` without the addresses of `hole`. */
function subtract<T extends GpaRange>(ranges: readonly T[], hole: GpaRange): T[] {
  const holeEnd = hole.gpa + hole.size
  return ranges.flatMap((range) => {
    const end = range.gpa + range.size
    if (end <= hole.gpa || range.gpa >= holeEnd) return [range]
    const below = { ...range, size: hole.gpa - range.gpa }
    const above = { ...range, gpa: holeEnd, size: end - holeEnd }
    return [below, above].filter((part) => part.size > 0)
  })
}

/** What a PC never offers as RAM, whatever memory stands behind it. */
const NEVER_RAM: readonly GpaRange[] = [
  { gpa: EBDA_GPA, size: HIGH_MEMORY_GPA - EBDA_GPA },
  { gpa: PLATFORM_GPA, size: GPA_4G - PLATFORM_GPA },
]

/** What the map names as reserved, so that a kernel may look for firmware tables there. */
const LEGACY_RESERVED: readonly MemoryMapEntry[] = [
  { gpa: EBDA_GPA, size: EBDA_SIZE, type: E820_TYPE.RESERVED },
  { gpa: BIOS_GPA, size: HIGH_MEMORY_GPA - BIOS_GPA, type: E820_TYPE.RESERVED },
]

/**
 * The memory map for a guest: RAM as `ranges` has it, without the extended BIOS data area and the
 * ROM area below 1 MiB, without the platform's registers below 4 GiB, and without `reservations`,
 * which appear with their own types (ACPI tables, for example). Ascending, not overlapping.
 *
 * @throws BootError `ERR_BOOT_NO_SPACE` when there are more entries than the zero page holds;
 *   `ERR_BOOT_OVERLAP` when two reservations overlap
 */
export function createMemoryMap(
  ranges: readonly GpaRange[],
  reservations: readonly MemoryMapEntry[] = [],
): MemoryMapEntry[] {
  checkReservations(reservations)
  let ram = mergeRanges(ranges)
  for (const hole of [...NEVER_RAM, ...reservations]) ram = subtract(ram, hole)
  let legacy: MemoryMapEntry[] = [...LEGACY_RESERVED]
  for (const reservation of reservations) legacy = subtract(legacy, reservation)

  const usable = ram.map(({ gpa, size }) => ({ gpa, size, type: E820_TYPE.RAM }))
  const map = [...usable, ...legacy, ...reservations].sort((a, b) => a.gpa - b.gpa)
  if (map.length > E820_MAX_ENTRIES) {
    const message =
      `the memory map has ${map.length} entries, the boot parameters hold ${E820_MAX_ENTRIES}; ` +
      'use fewer, larger RAM ranges or reservations'
    throw new BootError('ERR_BOOT_NO_SPACE', message, { limit: E820_MAX_ENTRIES })
  }
  return map
}

function checkReservations(reservations: readonly MemoryMapEntry[]): void {
  const sorted = [...reservations].sort((a, b) => a.gpa - b.gpa)
  for (const [index, { gpa, size, type }] of sorted.entries()) {
    checkRange('reservations', gpa, size)
    checkInteger('reservations.type', type, 1, 0xffff_ffff)
    const next = sorted[index + 1]
    if (next && next.gpa < gpa + size) {
      const message = `reservations at ${gpa} and ${next.gpa} overlap; make them distinct`
      throw new BootError('ERR_BOOT_OVERLAP', message, { gpa: next.gpa, size: next.size })
    }
  }
}
