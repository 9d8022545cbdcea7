// The only way the parsers look at an untrusted image: every access is checked against its length
// and every failure says which field, where, and how long the image is.

import { BootError, hex } from './boot-error.js'
import { GPA_END } from './layout.js'

/** Little-endian, bounds-checked reads from an image. Offsets are in bytes. */
export class ImageReader {
  /** The image. */
  readonly bytes: Uint8Array
  readonly #view: DataView
  readonly #what: string

  /** `what` names the image in messages: `bzImage`, `ELF image`. */
  constructor(bytes: Uint8Array, what: string) {
    // A plain view, so that the parts given out are plain too, even of a Buffer.
    this.bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#what = what
  }

  /** Size of the image in bytes. */
  get size(): number {
    return this.bytes.length
  }

  /** An error about the image itself. */
  bad(message: string, offset: number, segment?: number): BootError {
    const details = segment === undefined ? { offset } : { offset, segment }
    return new BootError('ERR_BOOT_BAD_IMAGE', `${this.#what}: ${message}`, details)
  }

  /** Throws `ERR_BOOT_BAD_IMAGE` unless `size` bytes at `offset` are inside the image. */
  check(offset: number, size: number, field: string, segment?: number): void {
    if (offset + size <= this.size) return
    const message =
      `${field} needs ${hex(size)} bytes at offset ${hex(offset)}, but the image is only ` +
      `${hex(this.size)} bytes long; it is truncated or not what it claims to be`
    throw this.bad(message, offset, segment)
  }

  /** An unsigned byte. */
  u8(offset: number, field: string): number {
    this.check(offset, 1, field)
    return this.#view.getUint8(offset)
  }

  /** An unsigned 16-bit field. */
  u16(offset: number, field: string): number {
    this.check(offset, 2, field)
    return this.#view.getUint16(offset, true)
  }

  /** An unsigned 32-bit field. */
  u32(offset: number, field: string): number {
    this.check(offset, 4, field)
    return this.#view.getUint32(offset, true)
  }

  /** An unsigned 64-bit field, exact. */
  u64(offset: number, field: string): bigint {
    this.check(offset, 8, field)
    return this.#view.getBigUint64(offset, true)
  }

  /** A 64-bit field that must be an address, size or offset: at most 52 bits. */
  address(offset: number, field: string, segment?: number): number {
    const value = this.u64(offset, field)
    if (value < BigInt(GPA_END)) return Number(value)
    throw this.bad(`${field} is ${hex(value)}, which is above 52 bits`, offset, segment)
  }

  /** The bytes of a checked range, not copied. */
  slice(offset: number, size: number, field: string, segment?: number): Uint8Array {
    this.check(offset, size, field, segment)
    return this.bytes.subarray(offset, offset + size)
  }
}
