// Paths of archive members. Only one spelling of a path is let through, so that "listed twice" and
// "lies below" can be decided by comparing strings.

import { CPIO_MAX_PATH_BYTES, CPIO_TRAILER } from './cpio-format.js'

/** The archive's root directory, which writers may list to set its mode. */
export const CPIO_ROOT = '.'

/** Why `path` cannot be a member's path, as the end of a sentence; undefined when it can. */
export function pathProblem(path: string): string | undefined {
  if (path === '') return 'is empty'
  if (path === CPIO_ROOT) return undefined
  if (path.startsWith('/')) return 'is absolute; leave the leading slash out'
  if (path.includes('\0')) return 'contains a zero'
  if (path === CPIO_TRAILER) return 'is the name that ends an archive'
  if (/\p{Surrogate}/u.test(path)) return 'has half a surrogate pair'
  const components = path.split('/')
  if (components.some((name) => name === '' || name === '.' || name === '..')) {
    return 'has an empty, "." or ".." component'
  }
  const size = Buffer.byteLength(path)
  if (size >= CPIO_MAX_PATH_BYTES) return `is ${size} bytes long, at most 4095 are allowed`
  return undefined
}

/** All directories above `path`, outermost first. */
export function parentsOf(path: string): string[] {
  const components = path.split('/').slice(0, -1)
  return components.map((_, i) => components.slice(0, i + 1).join('/'))
}
