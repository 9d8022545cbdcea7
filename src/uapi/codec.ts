// What the generated codecs share: checks that cost a compare when all is well, and the errors they
// end in when it is not. Internal to src/uapi.

import { invalidArgType, invalidArgValue, outOfRange } from './errors.js'
import { StructView } from './struct-view.js'

/** Path of a field for an error message; `index` is -1 outside an array. */
function fieldName(path: string, index: number, field: string): string {
  const place = index < 0 ? path : `${path}[${index}]`
  return field === '' ? place : `${place}.${field}`
}

/**
 * Refuses a place that is not aligned or not inside the view. A typed array ignores what is written
 * past its end, so without this check a codec would lose data silently. The length is that of the
 * array and not a remembered one: a detached buffer has none.
 */
export function checkPlace(
  view: StructView,
  offset: number,
  size: number,
  mask: number,
  name: string,
): void {
  if ((offset & mask) !== 0 || !(offset >= 0 && offset + size <= view.u8.length)) {
    badPlace(view, offset, size, mask, name)
  }
}

function badPlace(
  view: StructView,
  offset: number,
  size: number,
  mask: number,
  name: string,
): never {
  const last = view.u8.length - size
  if (last < 0) throw outOfRange('view', `at least ${size} bytes for ${name}`, view.u8.length)
  const aligned = mask === 0 ? 'an integer' : `a multiple of ${mask + 1}`
  throw outOfRange('offset', `${aligned} >= 0 and <= ${last} for ${name}`, offset)
}

/** Refuses anything but an object. */
export function checkObject(value: unknown, path: string, index: number): void {
  if (typeof value !== 'object' || value === null) {
    throw invalidArgType(fieldName(path, index, ''), 'of type object', value)
  }
}

/** Whether `value` is an integer of 0..2^53-1. */
export function isSize(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

/** Throws for a field that should have been an integer of the given range. */
export function badNumber(
  path: string,
  index: number,
  field: string,
  value: unknown,
  min: number,
  max: number,
): never {
  const name = fieldName(path, index, field)
  if (typeof value !== 'number') throw invalidArgType(name, 'of type number', value)
  throw outOfRange(name, `an integer >= ${min} and <= ${max}`, value)
}

/** Throws for a field that should have been a 64-bit bigint. */
export function badBigint(
  path: string,
  index: number,
  field: string,
  value: unknown,
  signed: boolean,
): never {
  const name = fieldName(path, index, field)
  if (typeof value !== 'bigint') throw invalidArgType(name, 'of type bigint', value)
  const range = signed ? '>= -(2n ** 63n) and < 2n ** 63n' : '>= 0n and < 2n ** 64n'
  throw outOfRange(name, range, value)
}

/** Refuses anything but a Uint8Array of exactly `length` bytes. */
export function checkBytes(
  value: unknown,
  length: number,
  path: string,
  index: number,
  field: string,
): void {
  if (!(value instanceof Uint8Array)) {
    throw invalidArgType(fieldName(path, index, field), 'an instance of Uint8Array', value)
  }
  if (value.length !== length) {
    throw outOfRange(`${fieldName(path, index, field)}.length`, String(length), value.length)
  }
}

/** Refuses anything but an array of exactly `length` elements. */
export function checkArray(
  value: unknown,
  length: number,
  path: string,
  index: number,
  field: string,
): void {
  if (!Array.isArray(value)) {
    throw invalidArgType(fieldName(path, index, field), 'an instance of Array', value)
  }
  if (value.length !== length) {
    throw outOfRange(`${fieldName(path, index, field)}.length`, String(length), value.length)
  }
}

/** Refuses a count of elements that is no integer or does not fit the view. */
export function checkCount(
  view: StructView,
  start: number,
  count: number,
  elementSize: number,
  name: string,
): void {
  const room = Math.floor((view.u8.length - start) / elementSize)
  if (!Number.isInteger(count) || count < 0 || count > room) {
    throw outOfRange('count', `an integer >= 0 and <= ${room} for ${name}`, count)
  }
}

/** Copies numbers out of a typed array. */
export function readNumbers(
  source: { readonly [index: number]: number },
  start: number,
  count: number,
): number[] {
  const out: number[] = []
  for (let k = 0; k < count; k++) out.push(source[start + k]!)
  return out
}

/** Copies bigints out of a typed array. */
export function readBigints(
  source: { readonly [index: number]: bigint },
  start: number,
  count: number,
): bigint[] {
  const out: bigint[] = []
  for (let k = 0; k < count; k++) out.push(source[start + k]!)
  return out
}

/** One way of filling a union: how many bytes, and a function that writes them at offset 0. */
export type Alternative = readonly [name: string, size: number, put: (view: StructView) => void]

/**
 * Several members of one union were given: they must describe the same bytes, or the caller changed
 * one of them and would not see the change take effect. The widest comes first.
 */
export function checkAgreement(
  path: string,
  index: number,
  alternatives: readonly (Alternative | undefined)[],
): void {
  const given = alternatives.filter((alternative) => alternative !== undefined)
  const [widest, ...others] = given.map(([name, size, put]) => {
    const view = new StructView(size)
    put(view)
    return { name, bytes: view.u8.subarray(0, size) }
  })
  for (const { name, bytes } of others) {
    if (bytes.some((byte, at) => byte !== widest!.bytes[at])) {
      const place = fieldName(path, index, '')
      throw invalidArgValue(
        place,
        `has members "${widest!.name}" and "${name}" that differ: give one`,
      )
    }
  }
}
