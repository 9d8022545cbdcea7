// Sizes as people write them on a command line.

import { integer, invalidArgType, outOfRange } from '../core/validate.js'

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  K: 2 ** 10,
  M: 2 ** 20,
  G: 2 ** 30,
  T: 2 ** 40,
}

/**
 * Bytes of a size such as `'512M'`, `'1G'`, `'4096'` (units are powers of 1024), or of a number.
 *
 * @throws `ERR_INVALID_ARG_TYPE` for what is no size, `ERR_OUT_OF_RANGE` for one that is not a
 *   multiple of 4096 or not positive.
 */
export function memorySize(size: number | string, name = 'memory'): number {
  const bytes = typeof size === 'string' ? parse(size, name) : size
  integer(bytes, name, 4096, 2 ** 46)
  if (bytes % 4096 !== 0) throw outOfRange(name, 'a multiple of 4096', size)
  return bytes
}

function parse(text: string, name: string): number {
  const match = /^(\d+)([KMGT]?)(i?B)?$/i.exec(text)
  if (match === null) throw invalidArgType(name, "a size such as '512M'", text)
  return Number(match[1]) * UNITS[match[2]!.toUpperCase()]!
}
