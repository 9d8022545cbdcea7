// The host's /proc and /sys as text, under a root directory, so that a tree recorded from another
// machine reads like this one.

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Small text files of one host. What is absent or forbidden reads as `undefined`. */
export interface HostFiles {
  /** The trimmed text of a file. */
  read(path: string): string | undefined
  /** The sorted names in a directory, none when it cannot be read. */
  list(path: string): string[]
  has(path: string): boolean
}

/** Gives the files below a root directory; paths stay absolute, as on the host itself. */
export function hostFiles(root = '/'): HostFiles {
  const attempt = <T>(look: () => T, otherwise: T): T => {
    try {
      return look()
    } catch {
      return otherwise
    }
  }
  return {
    read: (path) => attempt(() => readFileSync(join(root, path), 'latin1').trim(), undefined),
    list: (path) => attempt(() => readdirSync(join(root, path)).sort(), []),
    has: (path) => existsSync(join(root, path)),
  }
}
