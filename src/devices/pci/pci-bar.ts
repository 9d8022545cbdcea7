// Base address registers: how a function says how much address space it wants, and where on a bus the
// guest has put it.

import type { Bus } from '../bus.js'
import type { BusDevice } from '../bus-device.js'
import { outOfRange } from '../errors.js'

/** A range of addresses that a function answers at, wherever the guest puts it. */
export interface PciBar {
  readonly kind: 'io' | 'memory32' | 'memory64'
  /** A power of two: at least 4 ports, at most 256; at least 4096 bytes of memory. */
  readonly size: number
  /** Gets offsets from the range's start. */
  readonly device: BusDevice
  /** Reads have no side effects. Default false. */
  readonly prefetchable?: boolean
  /** Told where the range is now; undefined when it is nowhere. */
  readonly onMoved?: (base: number | undefined) => void
}

/** Registers for base addresses in a type 0 header. */
export const PCI_BARS = 6

const IO = 0x1
const MEMORY_64 = 0x4
const PREFETCHABLE = 0x8
const ADDRESS_MASK = { io: ~0x3, memory: ~0xf }

/** The smallest range of memory; a page, so that no two functions share one. */
const MIN_MEMORY = 4096

/** One BAR of one function: its bits in configuration space, its place on the bus. */
export class BarSlot {
  readonly bar: PciBar
  readonly #view: DataView
  readonly #at: number
  #mapped: number | undefined

  /** `view` is the function's configuration space, `at` the register's offset. */
  constructor(bar: PciBar, view: DataView, at: number) {
    checkBar(bar)
    this.bar = bar
    this.#view = view
    this.#at = at
  }

  /** What the register holds beside the address. */
  get typeBits(): number {
    const { kind, prefetchable = false } = this.bar
    if (kind === 'io') return IO
    return (kind === 'memory64' ? MEMORY_64 : 0) + (prefetchable ? PREFETCHABLE : 0)
  }

  /** Bits that the guest can write, low and high half. The others tell it the size. */
  get writable(): [low: number, high: number] {
    const { kind, size } = this.bar
    const low = size >= 2 ** 32 ? 0 : -size >>> 0
    if (kind !== 'memory64') return [low, 0]
    return [low, size > 2 ** 32 ? -(size / 2 ** 32) >>> 0 : 0xffff_ffff]
  }

  /** The address in the register. */
  get address(): number {
    const low = this.#view.getUint32(this.#at, true)
    if (this.bar.kind === 'io') return (low & ADDRESS_MASK.io) >>> 0
    const high = this.bar.kind === 'memory64' ? this.#view.getUint32(this.#at + 4, true) : 0
    return high * 2 ** 32 + ((low & ADDRESS_MASK.memory) >>> 0)
  }

  set address(address: number) {
    this.#view.setUint32(this.#at, (address % 2 ** 32) + this.typeBits, true)
    if (this.bar.kind === 'memory64') {
      this.#view.setUint32(this.#at + 4, Math.floor(address / 2 ** 32), true)
    }
  }

  /** Takes the range off the bus unless it is at `wanted` already. */
  leave(bus: Bus, wanted: number | undefined): void {
    if (this.#mapped === undefined || this.#mapped === wanted) return
    bus.remove(this.#mapped)
    this.#move(undefined)
  }

  /** Puts the range on the bus, unless others hold some of it or it is no place at all. */
  enter(bus: Bus, wanted: number | undefined): void {
    if (wanted === undefined || wanted === this.#mapped) return
    if (!bus.isFree(wanted, this.bar.size)) return
    bus.add(wanted, this.bar.size, this.bar.device)
    this.#move(wanted)
  }

  #move(base: number | undefined): void {
    this.#mapped = base
    this.bar.onMoved?.(base)
  }
}

function checkBar({ kind, size }: PciBar): void {
  const [least, most] =
    kind === 'io' ? [4, 256] : [MIN_MEMORY, kind === 'memory32' ? 2 ** 31 : 2 ** 40]
  const isPower = Number.isSafeInteger(size) && Number.isInteger(Math.log2(size))
  if (!isPower || size < least || size > most) {
    throw outOfRange(
      `a BAR of kind ${kind} has ${least} to ${most} bytes, a power of 2, not ${size}`,
    )
  }
}
