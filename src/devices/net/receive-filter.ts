// Which frames a guest wants (virtio 1.2 §5.1.6.5.1 to .3): it says so by the control queue.

import { isGroup, macNumber, vlanOf } from './ethernet.js'

/** Addresses a guest may list; with more, it gets all frames of that kind. */
const MAX_ADDRESSES = 64
const MODES = [
  'promiscuous',
  'allMulticast',
  'allUnicast',
  'noMulticast',
  'noUnicast',
  'noBroadcast',
]
const BROADCAST = 2 ** 48 - 1

/** A mode that a guest switches, in the order of the commands' numbers. */
export type ReceiveMode =
  | 'promiscuous'
  | 'allMulticast'
  | 'allUnicast'
  | 'noMulticast'
  | 'noUnicast'
  | 'noBroadcast'

/** The filter of one device. At first it lets everything pass. */
export class ReceiveFilter {
  readonly #modes = new Set<ReceiveMode>(['promiscuous'])
  readonly #vlans = new Set<number>()
  #unicast = new Set<number>()
  #multicast = new Set<number>()
  #filtersVlans = false
  #mac: number

  constructor(mac: Uint8Array) {
    this.#mac = macNumber(mac, 0)
  }

  /** The device's own address. */
  setMac(mac: Uint8Array): void {
    this.#mac = macNumber(mac, 0)
  }

  /** From now on only frames without a tag, and those of VLANs that were added, pass. */
  filterVlans(): void {
    this.#filtersVlans = true
  }

  /** Switches the mode of this number; false when there is none. */
  setMode(number: number, on: boolean): boolean {
    const mode = MODES[number] as ReceiveMode | undefined
    if (mode === undefined) return false
    if (on) this.#modes.add(mode)
    else this.#modes.delete(mode)
    return true
  }

  /**
   * Takes the lists of a guest: twice a count of 32 bits with as many addresses, unicast and multicast.
   * False, and nothing changes, when they are none.
   */
  setAddresses(lists: Uint8Array): boolean {
    const unicast = readAddresses(lists)
    const multicast = unicast && readAddresses(lists.subarray(unicast.end))
    if (!multicast || unicast.end + multicast.end !== lists.length) return false
    this.#unicast = unicast.addresses
    this.#multicast = multicast.addresses
    return true
  }

  /** Lets frames of a VLAN pass, or no longer; false for what is no VLAN. */
  setVlan(vlan: number, on: boolean): boolean {
    if (vlan > 4095) return false
    if (on) this.#vlans.add(vlan)
    else this.#vlans.delete(vlan)
    return true
  }

  /** Whether the guest wants the frame. */
  accepts(frame: Uint8Array): boolean {
    const modes = this.#modes
    if (modes.has('promiscuous')) return true
    if (this.#filtersVlans) {
      const vlan = vlanOf(frame)
      if (vlan !== undefined && !this.#vlans.has(vlan)) return false
    }
    const to = macNumber(frame, 0)
    if (to === BROADCAST) return !modes.has('noBroadcast')
    if (isGroup(frame)) {
      if (modes.has('noMulticast')) return false
      return modes.has('allMulticast') || full(this.#multicast) || this.#multicast.has(to)
    }
    if (modes.has('noUnicast')) return false
    return (
      modes.has('allUnicast') || to === this.#mac || full(this.#unicast) || this.#unicast.has(to)
    )
  }
}

const full = (addresses: ReadonlySet<number>): boolean => addresses.size > MAX_ADDRESSES

function readAddresses(list: Uint8Array): { addresses: Set<number>; end: number } | undefined {
  if (list.length < 4) return undefined
  const count = new DataView(list.buffer, list.byteOffset, 4).getUint32(0, true)
  const end = 4 + count * 6
  if (end > list.length) return undefined
  const addresses = new Set<number>()
  // One more than the limit says that there are too many.
  for (let at = 4; at < end && !full(addresses); at += 6) addresses.add(macNumber(list, at))
  return { addresses, end }
}
