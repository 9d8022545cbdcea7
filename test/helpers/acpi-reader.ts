// Finds and checks ACPI tables in guest RAM the way an operating system does: from the root pointer
// on, trusting nothing.

import type { PhysicalMemory } from '../../src/x86/physical-memory.js'

/** A table as found: all of it, header included. */
export interface FoundTable {
  readonly signature: string
  readonly gpa: number
  readonly bytes: Buffer
}

/** What {@link readAcpi} found. */
export interface FoundAcpi {
  readonly rsdpGpa: number
  /** All tables with a header, the XSDT and the DSDT included, by signature. */
  readonly tables: ReadonlyMap<string, FoundTable>
  readonly facs: FoundTable
}

const HEADER_SIZE = 36

/** Sum of all bytes modulo 256; 0 for an intact table. */
export function byteSum(bytes: Uint8Array): number {
  return bytes.reduce((sum, byte) => (sum + byte) & 0xff, 0)
}

/** Searches 0xe0000 to 1 MiB on 16-byte boundaries for the root pointer. */
export function findRsdp(memory: PhysicalMemory): number | undefined {
  for (let gpa = 0xe_0000; gpa < 0x10_0000; gpa += 16) {
    const candidate = memory.read(gpa, 20)
    const signature = Buffer.from(candidate.subarray(0, 8)).toString('latin1')
    if (signature === 'RSD PTR ' && byteSum(candidate) === 0) return gpa
  }
  return undefined
}

/** Reads and checks everything that hangs on the root pointer. */
export function readAcpi(memory: PhysicalMemory, rsdpGpa = findRsdp(memory)): FoundAcpi {
  if (rsdpGpa === undefined) throw new Error('no RSDP between 0xe0000 and 1 MiB')
  const rsdp = Buffer.from(memory.read(rsdpGpa, 36))
  if (rsdp.readUInt8(15) !== 2) throw new Error('the RSDP is not of revision 2')
  if (rsdp.readUInt32LE(20) !== 36) throw new Error('the RSDP is not 36 bytes long')
  if (byteSum(rsdp) !== 0) throw new Error('the extended checksum of the RSDP is wrong')
  const xsdt = readTable(memory, Number(rsdp.readBigUInt64LE(24)))
  const tables = new Map([[xsdt.signature, xsdt]])
  for (let at = HEADER_SIZE; at < xsdt.bytes.length; at += 8) {
    const table = readTable(memory, Number(xsdt.bytes.readBigUInt64LE(at)))
    if (tables.has(table.signature)) throw new Error(`two tables ${table.signature}`)
    tables.set(table.signature, table)
  }
  const fadt = tables.get('FACP')
  if (!fadt) throw new Error('the XSDT does not list a FADT')
  const dsdt = readTable(memory, Number(fadt.bytes.readBigUInt64LE(140)))
  if (fadt.bytes.readUInt32LE(40) !== dsdt.gpa) throw new Error('DSDT and X_DSDT differ')
  tables.set(dsdt.signature, dsdt)
  return { rsdpGpa, tables, facs: readFacs(memory, fadt.bytes.readUInt32LE(36)) }
}

function readTable(memory: PhysicalMemory, gpa: number): FoundTable {
  const length = memory.readU32(gpa + 4)
  if (length < HEADER_SIZE) throw new Error(`a table at ${gpa} is ${length} bytes long`)
  const bytes = Buffer.from(memory.read(gpa, length))
  const signature = bytes.toString('latin1', 0, 4)
  if (byteSum(bytes) !== 0) throw new Error(`the checksum of ${signature} is wrong`)
  return { signature, gpa, bytes }
}

function readFacs(memory: PhysicalMemory, gpa: number): FoundTable {
  if (gpa % 64 !== 0) throw new Error('the FACS is not aligned to 64 bytes')
  const bytes = Buffer.from(memory.read(gpa, 64))
  const signature = bytes.toString('latin1', 0, 4)
  if (signature !== 'FACS' || bytes.readUInt32LE(4) !== 64) throw new Error('that is no FACS')
  return { signature, gpa, bytes }
}

/** The records of a list of type, length and content (as in a MADT), each with its head. */
export function readRecords(list: Buffer): Buffer[] {
  const records: Buffer[] = []
  for (let at = 0; at < list.length; at += list.readUInt8(at + 1)) {
    const length = list.readUInt8(at + 1)
    if (length < 2 || at + length > list.length) throw new Error(`bad record length at ${at}`)
    records.push(list.subarray(at, at + length))
  }
  return records
}
