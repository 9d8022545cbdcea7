// Reads an initramfs back, strictly: an archive is as untrusted as any other image.

import { checkInteger } from '../x86/out-of-range.js'
import { checkBytes } from './arguments.js'
import { BootError, hex } from './boot-error.js'
import {
  CPIO_FIELD_DIGITS,
  CPIO_FIELDS,
  CPIO_FILE_TYPE,
  CPIO_HEADER_SIZE,
  CPIO_MAGIC,
  CPIO_MAX_PATH_BYTES,
  CPIO_MODE_BITS,
  CPIO_TRAILER,
  type CpioEntry,
  type CpioHeader,
  padTo4,
} from './cpio-format.js'
import { pathProblem } from './cpio-path.js'

/** Limits of {@link readCpio}. */
export interface CpioLimits {
  /** Default 65536. */
  readonly maxEntries?: number | undefined
}

/** What {@link readCpio} found. */
export interface CpioArchive {
  readonly entries: readonly CpioEntry[]
  /** Bytes up to and including the trailer, with its padding; another archive may follow. */
  readonly size: number
}

const DEFAULT_MAX_ENTRIES = 65_536
const EMPTY = new Uint8Array(0)
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

interface CpioRecord {
  readonly header: CpioHeader
  readonly name: string
  readonly data: Uint8Array
  /** Offset of the next record. */
  readonly end: number
}

/**
 * Reads one newc archive from the start of `bytes`. File contents are views, not copies. Members of
 * a hard-link group all get the group's data.
 *
 * @throws BootError `ERR_BOOT_BAD_ARCHIVE` with the offset of the record at fault
 */
export function readCpio(bytes: Uint8Array, limits: CpioLimits = {}): CpioArchive {
  checkBytes('bytes', bytes)
  const { maxEntries = DEFAULT_MAX_ENTRIES } = limits
  checkInteger('maxEntries', maxEntries, 0, Number.MAX_SAFE_INTEGER)
  // A plain view, so that the contents given out are plain too, even of a Buffer.
  const archive = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const members: Member[] = []
  for (let at = 0; ; ) {
    const record = readRecord(archive, at)
    if (record.name === CPIO_TRAILER) return { entries: resolveLinks(members), size: record.end }
    if (members.length >= maxEntries) throw badArchive(at, `more than ${maxEntries} entries`)
    members.push({ entry: decodeEntry(record, at), group: linkGroup(record.header) })
    at = record.end
  }
}

interface Member {
  readonly entry: CpioEntry
  /** Names of one file share this; undefined for a file with one name. */
  readonly group: string | undefined
}

function linkGroup({ nlink, devmajor, devminor, ino }: CpioHeader): string | undefined {
  return nlink < 2 ? undefined : `${devmajor}:${devminor}:${ino}`
}

/** Writers store the content of a hard-link group once, usually with its last name. */
function resolveLinks(members: readonly Member[]): CpioEntry[] {
  const contents = new Map<string, Uint8Array>()
  for (const { entry, group } of members) {
    if (group && entry.type === 'file' && entry.data.length > 0) contents.set(group, entry.data)
  }
  return members.map(({ entry, group }) => {
    const data = group && contents.get(group)
    return data && entry.type === 'file' ? { ...entry, data } : entry
  })
}

function badArchive(offset: number, why: string): BootError {
  return new BootError('ERR_BOOT_BAD_ARCHIVE', `cpio record at offset ${hex(offset)}: ${why}`, {
    offset,
  })
}

function readRecord(bytes: Uint8Array, at: number): CpioRecord {
  const head = take(bytes, at, CPIO_HEADER_SIZE, at)
  const header = readHeader(head, at)
  const { namesize, filesize } = header
  if (namesize < 2 || namesize > CPIO_MAX_PATH_BYTES) {
    throw badArchive(
      at,
      `name of ${namesize} bytes, must have 2..${CPIO_MAX_PATH_BYTES} with its zero`,
    )
  }
  const nameBytes = take(bytes, at + CPIO_HEADER_SIZE, namesize, at)
  if (nameBytes.indexOf(0) !== namesize - 1) throw badArchive(at, 'name is not zero-terminated')
  const dataAt = at + padTo4(CPIO_HEADER_SIZE + namesize)
  const data = filesize === 0 ? EMPTY : take(bytes, dataAt, filesize, at)
  // The padding of the last record may be missing, as some writers do.
  const end = Math.min(dataAt + padTo4(filesize), bytes.length)
  return { header, name: decodeText(nameBytes.subarray(0, -1), at), data, end }
}

function take(bytes: Uint8Array, from: number, size: number, record: number): Uint8Array {
  if (from + size <= bytes.length) return bytes.subarray(from, from + size)
  const why = `needs bytes up to ${hex(from + size)}, the archive has ${hex(bytes.length)}: truncated`
  throw badArchive(record, why)
}

function readHeader(head: Uint8Array, at: number): CpioHeader {
  const text = Buffer.from(head).toString('latin1')
  if (!text.startsWith(CPIO_MAGIC)) {
    const magic = JSON.stringify(text.slice(0, CPIO_MAGIC.length))
    throw badArchive(
      at,
      `magic ${magic}, must be "${CPIO_MAGIC}" (newc); is the archive compressed?`,
    )
  }
  const digits = text.slice(CPIO_MAGIC.length)
  // parseInt alone would take signs, spaces and half a number.
  if (!/^[0-9a-fA-F]*$/.test(digits)) throw badArchive(at, 'header is not all hexadecimal digits')
  const value = (i: number) =>
    Number.parseInt(digits.slice(i * CPIO_FIELD_DIGITS, (i + 1) * CPIO_FIELD_DIGITS), 16)
  return Object.fromEntries(CPIO_FIELDS.map((field, i) => [field, value(i)])) as CpioHeader
}

function decodeText(bytes: Uint8Array, at: number): string {
  try {
    return decoder.decode(bytes)
  } catch {
    throw badArchive(at, 'text is not UTF-8')
  }
}

function decodeEntry({ header, name, data }: CpioRecord, at: number): CpioEntry {
  const path = normalise(name)
  const problem = pathProblem(path)
  if (problem) throw badArchive(at, `path ${JSON.stringify(name)} ${problem}`)
  const kind = Math.floor(header.mode / (CPIO_MODE_BITS + 1)) * (CPIO_MODE_BITS + 1)
  const type = (Object.keys(CPIO_FILE_TYPE) as CpioEntry['type'][]).find(
    (t) => CPIO_FILE_TYPE[t] === kind,
  )
  if (!type) throw badArchive(at, `mode 0o${header.mode.toString(8)} has an unknown file type`)
  const { uid, gid, mtime } = header
  const common = { path, mode: header.mode % (CPIO_MODE_BITS + 1), uid, gid, mtime }
  switch (type) {
    case 'file':
      return { ...common, type, data }
    case 'symlink':
      return { ...common, type, target: decodeText(data, at) }
    case 'character-device':
    case 'block-device':
      return { ...common, type, major: header.rdevmajor, minor: header.rdevminor }
    default:
      return { ...common, type }
  }
}

/** `./bin` and `/bin` as other writers store them become `bin`. */
function normalise(name: string): string {
  return name.replace(/^(\.?\/)+(?=.)/, '')
}
