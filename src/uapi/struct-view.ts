// The bytes of kernel structures seen through typed arrays of every width. A DataView would do the
// same, but its BigInt methods are three to four times slower on Node 20.

import { invalidArgType, outOfRange } from './errors.js'

/**
 * Bytes that hold kernel structures, as aligned little-endian typed arrays over one buffer. The
 * codecs (`decodeKvmRegs`, `encodeKvmRegs`, …) take one of these and an offset into it.
 *
 * The arrays are created once, so keep a view for as long as its buffer is in use.
 */
export class StructView {
  /** The buffer seen. */
  readonly buffer: ArrayBufferLike
  /** Where in `buffer` offset 0 of this view is. */
  readonly byteOffset: number
  /** Length in bytes. The 64-bit arrays cover it rounded down to a multiple of eight. */
  readonly byteLength: number
  /** The bytes as unsigned 8-bit integers. */
  readonly u8: Uint8Array
  /** The bytes as signed 8-bit integers. */
  readonly i8: Int8Array
  /** The bytes as unsigned 16-bit integers. */
  readonly u16: Uint16Array
  /** The bytes as signed 16-bit integers. */
  readonly i16: Int16Array
  /** The bytes as unsigned 32-bit integers. */
  readonly u32: Uint32Array
  /** The bytes as signed 32-bit integers. */
  readonly i32: Int32Array
  /** The bytes as unsigned 64-bit integers. */
  readonly u64: BigUint64Array
  /** The bytes as signed 64-bit integers. */
  readonly i64: BigInt64Array

  /**
   * @param source A buffer to look at, or a number of bytes to allocate (zeroed, rounded up to a
   *   multiple of eight).
   * @param byteOffset Start within the buffer, a multiple of eight: structures start aligned.
   * @param byteLength Length in bytes; by default up to the end of the buffer.
   * @throws `ERR_INVALID_ARG_TYPE` or `ERR_OUT_OF_RANGE`.
   */
  constructor(source: ArrayBufferLike | number, byteOffset = 0, byteLength?: number) {
    const buffer = typeof source === 'number' ? allocate(source) : source
    if (!(buffer instanceof ArrayBuffer) && !(buffer instanceof SharedArrayBuffer)) {
      throw invalidArgType('source', 'an ArrayBuffer or a number of bytes', source)
    }
    if (!Number.isInteger(byteOffset) || byteOffset < 0 || byteOffset % 8 !== 0) {
      throw outOfRange('byteOffset', 'a multiple of 8', byteOffset)
    }
    const length = byteLength ?? buffer.byteLength - byteOffset
    if (!Number.isInteger(length) || length < 0 || byteOffset + length > buffer.byteLength) {
      throw outOfRange('byteLength', `within the buffer of ${buffer.byteLength} bytes`, length)
    }
    this.buffer = buffer
    this.byteOffset = byteOffset
    this.byteLength = length
    this.u8 = new Uint8Array(buffer, byteOffset, length)
    this.i8 = new Int8Array(buffer, byteOffset, length)
    this.u16 = new Uint16Array(buffer, byteOffset, Math.floor(length / 2))
    this.i16 = new Int16Array(buffer, byteOffset, Math.floor(length / 2))
    this.u32 = new Uint32Array(buffer, byteOffset, Math.floor(length / 4))
    this.i32 = new Int32Array(buffer, byteOffset, Math.floor(length / 4))
    this.u64 = new BigUint64Array(buffer, byteOffset, Math.floor(length / 8))
    this.i64 = new BigInt64Array(buffer, byteOffset, Math.floor(length / 8))
  }
}

function allocate(size: number): ArrayBuffer {
  if (!Number.isSafeInteger(size) || size < 0) {
    throw outOfRange('source', 'a number of bytes >= 0', size)
  }
  return new ArrayBuffer(Math.ceil(size / 8) * 8)
}
