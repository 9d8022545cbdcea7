// Whether a file descriptor is a terminal, found out without a stream.

import { fstatSync } from 'node:fs'

/** Of /dev/null and its like. */
const MEMORY_DEVICES = 1

/** Most files need no call of `isatty`, for which Node loads all that it has for networks. */
export function isTerminal(fd: number): boolean {
  const stat = fstatSync(fd)
  if (!stat.isCharacterDevice() || stat.rdev >> 8 === MEMORY_DEVICES) return false
  return process.getBuiltinModule('node:tty').isatty(fd)
}
