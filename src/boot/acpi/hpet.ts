// The table and the device for a high-precision event timer, for machines that have one.

import type { Aml } from './aml.js'
import * as aml from './aml.js'
import { memory32Fixed, resourceTemplate } from './aml-resources.js'
import { concat, pack } from './pack.js'
import { encodeSdt } from './sdt.js'

/** Bytes that a timer block decodes. */
const HPET_SIZE = 0x400
/** The main counter's least period between interrupts in periodic mode, in ticks. */
const MINIMUM_TICK = 0x80

/** A high-precision event timer. */
export interface AcpiHpet {
  /** Address of its registers, below 4 GiB; PCs use 0xfed0_0000. */
  readonly gpa: number
  /**
   * Low half of its capabilities register: revision, comparators, counter width, legacy replacement
   * and vendor; default 0x8086_a201 (Intel, 64-bit counter, 3 comparators, legacy replacement).
   */
  readonly blockId?: number | undefined
}

/** HPET description table (IA-PC HPET specification 1.0a §3.2.4). */
export function encodeHpetTable({ gpa, blockId = 0x8086_a201 }: AcpiHpet): Uint8Array {
  const address = pack([1, 0], [1, 64], [1, 0], [1, 0], [8, gpa])
  const rest = pack([1, 0], [2, MINIMUM_TICK], [1, 0])
  return encodeSdt('HPET', 1, concat(pack([4, blockId]), address, rest))
}

/** The device `HPET`, for the scope `\_SB`. */
export function hpetDevice({ gpa }: AcpiHpet): Aml {
  const resources = resourceTemplate(memory32Fixed(gpa, HPET_SIZE))
  const hid = aml.name('_HID', aml.eisaId('PNP0103'))
  return aml.device('HPET', hid, aml.name('_CRS', resources))
}
