// What a Userfault is told to do, checked.

import { invalidArgType } from '../../uapi/index.js'
import type { KvmError } from '../errors.js'
import { callback, filePath, integer, object, outOfRange } from '../validate.js'

/** A file that has the pages. */
export interface PageSource {
  file: string
  /** Where in the file the first byte of the range is. Default 0. */
  offset?: number
}

/** Brings a page that is missing: its bytes (all of them, 4096 unless pages are huge), or zeros. */
export type MissingHandler = (gpa: number) => Uint8Array | 'zero' | Promise<Uint8Array | 'zero'>

/** Brings a page that memory has, but not mapped here: new bytes for it, or the ones it has. */
export type MinorHandler = (gpa: number) => Uint8Array | 'keep' | Promise<Uint8Array | 'keep'>

/** Is told of the first write to a protected page, with what the page was before. */
export type WriteHandler = (gpa: number, before: Uint8Array) => void

/** What {@link Userfault.create} takes. */
export interface UserfaultOptions {
  /** Where the range begins; a multiple of the page size. Default: where RAM begins. */
  gpa?: number
  /** Its bytes, a multiple of the page size, all RAM. Default: to the end of RAM. */
  length?: number
  /** Who brings pages that nobody has touched yet. */
  missing?: PageSource | MissingHandler
  /** Who brings pages that are in memory, but not mapped. memfd memory and huge pages only. */
  minor?: MinorHandler
  /** Who is told of writes to pages under {@link Userfault.protect}. Alone only. */
  write?: WriteHandler
  /**
   * Told of pages that could not be brought (`ERR_KVM_PAGE_LOST`), which read as zeros. Without it
   * the error is thrown where nobody catches it, and so ends the process.
   */
  onError?: (error: KvmError) => void
}

/** @internal The modes of UFFDIO_REGISTER, and where pages come from. */
export interface CheckedUserfault {
  modes: number
  file: string
  offset: number
  missing: MissingHandler | undefined
  minor: MinorHandler | undefined
  write: WriteHandler | undefined
  onError: ((error: KvmError) => void) | undefined
}

const MODE = { missing: 1, write: 2, minor: 4 } as const

/** @internal */
export function checkedUserfault(options: UserfaultOptions): CheckedUserfault {
  const { missing, minor, write, onError } = object(options, 'options')
  const modes =
    (missing === undefined ? 0 : MODE.missing) |
    (minor === undefined ? 0 : MODE.minor) |
    (write === undefined ? 0 : MODE.write)
  if (modes === 0) throw invalidArgType('options', 'with missing, minor or write', options)
  if (modes & MODE.write && modes !== MODE.write) {
    throw invalidArgType('options.write', 'the only one of missing, minor and write', write)
  }
  if (minor !== undefined) callback(minor, 'options.minor')
  if (write !== undefined) callback(write, 'options.write')
  if (onError !== undefined) callback(onError, 'options.onError')
  const common = { modes, minor, write, onError }
  if (missing === undefined || typeof missing === 'function') {
    return { ...common, file: '', offset: 0, missing }
  }
  const { file, offset = 0 } = object(missing, 'options.missing')
  const path = filePath(file, 'options.missing.file')
  if (path === '') throw outOfRange('options.missing.file', 'the path of a file', file)
  integer(offset, 'options.missing.offset', 0, 2 ** 52)
  return { ...common, file: path, offset, missing: undefined }
}
