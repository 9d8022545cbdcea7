// What can be done with guest RAM on top of plain reads and writes: text, structs, lists of buffers,
// search, copies between guests, atomic access to rings.

import { StructView } from '../../uapi/index.js'
import type { PhysicalMemory } from '../../x86/physical-memory.js'
import { KvmError } from '../errors.js'
import {
  callback,
  bytes as checkBytes,
  integer,
  invalidArgType,
  list,
  object,
  outOfRange,
} from '../validate.js'

const PAGE = 4096

/** A part of guest RAM, in bytes, of any alignment. */
export interface MemoryPart {
  readonly gpa: number
  readonly length: number
}

/** How a struct is laid out: the generated codecs of `node-kvm/uapi`, or any like them. */
export interface StructCodec<T> {
  /** Bytes. */
  readonly size: number
  /** Reads the struct at `offset`. */
  decode(view: StructView, offset: number): T
  /** Writes the struct at `offset`. */
  encode(view: StructView, offset: number, value: T): void
}

type Piece = (bytes: Uint8Array, gpa: number) => boolean | undefined

/** Accessors that stand on others. All work across adjacent regions except where they say not. */
export abstract class MemoryAccess implements PhysicalMemory {
  abstract get ranges(): readonly { readonly gpa: number; readonly size: number }[]
  abstract view(gpa: number, length: number): Uint8Array
  abstract read(gpa: number, length: number): Uint8Array
  abstract readInto(gpa: number, bytes: Uint8Array): void
  abstract write(gpa: number, bytes: Uint8Array): void
  abstract fill(gpa: number, length: number, value?: number): void
  abstract readU8(gpa: number): number
  abstract readU16(gpa: number): number
  abstract readU32(gpa: number): number
  abstract readU64(gpa: number): bigint
  abstract writeU8(gpa: number, value: number): void
  abstract writeU16(gpa: number, value: number): void
  abstract writeU32(gpa: number, value: number): void
  abstract writeU64(gpa: number, value: bigint): void
  /** @internal All of it is RAM that this thread can touch without having to wait for itself. */
  protected abstract checkTouch(gpa: number, length: number): void
  /** @internal The range, checked whole before, in pieces of RAM; ends when `each` gives true. */
  protected abstract eachPiece(gpa: number, length: number, each: Piece): void
  /** @internal The aligned element at `gpa` for Atomics. */
  protected abstract element<T extends keyof AtomicArrays>(gpa: number, type: T): Element<T>

  /** Signed, two's complement, little endian, of any alignment; as are the other `readI`. */
  readI8(gpa: number): number {
    return (this.readU8(gpa) << 24) >> 24
  }
  /** Reads two bytes, little endian, signed. */
  readI16(gpa: number): number {
    return (this.readU16(gpa) << 16) >> 16
  }
  /** Reads four bytes, little endian, signed. */
  readI32(gpa: number): number {
    return this.readU32(gpa) | 0
  }
  /** Reads eight bytes, little endian, signed. */
  readI64(gpa: number): bigint {
    return BigInt.asIntN(64, this.readU64(gpa))
  }

  /**
   * Text that ends before the first NUL, or after `maxLength` bytes.
   *
   * @param encoding Default `utf8`.
   * @throws KvmError `ERR_KVM_GUEST_FAULT` when RAM ends before both.
   */
  readString(gpa: number, maxLength: number, encoding: 'utf8' | 'latin1' = 'utf8'): string {
    integer(maxLength, 'maxLength')
    const available = this.#ramFrom(gpa, maxLength)
    const end = this.indexOf(Uint8Array.of(0), gpa, available)
    if (end < 0 && available < maxLength) this.read(gpa, maxLength)
    const length = end < 0 ? maxLength : end - gpa
    const bytes = this.read(gpa, length)
    return Buffer.from(bytes.buffer, bytes.byteOffset, length).toString(encoding)
  }

  /**
   * Writes text and a NUL behind it.
   *
   * @returns The bytes written, with the NUL.
   */
  writeString(gpa: number, text: string, encoding: 'utf8' | 'latin1' = 'utf8'): number {
    if (typeof text !== 'string') throw invalidArgType('text', 'of type string', text)
    const bytes = Buffer.from(`${text}\0`, encoding)
    this.write(gpa, bytes)
    return bytes.length
  }

  /** Copies a struct out and decodes it. */
  readStruct<T>(gpa: number, codec: StructCodec<T>): T {
    const { size } = checkedCodec(codec)
    const view = new StructView(Math.max(8, Math.ceil(size / 8) * 8))
    view.u8.set(this.read(gpa, size))
    return codec.decode(view, 0)
  }

  /** Encodes a struct and copies it in. */
  writeStruct<T>(gpa: number, codec: StructCodec<T>, value: T): void {
    const { size } = checkedCodec(codec)
    const view = new StructView(Math.max(8, Math.ceil(size / 8) * 8))
    codec.encode(view, 0, value)
    this.write(gpa, view.u8.subarray(0, size))
  }

  /** Gathers: copies the parts out, one behind the other. */
  readParts(parts: readonly MemoryPart[]): Uint8Array {
    const all = checkedParts(parts)
    this.#checkParts(all)
    const bytes = new Uint8Array(total(all))
    let done = 0
    for (const { gpa, length } of all) {
      bytes.set(this.read(gpa, length), done)
      done += length
    }
    return bytes
  }

  /**
   * Scatters: fills the parts one after the other until `bytes` ends. Nothing is written when any
   * part is not RAM.
   *
   * @throws `ERR_OUT_OF_RANGE` when the parts are shorter than `bytes`.
   */
  writeParts(parts: readonly MemoryPart[], bytes: Uint8Array): void {
    const all = checkedParts(parts)
    checkBytes(bytes, 'bytes')
    if (total(all) < bytes.length) {
      throw outOfRange('bytes.length', `<= ${total(all)}, what the parts hold`, bytes.length)
    }
    this.#checkParts(all)
    let done = 0
    for (const { gpa, length } of all) {
      this.write(gpa, bytes.subarray(done, Math.min(done + length, bytes.length)))
      done = Math.min(done + length, bytes.length)
    }
  }

  #checkParts(parts: readonly MemoryPart[]): void {
    for (const { gpa, length } of parts) this.eachPiece(gpa, length, () => true)
  }

  /** Where `needle` is first found within the range, also across regions; -1 when it is not there. */
  indexOf(needle: Uint8Array, gpa: number, length: number): number {
    const wanted = Buffer.from(checkBytes(needle, 'needle'))
    if (wanted.length === 0) throw outOfRange('needle.length', '>= 1', 0)
    let found = -1
    let tail = Buffer.alloc(0)
    this.eachPiece(gpa, length, (bytes, at) => {
      // What could begin in the piece before and end in this one.
      const seam = Buffer.concat([tail, bytes.subarray(0, wanted.length - 1)])
      const across = seam.indexOf(wanted)
      const inside = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).indexOf(wanted)
      if (across >= 0) found = at - tail.length + across
      else if (inside >= 0) found = at + inside
      if (found >= 0) return true
      const rest = bytes.length >= wanted.length ? bytes : Buffer.concat([tail, bytes])
      tail = Buffer.from(rest.subarray(Math.max(0, rest.length - wanted.length + 1)))
      return undefined
    })
    return found
  }

  /** Whether every byte of the range is 0. Reading allocates no page of a memfd that has none. */
  isZero(gpa: number, length: number): boolean {
    let zero = true
    this.eachPiece(gpa, length, (bytes) => {
      zero = isZero(bytes)
      return !zero
    })
    return zero
  }

  /** The pages of the range, which is aligned to 4096, that hold only zeros, joined to ranges. */
  zeroPages(gpa: number, length: number): Generator<{ gpa: number; size: number }> {
    if (integer(gpa, 'gpa') % PAGE) throw outOfRange('gpa', `a multiple of ${PAGE}`, gpa)
    if (integer(length, 'length') % PAGE) {
      throw outOfRange('length', `a multiple of ${PAGE}`, length)
    }
    this.eachPiece(gpa, length, () => true)
    return this.#zeroPages(gpa, length)
  }

  *#zeroPages(gpa: number, length: number): Generator<{ gpa: number; size: number }> {
    let start = -1
    for (let at = gpa; at < gpa + length; at += PAGE) {
      const zero = this.isZero(at, PAGE)
      if (zero && start < 0) start = at
      if (!zero && start >= 0) {
        yield { gpa: start, size: at - start }
        start = -1
      }
    }
    if (start >= 0) yield { gpa: start, size: gpa + length - start }
  }

  /**
   * Copies between two guests' RAM, or within one (parts may overlap then).
   *
   * @param from Address here. @param to Address in `target`.
   */
  copyTo(target: MemoryAccess, from: number, to: number, length: number): void {
    if (!(target instanceof MemoryAccess)) {
      throw invalidArgType('target', 'an instance of GuestMemory', target)
    }
    if (target === this) {
      this.#move(from, to, length)
      return
    }
    integer(to, 'to')
    if (length === 0) target.checkTouch(to, 0)
    this.eachPiece(from, length, (bytes, at) => {
      // All of it or nothing; one write sees to that itself.
      if (at === from && bytes.length < length) target.checkTouch(to, length)
      target.write(to + at - from, bytes)
      return undefined
    })
  }

  #move(from: number, to: number, length: number): void {
    this.checkTouch(from, length)
    this.checkTouch(to, length)
    const pieces: [number, number][] = []
    const step = 0x10_0000
    for (let done = 0; done < length; done += step) {
      pieces.push([done, Math.min(step, length - done)])
    }
    // Upwards in one memory, the end goes first.
    if (to > from) pieces.reverse()
    for (const [done, count] of pieces) this.write(to + done, this.read(from + done, count))
  }

  /**
   * Reads an aligned integer in one access. All `atomic` methods are sequentially consistent among
   * each other and with locked instructions of guests: what was written before a store is seen by
   * whoever loads its value. They never cross regions.
   *
   * @throws `ERR_OUT_OF_RANGE` for an address that is not a multiple of the integer's size.
   */
  atomicLoad<T extends keyof AtomicArrays>(gpa: number, type: T): Value<T> {
    const { array, index } = this.element(gpa, type)
    return Atomics.load(array as never, index) as Value<T>
  }

  /** Writes an aligned integer in one access. */
  atomicStore<T extends keyof AtomicArrays>(gpa: number, type: T, value: Value<T>): void {
    const { array, index } = this.element(gpa, type)
    Atomics.store(array as never, index, checkedValue(value, type) as never)
  }

  /** Adds, modulo the integer's size. @returns What was there before. */
  atomicAdd<T extends keyof AtomicArrays>(gpa: number, type: T, value: Value<T>): Value<T> {
    const { array, index } = this.element(gpa, type)
    return Atomics.add(array as never, index, checkedValue(value, type) as never) as Value<T>
  }

  /** Writes `value` if `expected` is there. @returns What was there before. */
  atomicCompareExchange<T extends keyof AtomicArrays>(
    gpa: number,
    type: T,
    expected: Value<T>,
    value: Value<T>,
  ): Value<T> {
    const { array, index } = this.element(gpa, type)
    const [old, next] = [checkedValue(expected, type), checkedValue(value, type)]
    return Atomics.compareExchange(array as never, index, old as never, next as never) as Value<T>
  }

  /** How many bytes are RAM from `gpa` on, at most `limit`. */
  #ramFrom(gpa: number, limit: number): number {
    let end = integer(gpa, 'gpa')
    for (const range of this.ranges) {
      if (range.gpa <= end && end < range.gpa + range.size) end = range.gpa + range.size
    }
    return Math.min(end - gpa, limit)
  }
}

/** Integers that have atomic access. */
export interface AtomicArrays {
  u8: Uint8Array
  u16: Uint16Array
  u32: Uint32Array
  u64: BigUint64Array
}
type Value<T extends keyof AtomicArrays> = T extends 'u64' ? bigint : number

/** @internal */
export interface Element<T extends keyof AtomicArrays> {
  array: AtomicArrays[T]
  index: number
}

const MAX = { u8: 0xff, u16: 0xffff, u32: 0xffff_ffff } as const

function checkedValue(value: unknown, type: keyof AtomicArrays): number | bigint {
  if (type !== 'u64') return integer(value, 'value', 0, MAX[type])
  if (typeof value !== 'bigint') throw invalidArgType('value', 'of type bigint', value)
  if (value < 0n || value >> 64n) throw outOfRange('value', '>= 0n and < 2n ** 64n', value)
  return value
}

function checkedCodec<T>(codec: StructCodec<T>): StructCodec<T> {
  object(codec, 'codec')
  integer(codec.size, 'codec.size', 0, 0x100_0000)
  callback(codec.decode, 'codec.decode')
  callback(codec.encode, 'codec.encode')
  return codec
}

function checkedParts(parts: readonly MemoryPart[]): MemoryPart[] {
  return list(parts, 'parts').map((part, i) => {
    const { gpa, length } = object(part, `parts[${i}]`)
    integer(gpa, `parts[${i}].gpa`)
    integer(length, `parts[${i}].length`)
    return { gpa, length }
  })
}

function total(parts: readonly MemoryPart[]): number {
  const sum = parts.reduce((bytes, { length }) => bytes + length, 0)
  if (Number.isSafeInteger(sum)) return sum
  throw new KvmError('ERR_KVM_GUEST_FAULT', undefined, 'not guest RAM', { size: sum })
}

const ZEROS = Buffer.alloc(0x1_0000)

function isZero(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at += ZEROS.length) {
    const part = bytes.subarray(at, at + ZEROS.length)
    if (ZEROS.compare(part, 0, part.length, 0, part.length) !== 0) return false
  }
  return true
}
