// The control queue of virtio's network device: one command in, one byte of answer (virtio 1.2 §5.1.6.5).

import { isGroup } from './ethernet.js'
import type { ReceiveFilter } from './receive-filter.js'
import {
  GUEST_OFFLOADS,
  VIRTIO_NET_CTRL,
  VIRTIO_NET_ERR,
  VIRTIO_NET_F,
  VIRTIO_NET_OK,
} from './virtio-net-features.js'

/** What commands change. */
export interface NetControls {
  /** Which frames the guest gets. */
  readonly filter: ReceiveFilter
  /** What the driver has accepted. */
  readonly features: bigint
  /** The device has this address now. */
  setMac(mac: Uint8Array): void
  /** The guest has announced itself. */
  announced(): void
  /** Uses the first `pairs` queue pairs; false when there are not so many. */
  setQueuePairs(pairs: number): boolean
  /** Of the offloads that the driver has accepted, uses these; false when they cannot be. */
  setGuestOffloads(offloads: bigint): boolean
}

/** What a command consists of: a class, a number in it, and data. */
type Command = (controls: NetControls, number: number, data: Uint8Array) => boolean

const COMMANDS: Readonly<Record<number, readonly [feature: bigint, command: Command]>> = {
  [VIRTIO_NET_CTRL.RX]: [VIRTIO_NET_F.CTRL_RX, setReceiveMode],
  [VIRTIO_NET_CTRL.MAC]: [VIRTIO_NET_F.CTRL_RX | VIRTIO_NET_F.CTRL_MAC_ADDR, setAddresses],
  [VIRTIO_NET_CTRL.VLAN]: [VIRTIO_NET_F.CTRL_VLAN, setVlan],
  [VIRTIO_NET_CTRL.ANNOUNCE]: [VIRTIO_NET_F.GUEST_ANNOUNCE, acknowledgeAnnounce],
  [VIRTIO_NET_CTRL.MQ]: [VIRTIO_NET_F.MQ, setQueuePairs],
  [VIRTIO_NET_CTRL.GUEST_OFFLOADS]: [VIRTIO_NET_F.CTRL_GUEST_OFFLOADS, setOffloads],
}

/** The longest command: two lists of addresses, of which a guest has some hundreds at most. */
export const MAX_CONTROL_COMMAND = 64 * 1024

/** Performs a command and gives the answer. */
export function controlCommand(controls: NetControls, bytes: Uint8Array): number {
  const [kind = -1, number = -1] = bytes
  const known = COMMANDS[kind]
  if (known === undefined || (known[0] & controls.features) === 0n) return VIRTIO_NET_ERR
  return known[1](controls, number, bytes.subarray(2)) ? VIRTIO_NET_OK : VIRTIO_NET_ERR
}

function setReceiveMode({ filter, features }: NetControls, number: number, data: Uint8Array) {
  const isExtra = number > 1
  if (data.length !== 1 || (isExtra && !(features & VIRTIO_NET_F.CTRL_RX_EXTRA))) return false
  return filter.setMode(number, data[0] !== 0)
}

function setAddresses(controls: NetControls, number: number, data: Uint8Array) {
  if (number === 0) return controls.filter.setAddresses(data)
  if (number !== 1 || data.length !== 6 || isGroup(data)) return false
  controls.filter.setMac(data)
  controls.setMac(data)
  return true
}

function setVlan({ filter }: NetControls, number: number, data: Uint8Array) {
  return number <= 1 && data.length === 2 && filter.setVlan(u16(data), number === 0)
}

function acknowledgeAnnounce(controls: NetControls, number: number, data: Uint8Array) {
  if (number !== 0 || data.length !== 0) return false
  controls.announced()
  return true
}

function setQueuePairs(controls: NetControls, number: number, data: Uint8Array) {
  return number === 0 && data.length === 2 && u16(data) > 0 && controls.setQueuePairs(u16(data))
}

function setOffloads(controls: NetControls, number: number, data: Uint8Array) {
  if (number !== 0 || data.length !== 8) return false
  const offloads = new DataView(data.buffer, data.byteOffset, 8).getBigUint64(0, true)
  // Only what was negotiated can be switched (§5.1.6.5.6.1).
  if ((offloads & ~(controls.features & GUEST_OFFLOADS)) !== 0n) return false
  return controls.setGuestOffloads(offloads)
}

const u16 = (data: Uint8Array): number => data[0]! | (data[1]! << 8)
