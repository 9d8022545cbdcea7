// The driver's side of a virtqueue, as a guest's kernel has it, in this process: what tests of devices
// use to talk to them through guest memory.
import type { GuestMemory } from '../../src/index.js'

/** A buffer of a request. */
export interface DriverBuffer {
  readonly gpa: number
  readonly length: number
  /** Whether the device writes it. */
  readonly writable?: boolean
}

export interface UsedBuffer {
  readonly id: number
  readonly written: number
}

/** Where a queue is. */
export interface RingLayout {
  readonly size: number
  readonly packed: boolean
  readonly eventIdx: boolean
  readonly descGpa: number
  readonly driverGpa: number
  readonly deviceGpa: number
}

/** Lays a queue out from `gpa` on, a multiple of 16; it takes at most `ringBytes(size)`. */
export function layOutRing(
  gpa: number,
  { size, packed, eventIdx }: Pick<RingLayout, 'size' | 'packed' | 'eventIdx'>,
): RingLayout {
  const driverGpa = gpa + 16 * size
  const deviceGpa = driverGpa + (packed ? 4 : Math.ceil((6 + 2 * size) / 4) * 4)
  return { size, packed, eventIdx, descGpa: gpa, driverGpa, deviceGpa }
}

export const ringBytes = (size: number): number => Math.ceil((26 * size + 32) / 4096) * 4096

const NEXT = 1
const WRITE = 2
const INDIRECT = 4
const AVAIL = 1 << 7
const USED = 1 << 15
const WRAP = 0x8000
const u16 = (number: number) => number & 0xffff

/** Common to both kinds. `add` throws when there is no room. */
export interface RingDriver {
  readonly layout: RingLayout
  /** Descriptors that are free. */
  readonly room: number
  /** Makes a request available, in a table at `tableGpa` if given. @returns its id */
  add(buffers: readonly DriverBuffer[], tableGpa?: number): number
  /** Takes the next request that the device is through with. */
  takeUsed(): UsedBuffer | undefined
  /** Whether the device asks for a notification of what was added since the last call. */
  needsNotification(): boolean
  /** Asks for an interrupt for what comes next. @returns whether something has come already */
  enableInterrupts(): boolean
  disableInterrupts(): void
}

export function ringDriver(memory: GuestMemory, layout: RingLayout): RingDriver {
  return layout.packed ? new PackedDriver(memory, layout) : new SplitDriver(memory, layout)
}

function writeDescriptor(
  memory: GuestMemory,
  at: number,
  { gpa, length }: DriverBuffer,
  first: number,
  second: number,
): void {
  memory.writeU64(at, BigInt(gpa))
  memory.writeU32(at + 8, length)
  memory.writeU16(at + 12, first)
  memory.writeU16(at + 14, second)
}

const writeFlag = (buffer: DriverBuffer) => (buffer.writable ? WRITE : 0)

class SplitDriver implements RingDriver {
  readonly layout: RingLayout
  readonly #memory: GuestMemory
  readonly #free: number[]
  readonly #heads = new Map<number, number[]>()
  #available = 0
  #notified = 0
  #seen = 0

  constructor(memory: GuestMemory, layout: RingLayout) {
    this.layout = layout
    this.#memory = memory
    this.#free = Array.from({ length: layout.size }, (_, i) => layout.size - 1 - i)
    memory.fill(layout.descGpa, layout.deviceGpa + 8 * layout.size + 6 - layout.descGpa)
  }

  get room(): number {
    return this.#free.length
  }

  add(buffers: readonly DriverBuffer[], tableGpa?: number): number {
    const { descGpa, driverGpa, size } = this.layout
    const count = tableGpa === undefined ? buffers.length : 1
    if (count > this.#free.length) throw new Error('the ring is full')
    const places = Array.from({ length: count }, () => this.#free.pop()!)
    if (tableGpa === undefined) {
      buffers.forEach((buffer, i) => {
        const next = places[i + 1]
        const flags = writeFlag(buffer) | (next === undefined ? 0 : NEXT)
        writeDescriptor(this.#memory, descGpa + 16 * places[i]!, buffer, flags, next ?? 0)
      })
    } else {
      buffers.forEach((buffer, i) => {
        const isLast = i === buffers.length - 1
        const flags = writeFlag(buffer) | (isLast ? 0 : NEXT)
        writeDescriptor(this.#memory, tableGpa + 16 * i, buffer, flags, isLast ? 0 : i + 1)
      })
      const table = { gpa: tableGpa, length: 16 * buffers.length }
      writeDescriptor(this.#memory, descGpa + 16 * places[0]!, table, INDIRECT, 0)
    }
    const head = places[0]!
    this.#heads.set(head, places)
    this.#memory.writeU16(driverGpa + 4 + 2 * (this.#available % size), head)
    this.#available = u16(this.#available + 1)
    this.#memory.atomicStore(driverGpa + 2, 'u16', this.#available)
    return head
  }

  takeUsed(): UsedBuffer | undefined {
    const { deviceGpa, size } = this.layout
    if (this.#memory.atomicLoad(deviceGpa + 2, 'u16') === this.#seen) return undefined
    const at = deviceGpa + 4 + 8 * (this.#seen % size)
    const id = this.#memory.readU32(at)
    this.#seen = u16(this.#seen + 1)
    const places = this.#heads.get(id)
    if (places === undefined) throw new Error(`${id} is not with the device`)
    this.#heads.delete(id)
    this.#free.push(...places)
    return { id, written: this.#memory.readU32(at + 4) }
  }

  needsNotification(): boolean {
    const { deviceGpa, size, eventIdx } = this.layout
    const before = this.#notified
    this.#notified = this.#available
    if (!eventIdx) return (this.#memory.atomicLoad(deviceGpa, 'u16') & 1) === 0
    const event = this.#memory.atomicLoad(deviceGpa + 4 + 8 * size, 'u16')
    return u16(this.#available - event - 1) < u16(this.#available - before)
  }

  enableInterrupts(): boolean {
    const { driverGpa, deviceGpa, size, eventIdx } = this.layout
    if (eventIdx) this.#memory.atomicStore(driverGpa + 4 + 2 * size, 'u16', this.#seen)
    else this.#memory.atomicStore(driverGpa, 'u16', 0)
    return this.#memory.atomicLoad(deviceGpa + 2, 'u16') !== this.#seen
  }

  disableInterrupts(): void {
    if (!this.layout.eventIdx) this.#memory.atomicStore(this.layout.driverGpa, 'u16', 1)
  }
}

class PackedDriver implements RingDriver {
  readonly layout: RingLayout
  readonly #memory: GuestMemory
  readonly #ids: number[]
  readonly #out = new Map<number, number>()
  #room: number
  #next = 0
  #wrap = true
  #seen = 0
  #seenWrap = true
  #added = 0

  constructor(memory: GuestMemory, layout: RingLayout) {
    this.layout = layout
    this.#memory = memory
    this.#room = layout.size
    this.#ids = Array.from({ length: layout.size }, (_, i) => layout.size - 1 - i)
    memory.fill(layout.descGpa, layout.deviceGpa + 4 - layout.descGpa)
  }

  get room(): number {
    return this.#room
  }

  add(buffers: readonly DriverBuffer[], tableGpa?: number): number {
    const { descGpa, size } = this.layout
    let list = buffers.map((buffer) => ({ ...buffer, flags: writeFlag(buffer) }))
    if (tableGpa !== undefined) {
      for (const [i, buffer] of list.entries()) {
        writeDescriptor(this.#memory, tableGpa + 16 * i, buffer, 0, buffer.flags)
      }
      list = [{ gpa: tableGpa, length: 16 * buffers.length, flags: INDIRECT }]
    }
    if (list.length > this.#room) throw new Error('the ring is full')
    const id = this.#ids.pop()!
    this.#out.set(id, list.length)
    this.#room -= list.length
    this.#added += list.length
    const first = this.#next
    let firstFlags = 0
    list.forEach((buffer, i) => {
      const flags = buffer.flags | (i < list.length - 1 ? NEXT : 0) | (this.#wrap ? AVAIL : USED)
      const at = descGpa + 16 * this.#next
      // The first one's flags come last: with them, all are the device's.
      if (i === 0) firstFlags = flags
      const now = i === 0 ? this.#memory.readU16(at + 14) : flags
      writeDescriptor(this.#memory, at, buffer, id, now)
      if (++this.#next === size) {
        this.#next = 0
        this.#wrap = !this.#wrap
      }
    })
    this.#memory.atomicStore(descGpa + 16 * first + 14, 'u16', firstFlags)
    return id
  }

  get #hasUsed(): boolean {
    const flags = this.#memory.atomicLoad(this.layout.descGpa + 16 * this.#seen + 14, 'u16')
    return ((flags & AVAIL) !== 0) === this.#seenWrap && ((flags & USED) !== 0) === this.#seenWrap
  }

  takeUsed(): UsedBuffer | undefined {
    if (!this.#hasUsed) return undefined
    const at = this.layout.descGpa + 16 * this.#seen
    const id = this.#memory.readU16(at + 12)
    const slots = this.#out.get(id)
    if (slots === undefined) throw new Error(`${id} is not with the device`)
    this.#out.delete(id)
    this.#ids.push(id)
    this.#room += slots
    this.#seen += slots
    if (this.#seen >= this.layout.size) {
      this.#seen -= this.layout.size
      this.#seenWrap = !this.#seenWrap
    }
    return { id, written: this.#memory.readU32(at + 8) }
  }

  needsNotification(): boolean {
    const added = this.#added
    this.#added = 0
    const flags = this.#memory.atomicLoad(this.layout.deviceGpa + 2, 'u16') & 3
    if (flags !== 2) return flags === 0
    const event = this.#memory.atomicLoad(this.layout.deviceGpa, 'u16')
    const isOtherRound = ((event & WRAP) !== 0) !== this.#wrap
    const place = (event & ~WRAP) - (isOtherRound ? this.layout.size : 0)
    return added >= this.layout.size || u16(this.#next - place - 1) < added
  }

  enableInterrupts(): boolean {
    const { driverGpa, eventIdx } = this.layout
    if (eventIdx) {
      this.#memory.atomicStore(driverGpa, 'u16', this.#seen | (this.#seenWrap ? WRAP : 0))
    }
    this.#memory.atomicStore(driverGpa + 2, 'u16', eventIdx ? 2 : 0)
    return this.#hasUsed
  }

  disableInterrupts(): void {
    this.#memory.atomicStore(this.layout.driverGpa + 2, 'u16', 1)
  }
}
