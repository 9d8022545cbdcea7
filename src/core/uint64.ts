// The check of 64-bit arguments.

import { invalidArgType, outOfRange } from './validate.js'

/** An unsigned 64-bit bigint. */
export function uint64(value: unknown, name: string): bigint {
  if (typeof value !== 'bigint') throw invalidArgType(name, 'of type bigint', value)
  if (BigInt.asUintN(64, value) !== value) throw outOfRange(name, '>= 0n and < 2n ** 64n', value)
  return value
}
