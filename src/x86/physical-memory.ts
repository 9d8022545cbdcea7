// What the pure layers (paging, boot, devices) need to see of a guest's RAM. `GuestMemory` of the
// core implements it; a test may give a plain buffer. It lives in the lowest layer so that no arrow
// of an import has to point up.

/**
 * Byte access to guest-physical memory. Every method checks its range against the guest's RAM and
 * throws a `RangeError`-like typed error when any byte of it is not RAM; none writes partially.
 * Addresses and lengths are in bytes.
 */
export interface PhysicalMemory {
  /** RAM ranges, ascending by address, not overlapping. */
  readonly ranges: readonly { readonly gpa: number; readonly size: number }[]
  /** Copies `length` bytes out. */
  read(gpa: number, length: number): Uint8Array
  /** Copies `bytes` in. */
  write(gpa: number, bytes: Uint8Array): void
  /** Sets `length` bytes to `value`. */
  fill(gpa: number, length: number, value?: number): void
  /** Reads one byte, unsigned. */
  readU8(gpa: number): number
  /** Reads two bytes, little endian, unsigned. */
  readU16(gpa: number): number
  /** Reads four bytes, little endian, unsigned. */
  readU32(gpa: number): number
  /** Reads eight bytes, little endian, unsigned. */
  readU64(gpa: number): bigint
  /** Writes one byte. */
  writeU8(gpa: number, value: number): void
  /** Writes two bytes, little endian. */
  writeU16(gpa: number, value: number): void
  /** Writes four bytes, little endian. */
  writeU32(gpa: number, value: number): void
  /** Writes eight bytes, little endian. */
  writeU64(gpa: number, value: bigint): void
}
