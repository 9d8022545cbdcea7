// ACPI tables for firmware that chooses their addresses itself: the tables as files of fw_cfg, and a
// script that says how to place and link them (QEMU, include/hw/acpi/bios-linker-loader.h; read by
// SeaBIOS and OVMF).

import type { AcpiTable, AcpiTables } from './acpi-tables.js'
import { concat, pack, putField } from './pack.js'

/** The files of fw_cfg that firmware makes its ACPI tables of. */
export const ACPI_FILES = {
  rsdp: 'etc/acpi/rsdp',
  tables: 'etc/acpi/tables',
  loader: 'etc/table-loader',
} as const

const COMMAND_SIZE = 128
const NAME_SIZE = 56
const ALLOCATE = 1
const ADD_POINTER = 2
const ADD_CHECKSUM = 3
/** Anywhere below 4 GiB; or where a guest looks for the root pointer, below 1 MiB. */
const ZONE = { high: 1, low: 2 } as const
/** The FACS must be aligned to 64 bytes, the root pointer to 16. */
const ALIGNMENT = { tables: 64, rsdp: 16 } as const

/** Where pointers to other tables are, by table: offset and size in bytes (ACPI 6.5 §5.2). */
const POINTERS: Readonly<Record<string, readonly (readonly [offset: number, size: 4 | 8])[]>> = {
  RSDP: [[24, 8]],
  FACP: [
    [36, 4],
    [40, 4],
    [132, 8],
    [140, 8],
  ],
}
const XSDT_ENTRIES = 36
const TABLE_CHECKSUM = 9

/** The three files, by name. */
export function encodeTableLoader({ tables }: AcpiTables): ReadonlyMap<string, Uint8Array> {
  const [rsdp, ...others] = tables
  const base = Math.min(...others.map(({ gpa }) => gpa))
  const end = Math.max(...others.map(({ gpa, bytes }) => gpa + bytes.length))
  const root = rsdp!.bytes.slice()
  const all = new Uint8Array(end - base)
  for (const { gpa, bytes } of others) all.set(bytes, gpa - base)
  const script = [
    allocate(ACPI_FILES.tables, ALIGNMENT.tables, ZONE.high),
    allocate(ACPI_FILES.rsdp, ALIGNMENT.rsdp, ZONE.low),
    ...others.flatMap((table) => link(all, ACPI_FILES.tables, table, table.gpa - base, base)),
    ...link(root, ACPI_FILES.rsdp, rsdp!, 0, base),
    // ORDER: checksums when all pointers are right; of the two of the root pointer the inner one first.
    ...others
      .filter(({ name }) => name !== 'FACS')
      .map(({ gpa, bytes }) => {
        const start = gpa - base
        return addChecksum(ACPI_FILES.tables, start + TABLE_CHECKSUM, start, bytes.length)
      }),
    addChecksum(ACPI_FILES.rsdp, 8, 0, 20),
    addChecksum(ACPI_FILES.rsdp, 32, 0, root.length),
  ]
  return new Map([
    [ACPI_FILES.rsdp, root],
    [ACPI_FILES.tables, all],
    [ACPI_FILES.loader, concat(...script)],
  ])
}

/** Makes a table's pointers count from the file's start, and lets firmware add where that is. */
function link(
  bytes: Uint8Array,
  file: string,
  table: AcpiTable,
  start: number,
  base: number,
): Uint8Array[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  const commands: Uint8Array[] = []
  for (const [offset, size] of pointersOf(table)) {
    const at = start + offset
    const target = size === 4 ? view.getUint32(at, true) : Number(view.getBigUint64(at, true))
    if (target === 0) continue
    putField(bytes, at, size, target - base)
    const fields = concat(fileName(file), fileName(ACPI_FILES.tables), pack([4, at], [1, size]))
    commands.push(command(ADD_POINTER, fields))
  }
  return commands
}

function pointersOf({ name, bytes }: AcpiTable): readonly (readonly [number, 4 | 8])[] {
  if (name !== 'XSDT') return POINTERS[name] ?? []
  const count = (bytes.length - XSDT_ENTRIES) / 8
  return Array.from({ length: count }, (_, i) => [XSDT_ENTRIES + i * 8, 8] as const)
}

function allocate(file: string, alignment: number, zone: number): Uint8Array {
  return command(ALLOCATE, concat(fileName(file), pack([4, alignment], [1, zone])))
}

function addChecksum(file: string, offset: number, start: number, length: number): Uint8Array {
  const fields = pack([4, offset], [4, start], [4, length])
  return command(ADD_CHECKSUM, concat(fileName(file), fields))
}

function command(kind: number, fields: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(COMMAND_SIZE)
  bytes.set(concat(pack([4, kind]), fields))
  return bytes
}

function fileName(name: string): Uint8Array {
  const bytes = new Uint8Array(NAME_SIZE)
  bytes.set(Buffer.from(name, 'latin1'))
  return bytes
}
