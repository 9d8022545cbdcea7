// The one error type of the loaders. A caller branches on `code`; a person reads the message, which
// always carries the numbers that made the decision and what to change.

/**
 * Why a loader refused.
 *
 * - `ERR_BOOT_BAD_IMAGE`: the image is truncated, malformed or contradicts itself.
 * - `ERR_BOOT_UNSUPPORTED`: the image is sound, but not of a kind that this loader can start.
 * - `ERR_BOOT_NO_SPACE`: something does not fit in the guest's RAM.
 * - `ERR_BOOT_OVERLAP`: two things were asked to be in the same place.
 * - `ERR_BOOT_CMDLINE_TOO_LONG`, `ERR_BOOT_CMDLINE_INVALID`: the kernel command line.
 * - `ERR_BOOT_BAD_ARCHIVE`: a cpio archive is truncated, malformed or exceeds a limit.
 * - `ERR_BOOT_BAD_ENTRY`: an entry cannot be put in a cpio archive.
 */
export type BootErrorCode =
  | 'ERR_BOOT_BAD_IMAGE'
  | 'ERR_BOOT_UNSUPPORTED'
  | 'ERR_BOOT_NO_SPACE'
  | 'ERR_BOOT_OVERLAP'
  | 'ERR_BOOT_CMDLINE_TOO_LONG'
  | 'ERR_BOOT_CMDLINE_INVALID'
  | 'ERR_BOOT_BAD_ARCHIVE'
  | 'ERR_BOOT_BAD_ENTRY'

/** The facts that a {@link BootError} may carry beside its message. */
export interface BootErrorDetails {
  /** Byte offset in the image or archive of the field or record at fault. */
  readonly offset?: number
  /** Index of the ELF program header at fault. */
  readonly segment?: number
  /** What was to be placed, by the name that {@link Placement} uses. */
  readonly placement?: string
  /** Guest-physical address of what does not fit. */
  readonly gpa?: number
  /** Size in bytes of what does not fit. */
  readonly size?: number
  /** The limit that was exceeded, in bytes. */
  readonly limit?: number
  /** Path of the cpio entry at fault. */
  readonly path?: string
}

/**
 * Thrown by everything in this layer when an image, an archive or the guest's RAM does not allow
 * what was asked. Nothing has been written to guest memory by then. Misuse of the API itself (a
 * wrong type, a number out of range) throws Node's `ERR_INVALID_ARG_TYPE` or `ERR_OUT_OF_RANGE`.
 */
export class BootError extends Error {
  /** Which kind of refusal; see {@link BootErrorCode}. */
  readonly code: BootErrorCode
  /** Byte offset in the image or archive of the field or record at fault. */
  declare readonly offset?: number
  /** Index of the ELF program header at fault. */
  declare readonly segment?: number
  /** What was to be placed. */
  declare readonly placement?: string
  /** Guest-physical address of what does not fit. */
  declare readonly gpa?: number
  /** Size in bytes of what does not fit. */
  declare readonly size?: number
  /** The limit that was exceeded, in bytes. */
  declare readonly limit?: number
  /** Path of the cpio entry at fault. */
  declare readonly path?: string

  /** Makes an error; `details` become its own properties. */
  constructor(code: BootErrorCode, message: string, details: BootErrorDetails = {}) {
    super(message)
    this.name = 'BootError'
    this.code = code
    Object.assign(this, details)
  }
}

/** A number as the messages show it: `0x1000000`. Works for any address or size in range. */
export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`
}
