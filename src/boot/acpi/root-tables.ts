// The way from the guest's search to the tables: RSDP, XSDT, and the FACS that the guest writes to.

import { checksum, concat, pack, paddedText, putField } from './pack.js'
import { ACPI_OEM, encodeSdt } from './sdt.js'

/** Bytes in a root system description pointer of revision 2. */
export const RSDP_SIZE = 36

/** Bytes in the firmware ACPI control structure; it must be aligned to as many. */
export const FACS_SIZE = 64

const RSDP_V1_SIZE = 20
const RSDP_CHECKSUM = 8
const RSDP_EXTENDED_CHECKSUM = 32

/** Root system description pointer, revision 2, without an RSDT (ACPI 6.5 §5.2.5.3). */
export function encodeRsdp(xsdtGpa: number): Uint8Array {
  const rsdp = concat(
    paddedText('RSD PTR ', 8),
    pack([1, 0]),
    paddedText(ACPI_OEM.id, 6),
    pack([1, 2], [4, 0], [4, RSDP_SIZE], [8, xsdtGpa], [4, 0]),
  )
  // The second checksum covers the first, so this order matters.
  putField(rsdp, RSDP_CHECKSUM, 1, checksum(rsdp.subarray(0, RSDP_V1_SIZE)))
  putField(rsdp, RSDP_EXTENDED_CHECKSUM, 1, checksum(rsdp))
  return rsdp
}

/** Extended system description table: the addresses of all others (ACPI 6.5 §5.2.8). */
export function encodeXsdt(tableGpas: readonly number[]): Uint8Array {
  return encodeSdt('XSDT', 1, concat(...tableGpas.map((gpa) => pack([8, gpa]))))
}

/** Firmware ACPI control structure, version 2: no waking vector, lock free (ACPI 6.5 §5.2.10). */
export function encodeFacs(): Uint8Array {
  const facs = new Uint8Array(FACS_SIZE)
  facs.set(concat(paddedText('FACS', 4), pack([4, FACS_SIZE])))
  putField(facs, 32, 1, 2)
  return facs
}
