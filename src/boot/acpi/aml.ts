// AML, the byte code of ACPI's definition blocks, as one small function per term: each returns bytes,
// and terms nest by passing bytes on (ACPI 6.5 §20.2). Import it whole: `import * as aml`.

import { checkInteger, outOfRange } from '../../x86/out-of-range.js'
import { nameSegment, nameString, pkgLength, withPkgLength } from './aml-encoding.js'
import { concat, pack } from './pack.js'

/** The AML of one or more terms. */
export type Aml = Uint8Array

/** An integer constant, in its shortest form (ACPI 6.5 §20.2.3); at most 64 bits, unsigned. */
export function integer(value: number | bigint): Aml {
  const number = Number(value)
  if (number === 0 || number === 1) return Uint8Array.of(number)
  if (value >= 0 && value <= 0xff) return concat(op(0x0a), pack([1, value]))
  if (value >= 0 && value <= 0xffff) return concat(op(0x0b), pack([2, value]))
  if (value >= 0 && value <= 0xffff_ffff) return concat(op(0x0c), pack([4, value]))
  return concat(op(0x0e), pack([8, value]))
}

/** A string constant; 7-bit ASCII without NUL. */
export function string(text: string): Aml {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: AML strings take exactly this range
  if (!/^[\x01-\x7f]*$/.test(text)) throw outOfRange('text', 'ASCII without NUL', text)
  return concat(op(0x0d), Buffer.from(`${text}\0`, 'latin1'))
}

/** A buffer with these bytes. */
export function buffer(bytes: Uint8Array): Aml {
  return concat(op(0x11), withPkgLength(concat(integer(bytes.length), bytes)))
}

/** A package of constants or packages; with more than 255 elements, a VarPackage. */
export function packageOf(elements: readonly Aml[]): Aml {
  const { length } = elements
  if (length <= 255) return concat(op(0x12), withPkgLength(concat(pack([1, length]), ...elements)))
  return concat(op(0x13), withPkgLength(concat(integer(length), ...elements)))
}

/**
 * A device identification such as `PNP0501`, compressed into a 32-bit integer as `EISAID()` does
 * (ACPI 6.5 §19.3.4).
 */
export function eisaId(id: string): Aml {
  if (!/^[A-Z]{3}[0-9A-F]{4}$/.test(id)) throw outOfRange('id', 'of the form PNP0501', id)
  const vendor = [...id.slice(0, 3)].reduce((sum, char) => sum * 32 + char.charCodeAt(0) - 0x40, 0)
  const product = Number.parseInt(id.slice(3), 16)
  const bigEndian = pack([2, product], [2, vendor]).reverse()
  return concat(op(0x0c), bigEndian)
}

/** A UUID in the mixed byte order of `ToUUID()` (ACPI 6.5 §19.6.142), as a buffer. */
export function uuid(text: string): Aml {
  const hex = text.replaceAll('-', '')
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)) {
    throw outOfRange('uuid', 'of the form 01234567-89ab-cdef-0123-456789abcdef', text)
  }
  const order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]
  return buffer(Uint8Array.from(order, (i) => Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16)))
}

/** Refers to an object by its path. */
export const reference = nameString

/** Gives a name to a value. */
export function name(path: string, value: Aml): Aml {
  return concat(op(0x08), nameString(path), value)
}

/** Terms inside an existing scope. */
export function scope(path: string, ...terms: readonly Aml[]): Aml {
  return concat(op(0x10), withPkgLength(concat(nameString(path), ...terms)))
}

/** A device and what belongs to it. */
export function device(path: string, ...terms: readonly Aml[]): Aml {
  return concat(extended(0x82), withPkgLength(concat(nameString(path), ...terms)))
}

/** A control method with 0 to 7 arguments, not serialized unless asked for. */
export function method(
  path: string,
  argumentCount: number,
  body: readonly Aml[],
  serialized = false,
): Aml {
  checkInteger('argumentCount', argumentCount, 0, 7)
  const flags = argumentCount + (serialized ? 8 : 0)
  return concat(op(0x14), withPkgLength(concat(nameString(path), pack([1, flags]), ...body)))
}

/** Argument 0 to 6 of the method around it. */
export function argument(index: number): Aml {
  checkInteger('index', index, 0, 6)
  return op(0x68 + index)
}

/** Local variable 0 to 7 of the method around it. */
export function local(index: number): Aml {
  checkInteger('index', index, 0, 7)
  return op(0x60 + index)
}

/** Runs the body when the predicate is not 0. */
export function ifThen(predicate: Aml, ...body: readonly Aml[]): Aml {
  return concat(op(0xa0), withPkgLength(concat(predicate, ...body)))
}

/** The other branch; must follow {@link ifThen} directly. */
export function otherwise(...body: readonly Aml[]): Aml {
  return concat(op(0xa1), withPkgLength(concat(...body)))
}

/** Ends the method with a value. */
export function returns(value: Aml): Aml {
  return concat(op(0xa4), value)
}

/** Stores `value` in `target`. */
export function store(value: Aml, target: Aml): Aml {
  return concat(op(0x70), value, target)
}

/** Bitwise and of two integers, stored in `target` as well. */
export function and(a: Aml, b: Aml, target: Aml): Aml {
  return concat(op(0x7b), a, b, target)
}

/** Bitwise or of two integers, stored in `target` as well. */
export function or(a: Aml, b: Aml, target: Aml): Aml {
  return concat(op(0x7d), a, b, target)
}

/** Whether two integers, strings or buffers are equal. */
export function equal(a: Aml, b: Aml): Aml {
  return concat(op(0x93), a, b)
}

/** Logical not. */
export function not(value: Aml): Aml {
  return concat(op(0x92), value)
}

/** Sends notification `code` to the operating system's driver of an object. */
export function notify(object: Aml, code: number): Aml {
  return concat(op(0x86), object, integer(code))
}

/** Names 32 bits of a buffer from a byte offset on. */
export function createDwordField(source: Aml, byteOffset: number, field: string): Aml {
  return concat(op(0x8a), source, integer(byteOffset), nameString(field))
}

/** Address spaces of an operation region (ACPI 6.5 §20.2.5.2). */
export const REGION_SPACE = { systemMemory: 0, systemIo: 1, pciConfig: 2 } as const

/** Names a range of an address space; `offset` and `length` in bytes. */
export function operationRegion(
  path: string,
  space: keyof typeof REGION_SPACE,
  offset: number | bigint,
  length: number,
): Aml {
  const range = concat(integer(offset), integer(length))
  return concat(extended(0x80), nameString(path), pack([1, REGION_SPACE[space]]), range)
}

/** Access widths of a field (ACPI 6.5 §20.2.5.2). */
export const FIELD_ACCESS = { any: 0, byte: 1, word: 2, dword: 3, qword: 4 } as const

/** Part of a field: a name, or null for bits to skip, and how many bits it takes. */
export type FieldElement = readonly [name: string | null, bits: number]

/** Names bits of an operation region. Does not lock; bits that are not written are preserved. */
export function field(
  region: string,
  access: keyof typeof FIELD_ACCESS,
  elements: readonly FieldElement[],
): Aml {
  const list = elements.map(([element, bits]) =>
    concat(element === null ? op(0x00) : nameSegment(element), pkgLength(bits)),
  )
  const flags = pack([1, FIELD_ACCESS[access]])
  return concat(extended(0x81), withPkgLength(concat(nameString(region), flags, ...list)))
}

function op(code: number): Aml {
  return Uint8Array.of(code)
}

function extended(code: number): Aml {
  return Uint8Array.of(0x5b, code)
}
