// Guest RAM for tests of the pure layers: every byte outside the declared ranges is a canary, and
// every write is on record, so that a stray or partial write cannot go unseen.

import type { GpaRange } from '../../src/boot/index.js'
import type { PhysicalMemory } from '../../src/x86/physical-memory.js'

const CANARY = 0xa5

/** RAM at `ranges` within a plain buffer that is a little larger than the highest of them. */
export class CanaryMemory implements PhysicalMemory {
  readonly ranges: readonly GpaRange[]
  /** Every write and fill, in order. */
  readonly writes: GpaRange[] = []
  readonly #bytes: Buffer

  constructor(ranges: readonly GpaRange[]) {
    this.ranges = ranges
    const end = Math.max(...ranges.map(({ gpa, size }) => gpa + size))
    this.#bytes = Buffer.alloc(end + 0x1000, CANARY)
  }

  /** Addresses outside RAM whose canary changed; a test wants none. */
  damaged(): number[] {
    const copy = Buffer.from(this.#bytes)
    for (const { gpa, size } of this.ranges) copy.fill(CANARY, gpa, gpa + size)
    if (copy.equals(Buffer.alloc(copy.length, CANARY))) return []
    return [...copy.keys()].filter((i) => copy[i] !== CANARY)
  }

  /** Whether RAM still is as the constructor left it. */
  isUntouched(): boolean {
    return this.writes.length === 0 && this.#bytes.equals(Buffer.alloc(this.#bytes.length, CANARY))
  }

  read(gpa: number, length: number): Uint8Array {
    this.#check(gpa, length)
    return Uint8Array.from(this.#bytes.subarray(gpa, gpa + length))
  }

  write(gpa: number, bytes: Uint8Array): void {
    this.#record(gpa, bytes.length)
    this.#bytes.set(bytes, gpa)
  }

  fill(gpa: number, length: number, value = 0): void {
    this.#record(gpa, length)
    this.#bytes.fill(value, gpa, gpa + length)
  }

  readU8(gpa: number): number {
    this.#check(gpa, 1)
    return this.#bytes.readUInt8(gpa)
  }

  readU16(gpa: number): number {
    this.#check(gpa, 2)
    return this.#bytes.readUInt16LE(gpa)
  }

  readU32(gpa: number): number {
    this.#check(gpa, 4)
    return this.#bytes.readUInt32LE(gpa)
  }

  readU64(gpa: number): bigint {
    this.#check(gpa, 8)
    return this.#bytes.readBigUInt64LE(gpa)
  }

  writeU8(gpa: number, value: number): void {
    this.#record(gpa, 1)
    this.#bytes.writeUInt8(value, gpa)
  }

  writeU16(gpa: number, value: number): void {
    this.#record(gpa, 2)
    this.#bytes.writeUInt16LE(value, gpa)
  }

  writeU32(gpa: number, value: number): void {
    this.#record(gpa, 4)
    this.#bytes.writeUInt32LE(value, gpa)
  }

  writeU64(gpa: number, value: bigint): void {
    this.#record(gpa, 8)
    this.#bytes.writeBigUInt64LE(value, gpa)
  }

  #record(gpa: number, size: number): void {
    this.#check(gpa, size)
    this.writes.push({ gpa, size })
  }

  // A range may run across neighbours that touch, as it may in a guest's RAM.
  #check(gpa: number, length: number): void {
    if (!Number.isSafeInteger(gpa)) throw new RangeError(`${gpa} is no address`)
    let at = gpa
    for (const range of this.ranges) {
      if (at >= range.gpa && at < range.gpa + range.size) at = range.gpa + range.size
    }
    if (length > 0 && at < gpa + length) throw new RangeError(`${gpa}+${length} is not RAM`)
  }
}

/** RAM from 0 to `size`. */
export function lowRam(size: number): CanaryMemory {
  return new CanaryMemory([{ gpa: 0, size }])
}
