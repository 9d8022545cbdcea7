// Makes an initramfs in memory.

import { checkInteger } from '../x86/out-of-range.js'
import { checkBytes, checkString } from './arguments.js'
import { BootError } from './boot-error.js'
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
import { parentsOf, pathProblem } from './cpio-path.js'

const U32_MAX = 0xffff_ffff
const DEFAULT_MODE: Partial<Record<CpioEntry['type'], number>> = {
  directory: 0o755,
  symlink: 0o777,
}

const encoder = new TextEncoder()
const EMPTY = new Uint8Array(0)

/**
 * Makes a newc archive. Parents that are not listed before their children are added as directories
 * (mode 0o755, owner 0), since the kernel creates none by itself.
 *
 * @throws BootError `ERR_BOOT_BAD_ENTRY` for a path that is empty, absolute, too long or not in
 *   plain form (`a//b`, `./a`, `a/..`), for a path listed twice, a parent that is not a directory,
 *   or a link without target; RangeError with code `ERR_OUT_OF_RANGE` for numbers
 */
export function writeCpio(entries: Iterable<CpioEntry>): Uint8Array {
  const records: Uint8Array[] = []
  let ino = 0
  for (const entry of withParents(entries)) records.push(...encodeEntry(entry, ++ino))
  records.push(...encodeRecord({ ...NO_HEADER, nlink: 1 }, CPIO_TRAILER, EMPTY))
  return concat(records)
}

const NO_HEADER = Object.fromEntries(CPIO_FIELDS.map((field) => [field, 0])) as CpioHeader

/** The entries with missing parents put in front of them. */
function* withParents(entries: Iterable<CpioEntry>): Generator<CpioEntry> {
  const listed = new Set<string>()
  const types = new Map<string, CpioEntry['type']>()
  for (const entry of entries) {
    const { path, type } = entry
    checkString('path', path)
    const problem = pathProblem(path)
    if (problem) throw badEntry(path, problem)
    if (listed.has(path)) throw badEntry(path, 'is listed twice')
    // A directory may follow as an entry of its own after it was added for a child.
    if (types.has(path) && type !== 'directory') {
      throw badEntry(path, 'is also the parent of an earlier entry')
    }
    for (const parent of parentsOf(path)) {
      const known = types.get(parent)
      if (known === undefined) yield { path: parent, type: 'directory' }
      else if (known !== 'directory') throw badEntry(path, `lies below ${parent}, a ${known}`)
      types.set(parent, 'directory')
    }
    listed.add(path)
    types.set(path, type)
    yield entry
  }
}

function badEntry(path: string, why: string): BootError {
  return new BootError('ERR_BOOT_BAD_ENTRY', `cpio entry ${JSON.stringify(path)} ${why}`, { path })
}

function encodeEntry(entry: CpioEntry, ino: number): Uint8Array[] {
  const { path, type, uid = 0, gid = 0, mtime = 0 } = entry
  const mode = entry.mode ?? DEFAULT_MODE[type] ?? 0o644
  if (!Object.hasOwn(CPIO_FILE_TYPE, type)) throw badEntry(path, `has the unknown type ${type}`)
  checkInteger('mode', mode, 0, CPIO_MODE_BITS)
  const data = content(entry)
  const device = 'major' in entry ? { rdevmajor: entry.major, rdevminor: entry.minor } : {}
  const header: CpioHeader = {
    ...NO_HEADER,
    ...device,
    ino,
    mode: CPIO_FILE_TYPE[type] + mode,
    uid,
    gid,
    // Always 1: the kernel takes 2 or more as "look for a hard link with the same inode".
    nlink: 1,
    mtime,
    filesize: data.length,
  }
  return encodeRecord(header, path, data)
}

function content(entry: CpioEntry): Uint8Array {
  if (entry.type === 'file') {
    checkBytes('data', entry.data)
    return entry.data
  }
  if (entry.type !== 'symlink') return EMPTY
  const target = encoder.encode(entry.target)
  if (target.length === 0 || target.length >= CPIO_MAX_PATH_BYTES || target.includes(0)) {
    throw badEntry(entry.path, 'needs a link target of 1 to 4095 bytes without zeros')
  }
  return target
}

function encodeRecord(header: CpioHeader, path: string, data: Uint8Array): Uint8Array[] {
  const name = encoder.encode(path)
  const fields = { ...header, namesize: name.length + 1 }
  for (const field of CPIO_FIELDS) checkInteger(field, fields[field], 0, U32_MAX)
  const digits = CPIO_FIELDS.map((field) =>
    fields[field].toString(16).padStart(CPIO_FIELD_DIGITS, '0'),
  )
  const head = new Uint8Array(padTo4(CPIO_HEADER_SIZE + name.length + 1))
  head.set(encoder.encode(CPIO_MAGIC + digits.join('')))
  head.set(name, CPIO_HEADER_SIZE)
  return [head, data, new Uint8Array(padTo4(data.length) - data.length)]
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}
