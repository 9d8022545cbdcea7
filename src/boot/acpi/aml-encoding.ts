// The two encodings of AML that everything else is made of: how long a package is, and what a name
// looks like (ACPI 6.5 §20.2.2 and §20.2.4).

import { checkInteger, outOfRange } from '../../x86/out-of-range.js'
import { concat } from './pack.js'

/** The largest length that a PkgLength can say: 28 bits. */
export const PKG_LENGTH_MAX = 2 ** 28 - 1

/**
 * `value` as a PkgLength: one byte up to 63, else a byte with the low 4 bits and up to three more
 * bytes (ACPI 6.5 §20.2.4). The bits of a field element are counted with it as well.
 *
 * @throws RangeError `ERR_OUT_OF_RANGE` above {@link PKG_LENGTH_MAX}
 */
export function pkgLength(value: number): Uint8Array {
  checkInteger('length', value, 0, PKG_LENGTH_MAX)
  const extra = extraBytes(value)
  if (extra === 0) return Uint8Array.of(value)
  const bytes = [(extra << 6) | (value & 0x0f)]
  for (let i = 0; i < extra; i++) bytes.push((value >>> (4 + 8 * i)) & 0xff)
  return Uint8Array.from(bytes)
}

/** `body` behind a PkgLength, which counts its own bytes too. */
export function withPkgLength(body: Uint8Array): Uint8Array {
  // One more byte for the length may push the sum over the next limit, so try from the shortest.
  for (const size of [1, 2, 3, 4]) {
    const total = body.length + size
    if (extraBytes(total) + 1 === size) return concat(pkgLength(total), body)
  }
  throw outOfRange('length', `at most ${PKG_LENGTH_MAX}`, body.length)
}

function extraBytes(value: number): number {
  if (value <= 0x3f) return 0
  if (value <= 0xfff) return 1
  return value <= 0xf_ffff ? 2 : 3
}

const NULL_NAME = 0x00
const DUAL_NAME = 0x2e
const MULTI_NAME = 0x2f
const PATH = /^(\\|\^*)((?:[A-Z_][A-Z0-9_]{0,3})(?:\.[A-Z_][A-Z0-9_]{0,3})*)?$/

/**
 * A path such as `\_SB.PCI0`, `^COM1` or `_HID` as a NameString; segments shorter than four
 * characters are filled up with underscores (ACPI 6.5 §20.2.2).
 *
 * @throws RangeError `ERR_OUT_OF_RANGE` for what is no path
 */
export function nameString(path: string): Uint8Array {
  const match = PATH.exec(path)
  if (!match || path === '') throw outOfRange('path', 'an ACPI path such as \\_SB.PCI0', path)
  const [, prefix = '', rest] = match
  const segments = rest === undefined ? [] : rest.split('.')
  const lead = namePrefix(segments.length)
  return concat(ascii(prefix), lead, ...segments.map((segment) => ascii(segment.padEnd(4, '_'))))
}

/** One name of four characters, as the elements of a field have; errors as {@link nameString}. */
export function nameSegment(name: string): Uint8Array {
  const bytes = nameString(name)
  if (bytes.length !== 4) throw outOfRange('name', 'a single ACPI name segment', name)
  return bytes
}

function namePrefix(count: number): Uint8Array {
  if (count === 0) return Uint8Array.of(NULL_NAME)
  if (count === 1) return new Uint8Array(0)
  if (count === 2) return Uint8Array.of(DUAL_NAME)
  checkInteger('path segments', count, 1, 255)
  return Uint8Array.of(MULTI_NAME, count)
}

function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (char) => char.charCodeAt(0))
}
