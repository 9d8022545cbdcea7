// Guest-physical memory made of plain buffers: for tests, and for looking into a guest's RAM that
// was saved to a file.

import { checkInteger, outOfRange } from './out-of-range.js'
import type { PhysicalMemory } from './physical-memory.js'

interface Range {
  readonly gpa: number
  readonly size: number
  readonly bytes: Uint8Array
  readonly view: DataView
}

/** {@link PhysicalMemory} over byte arrays. Values are little-endian, at any alignment. */
export class BufferMemory implements PhysicalMemory {
  readonly ranges: readonly { readonly gpa: number; readonly size: number }[]
  readonly #ranges: readonly Range[]

  /**
   * @param ranges where each array of bytes lies; they are used in place, not copied
   * @throws RangeError (`ERR_OUT_OF_RANGE`) when ranges overlap or leave the 52-bit address space
   */
  constructor(ranges: readonly { gpa: number; bytes: Uint8Array }[]) {
    this.#ranges = ranges
      .map(({ gpa, bytes }) => ({ gpa, size: bytes.length, bytes, view: viewOf(bytes) }))
      .sort((a, b) => a.gpa - b.gpa)
    this.ranges = this.#ranges.map(({ gpa, size }) => ({ gpa, size }))
    let end = 0
    for (const { gpa, size } of this.ranges) {
      checkInteger('gpa', gpa, end, 2 ** 52 - size)
      end = gpa + size
    }
  }

  /** Zeroed memory of `size` bytes from guest-physical address `gpa`. */
  static ofSize(size: number, gpa = 0): BufferMemory {
    return new BufferMemory([{ gpa, bytes: new Uint8Array(size) }])
  }

  read(gpa: number, length: number): Uint8Array {
    const { bytes, offset } = this.#locate(gpa, length)
    return bytes.slice(offset, offset + length)
  }

  write(gpa: number, bytes: Uint8Array): void {
    const target = this.#locate(gpa, bytes.length)
    target.bytes.set(bytes, target.offset)
  }

  fill(gpa: number, length: number, value = 0): void {
    const { bytes, offset } = this.#locate(gpa, length)
    bytes.fill(value, offset, offset + length)
  }

  /** Reads one byte, unsigned. */
  readU8(gpa: number): number {
    const { view, offset } = this.#locate(gpa, 1)
    return view.getUint8(offset)
  }

  /** Reads two bytes, little endian, unsigned. */
  readU16(gpa: number): number {
    const { view, offset } = this.#locate(gpa, 2)
    return view.getUint16(offset, true)
  }

  /** Reads four bytes, little endian, unsigned. */
  readU32(gpa: number): number {
    const { view, offset } = this.#locate(gpa, 4)
    return view.getUint32(offset, true)
  }

  /** Reads eight bytes, little endian, unsigned. */
  readU64(gpa: number): bigint {
    const { view, offset } = this.#locate(gpa, 8)
    return view.getBigUint64(offset, true)
  }

  /** Writes one byte. */
  writeU8(gpa: number, value: number): void {
    const { view, offset } = this.#locate(gpa, 1)
    view.setUint8(offset, value)
  }

  /** Writes two bytes, little endian. */
  writeU16(gpa: number, value: number): void {
    const { view, offset } = this.#locate(gpa, 2)
    view.setUint16(offset, value, true)
  }

  /** Writes four bytes, little endian. */
  writeU32(gpa: number, value: number): void {
    const { view, offset } = this.#locate(gpa, 4)
    view.setUint32(offset, value, true)
  }

  /** Writes eight bytes, little endian. */
  writeU64(gpa: number, value: bigint): void {
    const { view, offset } = this.#locate(gpa, 8)
    view.setBigUint64(offset, value, true)
  }

  #locate(gpa: number, length: number): { bytes: Uint8Array; view: DataView; offset: number } {
    const range = this.#ranges.find((r) => gpa >= r.gpa && gpa + length <= r.gpa + r.size)
    if (range === undefined || !Number.isInteger(gpa) || !Number.isInteger(length) || length < 0) {
      throw outOfRange('gpa', `the start of ${length} bytes of RAM`, gpa)
    }
    return { bytes: range.bytes, view: range.view, offset: gpa - range.gpa }
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
