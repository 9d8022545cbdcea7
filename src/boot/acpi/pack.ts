// Little-endian records, written as a list of sizes and values in the order of the specification's
// tables.

import { checkInteger, outOfRange } from '../../x86/out-of-range.js'

/** Bytes of a field and its value. */
export type PackedField = readonly [size: 1 | 2 | 4 | 8, value: number | bigint]

/**
 * The fields one after the other, little-endian, without padding.
 *
 * @throws RangeError `ERR_OUT_OF_RANGE` for a value that is not an unsigned integer of its size
 */
export function pack(...fields: readonly PackedField[]): Uint8Array {
  const bytes = new Uint8Array(fields.reduce((sum, [size]) => sum + size, 0))
  let offset = 0
  for (const [size, value] of fields) {
    putField(bytes, offset, size, value)
    offset += size
  }
  return bytes
}

/** Writes one unsigned little-endian field into `bytes`; errors as {@link pack}. */
export function putField(
  bytes: Uint8Array,
  offset: number,
  size: number,
  value: number | bigint,
): void {
  if (typeof value === 'bigint') putBigint(bytes, offset, size, value)
  else putNumber(bytes, offset, size, value)
}

function putNumber(bytes: Uint8Array, offset: number, size: number, value: number): void {
  checkInteger('value', value, 0, size === 8 ? Number.MAX_SAFE_INTEGER : 256 ** size - 1)
  let rest = value
  for (let i = 0; i < size; i++) {
    bytes[offset + i] = rest % 256
    rest = Math.floor(rest / 256)
  }
}

function putBigint(bytes: Uint8Array, offset: number, size: number, value: bigint): void {
  let rest = value
  for (let i = 0; i < size; i++) {
    bytes[offset + i] = Number(rest & 0xffn)
    rest >>= 8n
  }
  // Bits are left, or it is negative: its sign never shifts out.
  if (rest !== 0n) throw outOfRange('value', `an unsigned ${8 * size}-bit value`, value)
}

/** Byte strings one after the other. */
export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let offset = 0
  for (const part of parts) {
    bytes.set(part, offset)
    offset += part.length
  }
  return bytes
}

/** The byte that makes the sum of all bytes 0 modulo 256. */
export function checksum(bytes: Uint8Array): number {
  let sum = 0
  for (const byte of bytes) sum += byte
  return -sum & 0xff
}

/** `text` in ASCII, padded with spaces or cut to `size` bytes. */
export function paddedText(text: string, size: number): Uint8Array {
  return Uint8Array.from(text.padEnd(size, ' ').slice(0, size), (char) => char.charCodeAt(0) & 0x7f)
}
