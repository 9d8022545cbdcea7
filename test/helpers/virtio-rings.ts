// The driver's side of both kinds of queue, as plain as it can be: what tests compare the device with.

import type { DeviceMemory, MemoryPart, QueueLayout } from '../../src/devices/index.js'

/** What the driver gets back. */
export interface UsedBuffer {
  readonly id: number
  readonly length: number
}

/** A buffer as a driver makes it available. */
export interface DriverBuffer {
  readonly readable?: readonly MemoryPart[]
  readonly writable?: readonly MemoryPart[]
  /** Where its indirect table is to be; in the ring itself when absent. */
  readonly tableGpa?: number
}

/** One queue, seen from the driver. */
export interface DriverRing {
  readonly layout: QueueLayout
  /** Makes a buffer available. @returns Its id; undefined when the ring has no room. */
  add(buffer: DriverBuffer): number | undefined
  /** Whether the device wants to be notified of what was added since the last call. */
  needsKick(): boolean
  /** Takes the next used buffer. */
  takeUsed(): UsedBuffer | undefined
  /** Asks for interrupts, or for none. */
  setInterrupts(wanted: boolean): void
}

const NEXT = 1
const WRITE = 2
const INDIRECT = 4

interface Descriptor extends MemoryPart {
  flags: number
}

function descriptors({ readable = [], writable = [] }: DriverBuffer): Descriptor[] {
  return [
    ...readable.map((part) => ({ ...part, flags: 0 })),
    ...writable.map((part) => ({ ...part, flags: WRITE })),
  ]
}

const passed = (event: number, current: number, old: number) =>
  ((current - event - 1) & 0xffff) < ((current - old) & 0xffff)

/** Bytes from {@link ringLayout}'s `gpa` on that a queue of this size takes at most. */
export const ringBytes = (size: number): number => size * 32 + 0x2000

/** Places the parts of a queue behind each other, a page apart. */
export function ringLayout(
  gpa: number,
  size: number,
  features: Partial<Omit<QueueLayout, 'size' | 'descGpa' | 'driverGpa' | 'deviceGpa'>> = {},
): QueueLayout {
  const page = (bytes: number) => Math.ceil(bytes / 0x1000) * 0x1000
  const driverGpa = gpa + page(size * 16)
  const deviceGpa = driverGpa + page(size * 2 + 6)
  return {
    index: 0,
    packed: false,
    eventIdx: false,
    indirect: true,
    inOrder: false,
    ...features,
    size,
    descGpa: gpa,
    driverGpa,
    deviceGpa,
  }
}

/** A driver's ring of the kind that the layout says. The memory is cleared. */
export function driverRing(memory: DeviceMemory, layout: QueueLayout): DriverRing {
  memory.fill(layout.descGpa, layout.size * 16)
  memory.fill(layout.driverGpa, layout.packed ? 4 : layout.size * 2 + 6)
  memory.fill(layout.deviceGpa, layout.packed ? 4 : layout.size * 8 + 6)
  return layout.packed ? new PackedDriver(memory, layout) : new SplitDriver(memory, layout)
}

class SplitDriver implements DriverRing {
  readonly layout: QueueLayout
  readonly #memory: DeviceMemory
  readonly #free: number[]
  readonly #chains = new Map<number, number[]>()
  #avail = 0
  #kicked = 0
  #used = 0
  #wantsInterrupts = true

  constructor(memory: DeviceMemory, layout: QueueLayout) {
    this.#memory = memory
    this.layout = layout
    this.#free = Array.from({ length: layout.size }, (_, i) => i)
  }

  add(buffer: DriverBuffer): number | undefined {
    const { descGpa, driverGpa, size } = this.layout
    const all = descriptors(buffer)
    const count = buffer.tableGpa === undefined ? all.length : 1
    if (count === 0 || count > this.#free.length) return undefined
    const indices = this.#free.splice(0, count)
    const head = indices[0]!
    if (buffer.tableGpa === undefined) {
      this.#writeTable(descGpa, all, indices)
    } else {
      this.#writeTable(buffer.tableGpa, all, [...all.keys()])
      const table = { gpa: buffer.tableGpa, length: all.length * 16, flags: INDIRECT }
      this.#writeTable(descGpa, [table], indices)
    }
    this.#chains.set(head, indices)
    this.#memory.writeU16(driverGpa + 4 + 2 * (this.#avail % size), head)
    this.#avail = (this.#avail + 1) & 0xffff
    this.#memory.writeU16(driverGpa + 2, this.#avail)
    return head
  }

  #writeTable(gpa: number, all: readonly Descriptor[], indices: readonly number[]): void {
    all.forEach((each, i) => {
      const at = gpa + indices[i]! * 16
      const next = indices[i + 1]
      this.#memory.writeU64(at, BigInt(each.gpa))
      this.#memory.writeU32(at + 8, each.length)
      this.#memory.writeU16(at + 12, each.flags | (next === undefined ? 0 : NEXT))
      this.#memory.writeU16(at + 14, next ?? 0)
    })
  }

  needsKick(): boolean {
    const { deviceGpa, size, eventIdx } = this.layout
    const old = this.#kicked
    this.#kicked = this.#avail
    if (old === this.#avail) return false
    if (!eventIdx) return (this.#memory.readU16(deviceGpa) & 1) === 0
    return passed(this.#memory.readU16(deviceGpa + 4 + 8 * size), this.#avail, old)
  }

  takeUsed(): UsedBuffer | undefined {
    const { deviceGpa, size } = this.layout
    if (this.#memory.readU16(deviceGpa + 2) === this.#used) return undefined
    const at = deviceGpa + 4 + 8 * (this.#used % size)
    const id = this.#memory.readU32(at)
    const length = this.#memory.readU32(at + 4)
    const indices = this.#chains.get(id)
    if (indices === undefined) throw new Error(`used: ${id}, which was not available`)
    this.#chains.delete(id)
    this.#free.push(...indices)
    this.#used = (this.#used + 1) & 0xffff
    if (this.#wantsInterrupts) this.setInterrupts(true)
    return { id, length }
  }

  setInterrupts(wanted: boolean): void {
    const { driverGpa, size, eventIdx } = this.layout
    this.#wantsInterrupts = wanted
    if (!eventIdx) {
      this.#memory.writeU16(driverGpa, wanted ? 0 : 1)
      return
    }
    // An index that was just passed comes again after 65536.
    this.#memory.writeU16(driverGpa + 4 + 2 * size, (this.#used - (wanted ? 0 : 1)) & 0xffff)
  }
}

const AVAIL = 1 << 7
const USED = 1 << 15
const WRAP = 0x8000

class PackedDriver implements DriverRing {
  readonly layout: QueueLayout
  readonly #memory: DeviceMemory
  readonly #chains = new Map<number, number>()
  readonly #freeIds: number[]
  #avail = 0
  #availWrap = true
  #used = 0
  #usedWrap = true
  #room: number
  #added = 0

  constructor(memory: DeviceMemory, layout: QueueLayout) {
    this.#memory = memory
    this.layout = layout
    this.#room = layout.size
    this.#freeIds = Array.from({ length: layout.size }, (_, i) => i)
  }

  add(buffer: DriverBuffer): number | undefined {
    const { size, descGpa } = this.layout
    let all = descriptors(buffer)
    if (buffer.tableGpa !== undefined) {
      const { tableGpa } = buffer
      all.forEach((each, i) => {
        this.#write(tableGpa + i * 16, each, 0, each.flags)
      })
      all = [{ gpa: tableGpa, length: all.length * 16, flags: INDIRECT }]
    }
    if (all.length === 0 || all.length > this.#room) return undefined
    const id = this.#freeIds.shift()!
    this.#chains.set(id, all.length)
    this.#room -= all.length
    const writes: (() => void)[] = []
    all.forEach((each, i) => {
      const at = descGpa + this.#avail * 16
      const whose = this.#availWrap ? AVAIL : USED
      const flags = each.flags | whose | (i + 1 < all.length ? NEXT : 0)
      writes.push(() => this.#write(at, each, id, flags))
      this.#avail++
      if (this.#avail < size) return
      this.#avail = 0
      this.#availWrap = !this.#availWrap
    })
    // The first one last: with it the device has all.
    for (const write of writes.reverse()) write()
    this.#added += all.length
    return id
  }

  #write(at: number, { gpa, length }: MemoryPart, id: number, flags: number): void {
    this.#memory.writeU64(at, BigInt(gpa))
    this.#memory.writeU32(at + 8, length)
    this.#memory.writeU16(at + 12, id)
    this.#memory.writeU16(at + 14, flags)
  }

  needsKick(): boolean {
    const { deviceGpa, size } = this.layout
    const added = this.#added
    this.#added = 0
    if (added === 0) return false
    const flags = this.#memory.readU16(deviceGpa + 2)
    if (flags !== 2) return flags === 0
    const event = this.#memory.readU16(deviceGpa)
    const place = (event & 0x7fff) - (((event & WRAP) !== 0) === this.#availWrap ? 0 : size)
    return passed(place, this.#avail, this.#avail - added)
  }

  takeUsed(): UsedBuffer | undefined {
    const { descGpa, size } = this.layout
    const at = descGpa + this.#used * 16
    const flags = this.#memory.readU16(at + 14)
    const isUsed = ((flags & USED) !== 0) === this.#usedWrap
    if (!isUsed || ((flags & AVAIL) !== 0) !== this.#usedWrap) return undefined
    const id = this.#memory.readU16(at + 12)
    // The length counts only where the device has written.
    const length = (flags & WRITE) === 0 ? 0 : this.#memory.readU32(at + 8)
    const count = this.#chains.get(id)
    if (count === undefined) throw new Error(`used: ${id}, which was not available`)
    this.#chains.delete(id)
    this.#freeIds.push(id)
    this.#room += count
    this.#used += count
    if (this.#used >= size) {
      this.#used -= size
      this.#usedWrap = !this.#usedWrap
    }
    this.setInterrupts(this.#wantsInterrupts)
    return { id, length }
  }

  #wantsInterrupts = true

  setInterrupts(wanted: boolean): void {
    const { driverGpa, eventIdx } = this.layout
    this.#wantsInterrupts = wanted
    if (wanted && eventIdx) {
      this.#memory.writeU16(driverGpa, this.#used | (this.#usedWrap ? WRAP : 0))
    }
    this.#memory.writeU16(driverGpa + 2, wanted ? (eventIdx ? 2 : 0) : 1)
  }
}
