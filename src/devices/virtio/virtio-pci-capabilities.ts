// The vendor-specific capabilities by which a driver finds virtio's structures (virtio 1.2 §4.1.4), and
// the one by which it reaches them without any BAR being mapped (§4.1.4.9).

import type { BusDevice } from '../bus-device.js'
import type { PciCapability } from '../pci/pci-capability.js'

const VENDOR_SPECIFIC = 0x09
const CFG_TYPE = { common: 1, notify: 2, isr: 3, device: 4, pciAccess: 5 } as const

/** Bytes of struct virtio_pci_cap, the first two of which are not the capability's own. */
const CAP_SIZE = 16
const HEADER = 2
// Offsets behind the header.
const AT = { length: 0, type: 1, bar: 2, offset: 6, size: 10, extra: 14 } as const

/** Where a structure is: bytes of a BAR. */
export interface StructurePlace {
  readonly bar: number
  readonly offset: number
  readonly length: number
}

/**
 * A capability that says where a structure is.
 *
 * @param multiplier of the notification structure: bytes between two queues
 */
export function virtioCapability(
  type: keyof typeof CFG_TYPE,
  { bar, offset, length }: StructurePlace,
  multiplier?: number,
): PciCapability {
  const size = CAP_SIZE + (multiplier === undefined ? 0 : 4)
  const view = new DataView(new ArrayBuffer(size - HEADER))
  view.setUint8(AT.length, size)
  view.setUint8(AT.type, CFG_TYPE[type])
  view.setUint8(AT.bar, bar)
  view.setUint32(AT.offset, offset, true)
  view.setUint32(AT.size, length, true)
  if (multiplier !== undefined) view.setUint32(AT.extra, multiplier, true)
  return { id: VENDOR_SPECIFIC, initial: new Uint8Array(view.buffer) }
}

/** Accesses to a BAR through configuration space, for firmware that has not mapped it. */
export class PciAccessCapability implements PciCapability {
  readonly id = VENDOR_SPECIFIC
  readonly initial: Uint8Array
  readonly writable = new Uint8Array(AT.extra + 4)
  readonly #structures: BusDevice
  readonly #size: number
  readonly #bar: number

  /** `structures` are in BAR `bar`, which has `size` bytes. */
  constructor(structures: BusDevice, size: number, bar: number) {
    this.#structures = structures
    this.#size = size
    this.#bar = bar
    const none = { bar, offset: 0, length: 0 }
    this.initial = Uint8Array.from(virtioCapability('pciAccess', none, 0).initial)
    this.writable[AT.bar] = 0xff
    this.writable.fill(0xff, AT.offset)
  }

  onRead(bytes: Uint8Array, from: number, to: number): void {
    const access = this.#access(bytes, from, to)
    if (access === undefined) return
    access.view.setUint32(AT.extra, this.#structures.read(access.offset, access.length), true)
  }

  onWrite(bytes: Uint8Array, from?: number, to?: number): void {
    if (from === undefined || to === undefined) return
    const access = this.#access(bytes, from, to)
    if (access === undefined) return
    const word = access.view.getUint32(AT.extra, true)
    const value = access.length === 4 ? word : word & (2 ** (8 * access.length) - 1)
    this.#structures.write(access.offset, access.length, value)
  }

  /** The access that bytes `from` to `to` of the capability ask for, if they touch its data. */
  #access(
    bytes: Uint8Array,
    from: number,
    to: number,
  ): { view: DataView; offset: number; length: number } | undefined {
    if (to <= AT.extra || from >= AT.extra + 4) return undefined
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const offset = view.getUint32(AT.offset, true)
    const length = view.getUint32(AT.size, true)
    const isAccess =
      view.getUint8(AT.bar) === this.#bar &&
      (length === 1 || length === 2 || length === 4) &&
      offset % length === 0 &&
      offset + length <= this.#size
    return isAccess ? { view, offset, length } : undefined
  }
}
