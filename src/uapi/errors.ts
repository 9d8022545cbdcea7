// Misuse errors in the shape of Node's own: a TypeError or RangeError with a stable `code`. They
// live in the lowest layer so that every other layer can throw the same ones.

/** An error with Node's `code` property, e.g. `ERR_INVALID_ARG_TYPE`. */
export type CodedError<E extends Error = Error> = E & {
  /** Stable identifier of the kind of error. */
  readonly code: string
}

function coded<E extends Error>(error: E, code: string): CodedError<E> {
  return Object.assign(error, { code })
}

function describe(value: unknown): string {
  if (value === null || value === undefined) return `${value}`
  if (typeof value === 'bigint') return `type bigint (${value}n)`
  if (typeof value === 'number' || typeof value === 'boolean')
    return `type ${typeof value} (${value})`
  if (typeof value === 'string') return `type string (${JSON.stringify(value.slice(0, 40))})`
  if (typeof value === 'object') return `an instance of ${value.constructor?.name ?? 'Object'}`
  return `type ${typeof value}`
}

/**
 * A value of the wrong type.
 * @param name What was wrong, e.g. `kvm_regs.rax` or `options.timeoutMs`.
 * @param expected What it must be, e.g. `of type bigint` or `an instance of Uint8Array`.
 * @param actual The value received.
 * @returns A `TypeError` with code `ERR_INVALID_ARG_TYPE`, to be thrown by the caller.
 */
export function invalidArgType(
  name: string,
  expected: string,
  actual: unknown,
): CodedError<TypeError> {
  const message = `The "${name}" argument must be ${expected}. Received ${describe(actual)}`
  return coded(new TypeError(message), 'ERR_INVALID_ARG_TYPE')
}

/**
 * A value of the right type that makes no sense.
 * @param name What was wrong.
 * @param reason Why, as the end of a sentence that starts with the name.
 * @returns A `TypeError` with code `ERR_INVALID_ARG_VALUE`, to be thrown by the caller.
 */
export function invalidArgValue(name: string, reason: string): CodedError<TypeError> {
  return coded(new TypeError(`The argument "${name}" ${reason}`), 'ERR_INVALID_ARG_VALUE')
}

/**
 * A number or bigint outside its range.
 * @param name What was wrong.
 * @param range What it must be, e.g. `an integer >= 0 and <= 255`.
 * @param actual The value received.
 * @returns A `RangeError` with code `ERR_OUT_OF_RANGE`, to be thrown by the caller.
 */
export function outOfRange(name: string, range: string, actual: unknown): CodedError<RangeError> {
  const shown = typeof actual === 'bigint' ? `${actual}n` : String(actual)
  const message = `The value of "${name}" is out of range. It must be ${range}. Received ${shown}`
  return coded(new RangeError(message), 'ERR_OUT_OF_RANGE')
}
