// Guest RAM as JavaScript sees it: regions at guest-physical addresses, checked accessors, views.
// A region is exposed in chunks: Node 20 allows no ArrayBuffer above 4 GiB, and offsets that stay
// below 2^31 keep index arithmetic on small integers. A chunk's arrays are made when it is first used:
// V8 counts their bytes as if they were on the heap, and a garbage collection for each is the price.
// So what is written before that, such as a kernel, goes through native code, which costs each call more.

import { constants } from 'node:buffer'
import {
  type Binding,
  binding,
  type Handle,
  KIND_REGION,
  keepInThread,
  RESULT_WOULD_DEADLOCK,
} from '../binding.js'
import { closedError, KvmError, kvmError } from './errors.js'
import type { AtomicArrays, Element } from './memory/memory-access.js'
import { MemoryHost, type RegionPart } from './memory/memory-host.js'
import {
  type CheckedOptions,
  checkedOptions,
  createRegion,
  type MemoryOptions,
} from './memory/memory-options.js'
import { servedHere } from './memory/served-pages.js'
import { findObject, type SharedMemory } from './shared.js'
import {
  bytes as checkBytes,
  integer,
  invalidArgType,
  list,
  object,
  outOfRange,
} from './validate.js'

const PAGE = 4096
const CHUNK = 0x4000_0000
/** So many writes go through native code, unless an accessor has made arrays before. */
const EARLY_WRITES = 256
const WIDTHS = { u8: 1, u16: 2, u32: 4, u64: 8 } as const

/** Where a region of guest RAM is. Both are multiples of 4096. */
export interface MemoryRange {
  /** Guest-physical address of its first byte. */
  readonly gpa: number
  /** Its size in bytes. */
  readonly size: number
}

/** A region to allocate; its options count before those of the whole. */
export interface MemoryRegion extends MemoryRange, MemoryOptions {}

interface Region extends MemoryRange {
  readonly handle: Handle
  /** A guest_memfd, which slots must be told. */
  readonly guestMemfd?: boolean
}

/** A part of a region with the arrays that reach it. The arrays never leave this file. */
class Chunk {
  readonly gpa: number
  readonly size: number
  readonly u8: Uint8Array
  readonly u16: Uint16Array
  readonly u32: Uint32Array
  readonly u64: BigUint64Array
  readonly data: DataView

  constructor(native: Binding, region: Region, offset: number) {
    this.gpa = region.gpa + offset
    this.size = Math.min(CHUNK, region.size - offset)
    const buffer = native.regionBuffer(region.handle, offset, this.size, 0)
    this.u8 = new Uint8Array(buffer)
    this.u16 = new Uint16Array(buffer)
    this.u32 = new Uint32Array(buffer)
    this.u64 = new BigUint64Array(buffer)
    this.data = new DataView(buffer)
  }
}

/**
 * The RAM of a guest: one or more regions, each at a guest-physical address, backed by memfd memory
 * that the kernel hands out page by page as it is touched.
 *
 * The memory lives until it is closed, every VM that maps it is closed, and no view of it is
 * reachable, in whatever order that happens. All threads of the process see the same bytes; plain
 * accesses are not ordered between threads, `Atomics` on a view's typed array are.
 *
 * Accessors take guest-physical addresses (numbers, at most 2^52), work across adjacent regions, and
 * throw a {@link KvmError} with code `ERR_KVM_GUEST_FAULT` for an address that is not RAM, before
 * they change anything; and `ERR_KVM_WOULD_DEADLOCK`, see {@link Userfault}.
 */
export class GuestMemory extends MemoryHost implements Disposable {
  readonly #native: Binding
  readonly #regions: readonly Region[]
  /** By region, then by place in it. */
  #chunks: (Chunk | undefined)[][]
  /** The chunks' buffers that users get: others, so that detaching them cannot blind the accessors. */
  #shared: (ArrayBuffer | undefined)[][]
  #last: Chunk | undefined
  /** Writes that may still do without arrays. */
  #early = EARLY_WRITES

  private constructor(native: Binding, regions: readonly Region[]) {
    super()
    this.#native = native
    this.#regions = regions
    this.#chunks = regions.map(() => [])
    this.#shared = regions.map(() => [])
  }

  /**
   * Allocates RAM: one region of `layout` bytes at address 0, or the regions listed. Unless it is a
   * file, each is filled with zeros and costs nothing before it is touched.
   *
   * Regions of 2 MiB and more are placed so that the kernel can map them in pages of 2 MiB: their
   * host address is congruent to the guest-physical one.
   *
   * @throws `ERR_OUT_OF_RANGE` for sizes or addresses that are no multiple of 4096, and for regions
   *   that overlap; a {@link KvmError} when the kernel refuses (`ENOMEM`, `EMFILE`).
   */
  static create(
    layout: number | readonly MemoryRegion[],
    options: MemoryOptions = {},
  ): GuestMemory {
    const common = checkedOptions(options, 'options')
    const single = typeof layout === 'number'
    const ranges = checkedLayout(single ? [{ gpa: 0, size: layout }] : layout, options, common)
    const native = binding()
    const regions: Region[] = []
    try {
      for (const { gpa, size, checked } of ranges) {
        regions.push({ gpa, size, handle: createRegion(native, gpa, size, checked) })
      }
    } catch (error) {
      for (const { handle } of regions) native.close(handle)
      throw error
    }
    return new GuestMemory(native, regions)
  }

  /** What {@link GuestMemory.open} in another thread of the process takes; see {@link Vm.share}. */
  share(): SharedMemory {
    const regions = this.regions.map(({ gpa, size, handle, guestMemfd = false }) => {
      return { gpa, size, region: this.#native.objectId(handle), guestMemfd }
    })
    return { regions }
  }

  /**
   * Opens RAM of another thread of this process: the same bytes, nothing is copied. Each thread closes
   * its own; the RAM is given back after the last.
   *
   * `Atomics` on typed arrays over {@link view} order accesses between threads, and with the guest's;
   * nothing wakes `Atomics.wait` there.
   *
   * @throws KvmError `ERR_KVM_CLOSED` when it is gone.
   */
  static open(shared: SharedMemory): GuestMemory {
    const native = binding()
    const regions = list(object(shared, 'shared').regions, 'shared.regions').map(
      ({ gpa, size, region, guestMemfd }, i) => {
        const handle = findObject(native, region, KIND_REGION, `shared.regions[${i}].region`)
        const place = { gpa: integer(gpa, 'gpa'), size: integer(size, 'size', PAGE) }
        return { ...place, handle, guestMemfd: guestMemfd === true }
      },
    )
    return new GuestMemory(native, regions)
  }

  /** @internal Mapped guest_memfds: the next region's handle is `handle(size)`. */
  static fromGuestMemfds(
    native: Binding,
    ranges: readonly MemoryRange[],
    handle: (size: number) => Handle,
  ): GuestMemory {
    const regions: Region[] = []
    try {
      for (const { gpa, size } of checkedRanges(ranges)) {
        regions.push({ gpa, size, handle: handle(size), guestMemfd: true })
      }
    } catch (error) {
      for (const made of regions) native.close(made.handle)
      throw error
    }
    return new GuestMemory(native, regions)
  }

  /** Where RAM is: ascending, not overlapping. */
  override get ranges(): readonly MemoryRange[] {
    return this.#regions.map(({ gpa, size }) => ({ gpa, size }))
  }

  /** All RAM, in bytes. */
  get size(): number {
    return this.#regions.reduce((sum, region) => sum + region.size, 0)
  }

  /** Whether {@link close} was called. */
  get closed(): boolean {
    return this.#chunks.length === 0
  }

  /**
   * Gives up this object's hold on the RAM. VMs that map it, and views, keep what they use. Further
   * accesses throw `ERR_KVM_CLOSED`. Idempotent.
   */
  close(): void {
    if (this.closed) return
    for (const region of this.#regions) this.#native.close(region.handle)
    this.#chunks = []
    this.#shared = []
    this.#last = undefined
  }

  /** Closes it at the end of a `using` scope. */
  [Symbol.dispose](): void {
    this.close()
  }

  /** @internal The argument, if it is a GuestMemory and no Proxy or look-alike of one. */
  static check(value: unknown, name: string): GuestMemory {
    if (value !== null && typeof value === 'object' && #regions in value) return value
    throw invalidArgType(name, 'an instance of GuestMemory', value)
  }

  /** @internal The native regions, for the slots of a VM. */
  get regions(): readonly Region[] {
    if (this.closed) throw closedError({ reason: 'guest memory' })
    return this.#regions
  }

  /**
   * The bytes at `gpa`, not a copy. The view stays valid, whatever is closed, for as long as it is
   * reachable. It must lie within one region.
   *
   * @throws `ERR_OUT_OF_RANGE` for more bytes than this Node.js can put in one array (4 GiB in
   *   version 20).
   */
  override view(gpa: number, length: number): Uint8Array {
    this.checkTouch(gpa, length)
    if (length === 0) return new Uint8Array(0)
    const index = this.#regionAt(gpa)
    const region = this.#regions[index]!
    const offset = (gpa - region.gpa) % CHUNK
    const chunk = this.#sharedChunk(index, Math.floor((gpa - region.gpa) / CHUNK))
    if (offset + length <= chunk.byteLength) return new Uint8Array(chunk, offset, length)
    if (gpa + length > region.gpa + region.size) {
      throw fault(gpa, length, 'a view cannot span regions')
    }
    if (length > constants.MAX_LENGTH) throw tooLong(length)
    const buffer = sharedBuffer(this.#native, region, gpa - region.gpa, length)
    return ofLength(length, () => new Uint8Array(buffer))
  }

  #sharedChunk(index: number, place: number): ArrayBuffer {
    const buffers = this.#shared[index]!
    const buffer = buffers[place]
    if (buffer !== undefined && buffer.byteLength !== 0) return buffer
    const region = this.#regions[index]!
    const offset = place * CHUNK
    const size = Math.min(CHUNK, region.size - offset)
    buffers[place] = sharedBuffer(this.#native, region, offset, size)
    return buffers[place]
  }

  /** Copies `length` bytes out. */
  override read(gpa: number, length: number): Uint8Array {
    this.checkTouch(gpa, length)
    const bytes = ofLength(length, () => new Uint8Array(length))
    this.readInto(gpa, bytes)
    return bytes
  }

  /** Copies out as many bytes as the array has, into it: nothing is allocated. */
  override readInto(gpa: number, bytes: Uint8Array): void {
    checkBytes(bytes, 'bytes')
    this.eachPiece(gpa, bytes.length, (piece, at) => {
      bytes.set(piece, at - gpa)
    })
  }

  /** Copies `bytes` in. */
  override write(gpa: number, bytes: Uint8Array): void {
    checkBytes(bytes, 'bytes')
    const hit = this.#hit(gpa, bytes.length)
    if (hit) {
      hit.u8.set(bytes, gpa - hit.gpa)
      return
    }
    this.checkTouch(gpa, bytes.length)
    if (this.#isEarly() && this.#write(gpa, bytes)) return
    this.eachPiece(gpa, bytes.length, (piece, at) => {
      piece.set(bytes.subarray(at - gpa, at - gpa + piece.length))
    })
  }

  /** Sets `length` bytes to `value`. */
  override fill(gpa: number, length: number, value = 0): void {
    integer(value, 'value', 0, 0xff)
    this.checkTouch(gpa, length)
    if (this.#isEarly() && this.#fill(gpa, length, value)) return
    this.eachPiece(gpa, length, (piece) => {
      piece.fill(value)
    })
  }

  #isEarly(): boolean {
    return this.#last === undefined && this.#early-- > 0
  }

  /** By native code; false for memory that has no address, of which the caller tells. */
  #write(gpa: number, bytes: Uint8Array): boolean {
    return this.parts(gpa, bytes.length).every(({ handle, gpa: at, offset, length }) => {
      const part = bytes.subarray(at - gpa, at - gpa + length)
      return this.#native.writeRegion(handle, offset, part) === 0
    })
  }

  #fill(gpa: number, length: number, value: number): boolean {
    return this.parts(gpa, length).every(
      (part) => this.#native.fillRegion(part.handle, part.offset, part.length, value) === 0,
    )
  }

  /** Reads one byte, unsigned. */
  override readU8(gpa: number): number {
    const chunk = this.#find(gpa, 1)
    return chunk.u8[gpa - chunk.gpa]!
  }

  /** Reads two bytes, little endian, unsigned. */
  override readU16(gpa: number): number {
    const chunk = this.#within(gpa, 2)
    if (chunk === undefined) return new DataView(this.read(gpa, 2).buffer).getUint16(0, true)
    const offset = gpa - chunk.gpa
    return offset & 1 ? chunk.data.getUint16(offset, true) : chunk.u16[offset >>> 1]!
  }

  /** Reads four bytes, little endian, unsigned. */
  override readU32(gpa: number): number {
    const chunk = this.#within(gpa, 4)
    if (chunk === undefined) return new DataView(this.read(gpa, 4).buffer).getUint32(0, true)
    const offset = gpa - chunk.gpa
    return offset & 3 ? chunk.data.getUint32(offset, true) : chunk.u32[offset >>> 2]!
  }

  /** Reads eight bytes, little endian, unsigned. */
  override readU64(gpa: number): bigint {
    const chunk = this.#within(gpa, 8)
    if (chunk === undefined) return new DataView(this.read(gpa, 8).buffer).getBigUint64(0, true)
    const offset = gpa - chunk.gpa
    return offset & 7 ? chunk.data.getBigUint64(offset, true) : chunk.u64[offset >>> 3]!
  }

  /** Writes one byte. */
  override writeU8(gpa: number, value: number): void {
    integer(value, 'value', 0, 0xff)
    const chunk = this.#find(gpa, 1)
    chunk.u8[gpa - chunk.gpa] = value
  }

  /** Writes two bytes, little endian. */
  override writeU16(gpa: number, value: number): void {
    integer(value, 'value', 0, 0xffff)
    const chunk = this.#within(gpa, 2)
    if (chunk === undefined) this.#writeAcross(gpa, 2, (data) => data.setUint16(0, value, true))
    else if ((gpa - chunk.gpa) & 1) chunk.data.setUint16(gpa - chunk.gpa, value, true)
    else chunk.u16[(gpa - chunk.gpa) >>> 1] = value
  }

  /** Writes four bytes, little endian. */
  override writeU32(gpa: number, value: number): void {
    integer(value, 'value', 0, 0xffff_ffff)
    const chunk = this.#within(gpa, 4)
    if (chunk === undefined) this.#writeAcross(gpa, 4, (data) => data.setUint32(0, value, true))
    else if ((gpa - chunk.gpa) & 3) chunk.data.setUint32(gpa - chunk.gpa, value, true)
    else chunk.u32[(gpa - chunk.gpa) >>> 2] = value
  }

  /** Writes eight bytes, little endian. */
  override writeU64(gpa: number, value: bigint): void {
    if (typeof value !== 'bigint') throw invalidArgType('value', 'of type bigint', value)
    if (value < 0n || value >> 64n) throw outOfRange('value', '>= 0n and < 2n ** 64n', value)
    const chunk = this.#within(gpa, 8)
    if (chunk === undefined) this.#writeAcross(gpa, 8, (data) => data.setBigUint64(0, value, true))
    else if ((gpa - chunk.gpa) & 7) chunk.data.setBigUint64(gpa - chunk.gpa, value, true)
    else chunk.u64[(gpa - chunk.gpa) >>> 3] = value
  }

  #writeAcross(gpa: number, size: number, set: (data: DataView) => void): void {
    const bytes = new Uint8Array(size)
    set(new DataView(bytes.buffer))
    this.write(gpa, bytes)
  }

  /** The chunk that holds all of it; undefined when it is RAM, but spans chunks. */
  #within(gpa: number, size: number): Chunk | undefined {
    const chunk = this.#find(gpa, size)
    return gpa - chunk.gpa + size <= chunk.size ? chunk : undefined
  }

  /** The last chunk, when it holds all of the range and no page of it can be this thread's to bring. */
  #hit(gpa: number, length: number): Chunk | undefined {
    const last = this.#last
    // What is no integer fails here and then, by name, in the search. The type counts: a string
    // would compare like a number.
    if (last === undefined || typeof gpa !== 'number' || gpa % 1 !== 0) return undefined
    if (servedHere.count !== 0) return undefined
    return gpa >= last.gpa && gpa + length <= last.gpa + last.size ? last : undefined
  }

  /** The chunk that holds the first byte. */
  #find(gpa: number, size: number): Chunk {
    return this.#hit(gpa, 1) ?? this.#search(gpa, size)
  }

  #search(gpa: number, size: number): Chunk {
    if (this.closed) throw closedError({ reason: 'guest memory' })
    integer(gpa, 'gpa')
    const index = this.#regionAt(gpa)
    if (index < 0) throw fault(gpa, size)
    const region = this.#regions[index]!
    if (servedHere.count !== 0) this.#refuseToWait(region, gpa, size)
    const place = Math.floor((gpa - region.gpa) / CHUNK)
    const chunks = this.#chunks[index]!
    chunks[place] ??= new Chunk(this.#native, region, place * CHUNK)
    this.#last = chunks[place]
    return chunks[place]
  }

  /** The index of the region that holds the byte, or -1. */
  #regionAt(gpa: number): number {
    let low = 0
    let high = this.#regions.length
    while (low < high) {
      const middle = (low + high) >>> 1
      const region = this.#regions[middle]!
      if (gpa < region.gpa) high = middle
      else if (gpa >= region.gpa + region.size) low = middle + 1
      else return middle
    }
    return -1
  }

  /** Every byte of the range is RAM, or nothing happens. */
  #check(gpa: number, length: number): void {
    integer(gpa, 'gpa')
    integer(length, 'length')
    if (this.closed) throw closedError({ reason: 'guest memory' })
    let at = gpa
    do {
      const region = this.#regions[this.#regionAt(at)]
      if (region !== undefined) at = region.gpa + region.size
      else if (length === 0 && this.#isEnd(gpa)) return
      else throw fault(at, length)
    } while (at < gpa + length)
  }

  /** The same, and none of it would have to be brought by this very thread. */
  protected override checkTouch(gpa: number, length: number): void {
    this.#check(gpa, length)
    if (servedHere.count === 0) return
    for (let at = gpa; at < gpa + length; ) {
      const region = this.#regions[this.#regionAt(at)]!
      this.#refuseToWait(region, at, gpa + length - at)
      at = region.gpa + region.size
    }
  }

  #refuseToWait(region: Region, gpa: number, size: number): void {
    const length = Math.min(size, region.gpa + region.size - gpa)
    if (!this.#native.regionWouldWait(region.handle, gpa - region.gpa, length)) return
    throw kvmError(RESULT_WOULD_DEADLOCK, {
      gpa,
      size,
      reason: 'await prefetch() of its userfault first',
    })
  }

  /** An empty range may also stand just behind the last byte of a region. */
  #isEnd(gpa: number): boolean {
    return this.#regions.some((region) => region.gpa + region.size === gpa)
  }

  protected override get binding(): Binding {
    if (this.closed) throw closedError({ reason: 'guest memory' })
    return this.#native
  }

  protected override parts(gpa: number, length: number): RegionPart[] {
    this.#check(gpa, length)
    const parts: RegionPart[] = []
    for (let at = gpa; at < gpa + length; ) {
      const region = this.#regions[this.#regionAt(at)]!
      const count = Math.min(gpa + length, region.gpa + region.size) - at
      parts.push({ handle: region.handle, gpa: at, offset: at - region.gpa, length: count })
      at += count
    }
    return parts
  }

  protected override eachPiece(
    gpa: number,
    length: number,
    each: (bytes: Uint8Array, gpa: number) => boolean | undefined,
  ): void {
    const hit = Number.isSafeInteger(length) && length >= 0 ? this.#hit(gpa, length) : undefined
    if (!hit) this.checkTouch(gpa, length)
    for (let done = 0; done < length; ) {
      const chunk = hit ?? this.#find(gpa + done, length - done)
      const offset = gpa + done - chunk.gpa
      const count = Math.min(length - done, chunk.size - offset)
      if (each(chunk.u8.subarray(offset, offset + count), gpa + done)) return
      done += count
    }
  }

  protected override element<T extends keyof AtomicArrays>(gpa: number, type: T): Element<T> {
    if (!Object.hasOwn(WIDTHS, type)) throw invalidArgType('type', 'u8, u16, u32 or u64', type)
    const chunk = this.#find(gpa, WIDTHS[type])
    const offset = gpa - chunk.gpa
    if (offset % WIDTHS[type]) throw outOfRange('gpa', `a multiple of ${WIDTHS[type]}`, gpa)
    return { array: chunk[type] as AtomicArrays[T], index: offset / WIDTHS[type] }
  }
}

function fault(gpa: number, size: number, reason?: string): KvmError {
  return new KvmError('ERR_KVM_GUEST_FAULT', undefined, 'not guest RAM', {
    gpa,
    size,
    ...(reason === undefined ? {} : { reason }),
  })
}

/**
 * A buffer that users may get. Not to be transferred: Node lets go of the memory when the thread
 * ends that the buffer came from, whoever has it then.
 */
function sharedBuffer(native: Binding, region: Region, offset: number, size: number): ArrayBuffer {
  const buffer = native.regionBuffer(region.handle, offset, size, 1)
  keepInThread(buffer)
  return buffer
}

const tooLong = (length: number) => outOfRange('length', 'what fits in one array', length)

/** Runs `make`; V8's error for an array that is too long becomes one with a code. */
function ofLength(length: number, make: () => Uint8Array): Uint8Array {
  try {
    return make()
  } catch (error) {
    if (error instanceof RangeError) throw tooLong(length)
    throw error
  }
}

interface CheckedRegion extends MemoryRange {
  readonly checked: CheckedOptions
}

/** Ranges without options. */
function checkedRanges(ranges: readonly MemoryRange[]): MemoryRange[] {
  return checkedLayout(ranges, {}, checkedOptions({}, 'options'))
}

function checkedLayout(
  layout: readonly MemoryRegion[],
  options: MemoryOptions,
  common: CheckedOptions,
): CheckedRegion[] {
  if (!Array.isArray(layout) || layout.length === 0) {
    throw invalidArgType('layout', 'a number of bytes or a list of regions', layout)
  }
  const ranges = list(layout, 'layout').map((range: MemoryRegion, index) => {
    if (range === null || typeof range !== 'object') {
      throw invalidArgType(`layout[${index}]`, 'of type object', range)
    }
    const { gpa, size } = range
    if (integer(gpa, `layout[${index}].gpa`, 0, 2 ** 52 - PAGE) % PAGE) {
      throw outOfRange(`layout[${index}].gpa`, `a multiple of ${PAGE}`, gpa)
    }
    if (integer(size, `layout[${index}].size`, PAGE, 2 ** 52 - gpa) % PAGE) {
      throw outOfRange(`layout[${index}].size`, `a multiple of ${PAGE}`, size)
    }
    const own = Object.keys(range).some((key) => key !== 'gpa' && key !== 'size')
    const checked = own ? checkedOptions({ ...options, ...range }, `layout[${index}]`) : common
    if (gpa % checked.page || size % checked.page) {
      throw outOfRange(`layout[${index}]`, `a multiple of its ${checked.page} byte pages`, size)
    }
    return { gpa, size, checked }
  })
  ranges.sort((a, b) => a.gpa - b.gpa)
  for (let i = 1; i < ranges.length; i++) {
    const before = ranges[i - 1]!
    if (before.gpa + before.size > ranges[i]!.gpa) {
      throw outOfRange('layout', `free of overlaps (0x${ranges[i]!.gpa.toString(16)})`, layout)
    }
  }
  return ranges
}
