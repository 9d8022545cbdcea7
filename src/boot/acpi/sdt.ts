// The header that all ACPI tables but RSDP and FACS begin with (ACPI 6.5 §5.2.6).

import { checksum, concat, pack, paddedText, putField } from './pack.js'

/** Bytes in the header of a system description table. */
export const SDT_HEADER_SIZE = 36

/** Offset of the checksum byte in the header. */
const CHECKSUM = 9

/** Who made the tables, as the guest's log shows it. */
export const ACPI_OEM = { id: 'NODKVM', tableId: 'NODE-KVM', creator: 'NKVM' } as const

/** A complete table: header, `body`, and a checksum over both. */
export function encodeSdt(signature: string, revision: number, body: Uint8Array): Uint8Array {
  const size = SDT_HEADER_SIZE + body.length
  const table = concat(
    paddedText(signature, 4),
    pack([4, size], [1, revision], [1, 0]),
    paddedText(ACPI_OEM.id, 6),
    paddedText(ACPI_OEM.tableId, 8),
    pack([4, 1]),
    paddedText(ACPI_OEM.creator, 4),
    pack([4, 1]),
    body,
  )
  putField(table, CHECKSUM, 1, checksum(table))
  return table
}
