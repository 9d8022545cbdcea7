// An address space of devices: who owns which addresses, and the way of one access to its device.
// The subclasses differ only in how they find a range, since 64 Ki ports fit a table and 2^52
// memory addresses do not.

import type { BusDevice } from './bus-device.js'
import { type AccessDirection, BusOverlapError, DeviceError, outOfRange } from './errors.js'

/** A range of addresses that a device claims. */
export interface BusRange {
  /** First address. */
  readonly base: number
  /** First address behind the range. */
  readonly end: number
  /** Bytes (or ports). */
  readonly length: number
  readonly device: BusDevice
  /** What to subtract from an address to get the offset that the device sees. */
  readonly origin: number
  /** Widest access in bytes the device takes at once. */
  readonly width: number
}

/**
 * Told of an access that no device claims.
 *
 * @param value what is written; all ones for a read
 */
export type UnclaimedAccess = (
  address: number,
  size: number,
  direction: AccessDirection,
  value: number,
) => void

const truncate = (value: number, size: number): number =>
  size === 1 ? value & 0xff : size === 2 ? value & 0xffff : value >>> 0

const checkSize = (size: number): void => {
  if (size !== 1 && size !== 2 && size !== 4) {
    throw outOfRange(`an access has 1, 2 or 4 bytes (8 through read64/write64), not ${size}`)
  }
}

/**
 * Devices by address. Reads that nobody claims give all ones and writes vanish, as on a PC whose
 * bus floats; both are counted. An access that spans several devices, or is wider than a device
 * takes, is halved until each part fits. Dispatching allocates nothing.
 */
export abstract class Bus {
  /** Stands in messages, such as `port bus`. */
  readonly name: string
  /** Reads so far that no device claimed. */
  unclaimedReads = 0
  /** Writes so far that no device claimed. */
  unclaimedWrites = 0
  /** Called for every access that no device claims. */
  onUnclaimed: UnclaimedAccess | undefined
  readonly #limit: number
  readonly #ranges: BusRange[] = []

  /** @param limit the first address that does not exist */
  protected constructor(name: string, limit: number) {
    this.name = name
    this.#limit = limit
  }

  /** The claimed ranges, ascending by address. */
  get ranges(): readonly BusRange[] {
    return this.#ranges
  }

  /**
   * Gives `length` addresses from `base` on to a device. A device may hold several ranges; then
   * `firstOffset` says which offset the first address of this one is.
   *
   * @throws BusOverlapError when another range holds one of the addresses
   * @throws RangeError `ERR_OUT_OF_RANGE` when the range is empty or leaves the address space
   */
  add(base: number, length: number, device: BusDevice, firstOffset = 0): void {
    this.#checkRange(base, length)
    const holder = this.#ranges.find((range) => base < range.end && range.base < base + length)
    if (holder) throw new BusOverlapError(this.name, { base, length, device }, holder)
    const range: BusRange = {
      base,
      end: base + length,
      length,
      device,
      origin: base - firstOffset,
      width: device.width ?? 4,
    }
    this.#ranges.push(range)
    this.#ranges.sort((a, b) => a.base - b.base)
    this.onAdded(range)
  }

  /** Whether {@link Bus.add} would take the range. */
  isFree(base: number, length: number): boolean {
    if (base + length > this.#limit) return false
    return !this.#ranges.some((range) => base < range.end && range.base < base + length)
  }

  /**
   * Takes the range that starts at `base` off the bus and gives its device back.
   *
   * @throws RangeError `ERR_OUT_OF_RANGE` when no range starts there
   */
  remove(base: number): BusDevice {
    const index = this.#ranges.findIndex((range) => range.base === base)
    const range = this.#ranges[index]
    if (!range) throw outOfRange(`${this.name}: no device starts at 0x${base.toString(16)}`)
    this.#ranges.splice(index, 1)
    this.onRemoved(range)
    return range.device
  }

  /** Resets every device once, however many ranges it holds. */
  reset(): void {
    for (const device of new Set(this.#ranges.map((range) => range.device))) device.reset?.()
  }

  /** Reads 1, 2 or 4 bytes. The value is unsigned and never wider than `size`. */
  read(address: number, size: number): number {
    checkSize(size)
    const range = this.find(address)
    if (range === undefined || size > range.width || address + size > range.end) {
      return this.#readParts(address, size)
    }
    try {
      return truncate(range.device.read(address - range.origin, size), size)
    } catch (cause) {
      throw this.#failed(range, address, size, 'read', cause)
    }
  }

  /** Writes 1, 2 or 4 bytes. Bits of `value` beyond `size` are cut off. */
  write(address: number, size: number, value: number): void {
    checkSize(size)
    const range = this.find(address)
    if (range === undefined || size > range.width || address + size > range.end) {
      this.#writeParts(address, size, value)
      return
    }
    try {
      range.device.write(address - range.origin, size, truncate(value, size))
    } catch (cause) {
      throw this.#failed(range, address, size, 'write', cause)
    }
  }

  /** Reads 8 bytes: whole when the device has `read64`, else as two reads of 4, low half first. */
  read64(address: number): bigint {
    const range = this.find(address)
    if (range?.device.read64 === undefined || address + 8 > range.end) {
      const low = this.read(address, 4)
      return BigInt(low) | (BigInt(this.read(address + 4, 4)) << 32n)
    }
    try {
      return BigInt.asUintN(64, range.device.read64(address - range.origin))
    } catch (cause) {
      throw this.#failed(range, address, 8, 'read', cause)
    }
  }

  /** Writes 8 bytes: whole when the device has `write64`, else as two writes of 4, low half first. */
  write64(address: number, value: bigint): void {
    const range = this.find(address)
    if (range?.device.write64 === undefined || address + 8 > range.end) {
      this.write(address, 4, Number(BigInt.asUintN(32, value)))
      this.write(address + 4, 4, Number(BigInt.asUintN(32, value >> 32n)))
      return
    }
    try {
      range.device.write64(address - range.origin, BigInt.asUintN(64, value))
    } catch (cause) {
      throw this.#failed(range, address, 8, 'write', cause)
    }
  }

  /** The range that claims an address. */
  abstract find(address: number): BusRange | undefined
  /** Brings the subclass's index up to date after {@link Bus.add}. */
  protected abstract onAdded(range: BusRange): void
  /** Brings the subclass's index up to date after {@link Bus.remove}. */
  protected abstract onRemoved(range: BusRange): void

  #checkRange(base: number, length: number): void {
    const fits =
      Number.isSafeInteger(base) &&
      Number.isSafeInteger(length) &&
      base >= 0 &&
      length > 0 &&
      base + length <= this.#limit
    if (!fits) {
      throw outOfRange(
        `${this.name}: base ${base}, length ${length} is not a range below 0x${this.#limit.toString(16)}`,
      )
    }
  }

  #isUnclaimed(address: number, size: number): boolean {
    for (let at = address; at < address + size; at++) {
      if (this.find(at) !== undefined) return false
    }
    return true
  }

  #readParts(address: number, size: number): number {
    if (this.#isUnclaimed(address, size)) {
      const ones = truncate(-1, size)
      this.unclaimedReads++
      this.onUnclaimed?.(address, size, 'read', ones)
      return ones
    }
    const half = size / 2
    const low = this.read(address, half)
    return low + this.read(address + half, half) * 2 ** (8 * half)
  }

  #writeParts(address: number, size: number, value: number): void {
    if (this.#isUnclaimed(address, size)) {
      this.unclaimedWrites++
      this.onUnclaimed?.(address, size, 'write', truncate(value, size))
      return
    }
    const half = size / 2
    this.write(address, half, value)
    this.write(address + half, half, value >>> (8 * half))
  }

  #failed(
    range: BusRange,
    address: number,
    size: number,
    direction: AccessDirection,
    cause: unknown,
  ): unknown {
    // A device that forwards to another bus has an error that names the right device already.
    if (cause instanceof DeviceError) return cause
    return new DeviceError({ device: range.device.name, address, size, direction }, cause)
  }
}
