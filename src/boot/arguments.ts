// Checks of what the caller (not the image) got wrong, thrown in the shape of Node's own errors.

import { checkInteger, outOfRange } from '../x86/out-of-range.js'
import { BYTES_PER_PAGE, GPA_END } from './layout.js'

function wrongType(name: string, expected: string, value: unknown): TypeError {
  const message = `The "${name}" argument must be ${expected}. Received ${typeof value}`
  return Object.assign(new TypeError(message), { code: 'ERR_INVALID_ARG_TYPE' })
}

/** Throws `ERR_INVALID_ARG_TYPE` unless `value` is a Uint8Array (a Buffer is one). */
export function checkBytes(name: string, value: unknown): asserts value is Uint8Array {
  if (!(value instanceof Uint8Array)) throw wrongType(name, 'a Uint8Array or Buffer', value)
}

/** Throws `ERR_INVALID_ARG_TYPE` unless `value` is a string. */
export function checkString(name: string, value: unknown): asserts value is string {
  if (typeof value !== 'string') throw wrongType(name, 'a string', value)
}

/** Throws `ERR_OUT_OF_RANGE` unless `gpa` and `size` name a range of guest-physical addresses. */
export function checkRange(name: string, gpa: number, size: number): void {
  checkInteger(`${name}.gpa`, gpa, 0, GPA_END - 1)
  checkInteger(`${name}.size`, size, 1, GPA_END - gpa)
}

/** Throws `ERR_OUT_OF_RANGE` unless `value` is a multiple of 4 KiB. */
export function checkPageAligned(name: string, value: number): void {
  checkInteger(name, value, 0, GPA_END)
  if (value % BYTES_PER_PAGE !== 0) throw outOfRange(name, 'a multiple of 4096', value)
}
