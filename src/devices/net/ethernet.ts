// What Ethernet frames look like, as far as devices and switches care.

import { outOfRange } from '../errors.js'

/** Bytes of a frame before its payload, without VLAN tag. */
export const ETHERNET_HEADER_SIZE = 14
/** Bytes of an IEEE 802.1Q tag, behind the two addresses. */
export const VLAN_TAG_SIZE = 4
/** The largest frame of a device with segmentation offloads: an IP packet of 65535 bytes. */
export const MAX_FRAME_SIZE = 65_535 + ETHERNET_HEADER_SIZE + VLAN_TAG_SIZE

const VLAN_TPID = 0x8100
const TAG_OFFSET = 12
const MAC = /^[\da-f]{2}(:[\da-f]{2}){5}$/i

/**
 * The six bytes of an address such as `52:54:00:12:34:56`.
 *
 * @throws `ERR_OUT_OF_RANGE` for other texts, and for group addresses, which no device can have
 */
export function parseMac(text: string): Uint8Array {
  const mac = MAC.test(text) ? Buffer.from(text.replaceAll(':', ''), 'hex') : undefined
  if (mac === undefined || isGroup(mac)) {
    throw outOfRange(`not the address of a network device, such as 52:54:00:12:34:56: ${text}`)
  }
  return new Uint8Array(mac)
}

/** The usual text of six bytes. */
export function formatMac(mac: Uint8Array): string {
  return Array.from(mac, (byte) => byte.toString(16).padStart(2, '0')).join(':')
}

/** A random address, locally administered (IEEE 802: bit 1 of the first byte), of one device. */
export function randomMac(): Uint8Array {
  const mac = crypto.getRandomValues(new Uint8Array(6))
  mac[0] = (mac[0]! & 0xfc) | 0x02
  return mac
}

/** Whether an address at `offset` is a group's: multicast or broadcast. */
export function isGroup(bytes: Uint8Array, offset = 0): boolean {
  return (bytes[offset]! & 1) !== 0
}

/** Six bytes as a number, for maps. */
export function macNumber(bytes: Uint8Array, offset: number): number {
  const high = (bytes[offset]! << 8) | bytes[offset + 1]!
  const low =
    ((bytes[offset + 2]! << 24) |
      (bytes[offset + 3]! << 16) |
      (bytes[offset + 4]! << 8) |
      bytes[offset + 5]!) >>>
    0
  return high * 2 ** 32 + low
}

/** The VLAN of a tagged frame; undefined without a tag. A tag for VLAN 0 carries only a priority. */
export function vlanOf(frame: Uint8Array): number | undefined {
  if (frame.length < ETHERNET_HEADER_SIZE + VLAN_TAG_SIZE) return undefined
  if (((frame[TAG_OFFSET]! << 8) | frame[TAG_OFFSET + 1]!) !== VLAN_TPID) return undefined
  return ((frame[TAG_OFFSET + 2]! & 0x0f) << 8) | frame[TAG_OFFSET + 3]!
}

/** The frame with a tag, the priority being 0. */
export function addVlanTag(frame: Uint8Array, vlan: number): Uint8Array {
  const tagged = new Uint8Array(frame.length + VLAN_TAG_SIZE)
  tagged.set(frame.subarray(0, TAG_OFFSET))
  tagged.set([VLAN_TPID >> 8, VLAN_TPID & 0xff, vlan >> 8, vlan & 0xff], TAG_OFFSET)
  tagged.set(frame.subarray(TAG_OFFSET), TAG_OFFSET + VLAN_TAG_SIZE)
  return tagged
}

/** The frame without its tag. */
export function removeVlanTag(frame: Uint8Array): Uint8Array {
  const plain = new Uint8Array(frame.length - VLAN_TAG_SIZE)
  plain.set(frame.subarray(0, TAG_OFFSET))
  plain.set(frame.subarray(TAG_OFFSET + VLAN_TAG_SIZE), TAG_OFFSET)
  return plain
}
