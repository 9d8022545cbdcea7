// The errors of the device layer. They carry a `code` as Node's own errors do, so a caller can tell
// them apart without comparing classes across copies of the package.

import type { BusDevice } from './bus-device.js'

/** Which way an access went, seen from the guest. */
export type AccessDirection = 'read' | 'write'

/** What {@link DeviceError} knows about the access that failed. */
export interface DeviceAccess {
  /** `name` of the device. */
  readonly device: string
  /** Port or guest-physical address of the access. */
  readonly address: number
  /** Bytes. */
  readonly size: number
  readonly direction: AccessDirection
}

const hex = (value: number): string => `0x${value.toString(16)}`

/**
 * A device threw while it served a guest's access. `cause` is what it threw; the other fields say
 * which access it was. `code` is `ERR_KVM_DEVICE`.
 */
export class DeviceError extends Error implements DeviceAccess {
  override readonly name = 'DeviceError'
  readonly code = 'ERR_KVM_DEVICE'
  readonly device: string
  readonly address: number
  readonly size: number
  readonly direction: AccessDirection

  constructor(access: DeviceAccess, cause: unknown) {
    const { device, address, size, direction } = access
    const reason = cause instanceof Error ? cause.message : String(cause)
    super(`device ${device}: ${direction} of ${size} bytes at ${hex(address)} failed: ${reason}`, {
      cause,
    })
    this.device = device
    this.address = address
    this.size = size
    this.direction = direction
  }
}

/** One device's place on a bus. */
export interface BusPlace {
  /** First address. */
  readonly base: number
  /** Bytes (or ports). */
  readonly length: number
  readonly device: BusDevice
}

const place = ({ base, length, device }: BusPlace): string =>
  `${device.name} (${hex(base)}-${hex(base + length - 1)})`

/** Two devices claim the same address. `code` is `ERR_KVM_BUS_OVERLAP`. */
export class BusOverlapError extends Error {
  override readonly name = 'BusOverlapError'
  readonly code = 'ERR_KVM_BUS_OVERLAP'
  /** `name` of the device that was refused. */
  readonly device: string
  /** `name` of the device that holds the addresses already. */
  readonly holder: string

  constructor(bus: string, refused: BusPlace, holder: BusPlace) {
    super(`${bus}: ${place(refused)} overlaps ${place(holder)}`)
    this.device = refused.device.name
    this.holder = holder.device.name
  }
}

/** A device was to come while the guest runs, which nobody would tell it. `code` is `ERR_KVM_NO_HOTPLUG`. */
export class HotPlugError extends Error {
  override readonly name = 'HotPlugError'
  readonly code = 'ERR_KVM_NO_HOTPLUG'

  constructor(device: string) {
    super(`${device}: devices are added before the machine runs: PCI slots cannot be hot-plugged`)
  }
}

/** A `RangeError` with Node's code `ERR_OUT_OF_RANGE`: the caller's mistake, not the guest's. */
export function outOfRange(message: string): RangeError {
  return Object.assign(new RangeError(message), { code: 'ERR_OUT_OF_RANGE' })
}
