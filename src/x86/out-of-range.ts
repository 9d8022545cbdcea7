// The one error of the pure layers: an argument whose value is impossible. It carries Node's own
// code, so callers test `error.code` the same way whether Node, the core or this layer refused.

/**
 * Builds the error for an argument outside its legal values: a `RangeError` with
 * `code: 'ERR_OUT_OF_RANGE'`, worded like Node's own.
 *
 * @param name the argument or field that is wrong
 * @param expected the rule it breaks, to follow "It must be"
 * @param actual the value received
 */
export function outOfRange(
  name: string,
  expected: string,
  actual: unknown,
): RangeError & { code: string } {
  const shown = typeof actual === 'number' || typeof actual === 'bigint' ? hex(actual) : `${actual}`
  const error = new RangeError(
    `The value of "${name}" is out of range. It must be ${expected}. Received ${shown}`,
  )
  return Object.assign(error, { code: 'ERR_OUT_OF_RANGE' })
}

/** Throws unless `value` is an integer from `min` to `max`, both included. */
export function checkInteger(name: string, value: number, min: number, max: number): void {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw outOfRange(name, `an integer from ${hex(min)} to ${hex(max)}`, value)
  }
}

/** Throws unless `value` fits in an unsigned integer of `width` bits. */
export function checkUnsigned(name: string, value: bigint, width: number): void {
  if (value < 0n || value >> BigInt(width) !== 0n) {
    throw outOfRange(name, `an unsigned ${width}-bit value`, value)
  }
}

function hex(value: number | bigint): string {
  if (typeof value === 'number' && !Number.isInteger(value)) return String(value)
  return value < 10 && value > -10 ? value.toString() : `0x${value.toString(16)}`
}
