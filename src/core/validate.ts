// Checks of public arguments. The errors are those of the lowest layer, with Node's own codes.

import { types } from 'node:util'
import { invalidArgType, invalidArgValue, outOfRange } from '../uapi/index.js'

export { invalidArgType, invalidArgValue, outOfRange }

/** An integer number between `min` and `max`, which is at most 2^53 - 1. */
export function integer(
  value: unknown,
  name: string,
  min = 0,
  max = Number.MAX_SAFE_INTEGER,
): number {
  if (typeof value !== 'number') throw invalidArgType(name, 'of type number', value)
  if (!Number.isSafeInteger(value) || value < min || value > max) {
    throw outOfRange(name, `an integer >= ${min} and <= ${max}`, value)
  }
  return value
}

/** An unsigned 32-bit number. */
export function uint32(value: unknown, name: string): number {
  if (typeof value === 'number' && value >>> 0 === value) return value
  return integer(value, name, 0, 0xffff_ffff)
}

/** An instance of `Class`, and not something that merely looks like it. */
export function instance<T>(
  value: unknown,
  name: string,
  Class: { readonly name: string; readonly prototype: T },
): T {
  if (value instanceof (Class as unknown as new () => T)) return value
  throw invalidArgType(name, `an instance of ${Class.name}`, value)
}

/** An object. */
export function object<T extends object>(value: T, name: string): T {
  if (value !== null && typeof value === 'object') return value
  throw invalidArgType(name, 'of type object', value)
}

/** The path of a file: C ends it at the first NUL, so that one would name another file. */
export function filePath(value: unknown, name: string): string {
  if (typeof value !== 'string') throw invalidArgType(name, 'of type string', value)
  if (value.includes('\0')) throw invalidArgValue(name, 'must not contain a NUL character')
  return value
}

/** Bytes. A Proxy of them is refused: reading it would run code of the user's. */
export function bytes(value: unknown, name: string): Uint8Array {
  if (types.isUint8Array(value)) return value
  throw invalidArgType(name, 'a Uint8Array', value)
}

/** A list, as an array that nobody else can change while it is worked through. */
export function list<T>(value: readonly T[], name: string): T[] {
  if (!Array.isArray(value)) throw invalidArgType(name, 'an array', value)
  const copy: T[] = []
  const { length } = value
  for (let i = 0; i < length; i++) copy.push(value[i] as T)
  return copy
}

/** A function. */
export function callback<T>(value: T, name: string): T {
  if (typeof value === 'function') return value
  throw invalidArgType(name, 'of type function', value)
}

/**
 * One of several words.
 *
 * @throws `ERR_INVALID_ARG_TYPE` for anything else.
 */
export function oneOf<T extends string>(value: T, name: string, choices: readonly T[]): T {
  if (choices.includes(value)) return value
  throw invalidArgType(name, choices.map((choice) => `'${choice}'`).join(' or '), value)
}
