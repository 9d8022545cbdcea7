// Ethernet frames for tests.

/** The address of the test's machine number `n`. */
export const macOf = (n: number): Uint8Array => new Uint8Array([0x52, 0x54, 0, 0, 0, n])

const BROADCAST = new Uint8Array(6).fill(0xff)

/** A frame between two machines; its payload counts up. */
export function frameOf(options: {
  to: number | 'broadcast'
  from: number
  vlan?: number
  /** Without the tag. */
  size?: number
}): Uint8Array {
  const { to, from, vlan, size = 60 } = options
  const tag = vlan === undefined ? [] : [0x81, 0, vlan >> 8, vlan & 0xff]
  const payload = Array.from({ length: size - 14 }, (_, i) => i & 0xff)
  return new Uint8Array([
    ...(to === 'broadcast' ? BROADCAST : macOf(to)),
    ...macOf(from),
    ...tag,
    // For local experiments (IEEE 802).
    ...[0x88, 0xb5],
    ...payload,
  ])
}

/** One end of a datagram. */
export interface UdpEnd {
  readonly mac: Uint8Array
  /** Such as `10.0.0.1`. */
  readonly ip: string
  readonly port: number
}

const addressOf = (ip: string) => ip.split('.').map(Number)

/** A frame with a datagram of UDP over IPv4. */
export function udpFrame(
  { source, target }: { source: UdpEnd; target: UdpEnd },
  payload: Uint8Array,
  checksum: 'none' | 'partial' = 'none',
): Uint8Array {
  const frame = new Uint8Array(42 + payload.length)
  const view = new DataView(frame.buffer)
  frame.set(target.mac)
  frame.set(source.mac, 6)
  view.setUint16(12, 0x0800)
  view.setUint16(14, 0x4500)
  view.setUint16(16, 28 + payload.length)
  view.setUint16(22, 0x4011)
  frame.set(addressOf(source.ip), 26)
  frame.set(addressOf(target.ip), 30)
  view.setUint16(24, ~sum(frame.subarray(14, 34)) & 0xffff)
  view.setUint16(34, source.port)
  view.setUint16(36, target.port)
  view.setUint16(38, 8 + payload.length)
  // What a driver leaves to its device: the sum of the pseudo header alone.
  if (checksum === 'partial') {
    const pseudo = new Uint8Array(12)
    pseudo.set(frame.subarray(26, 34))
    pseudo[9] = 17
    new DataView(pseudo.buffer).setUint16(10, 8 + payload.length)
    view.setUint16(40, sum(pseudo))
  }
  frame.set(payload, 42)
  return frame
}

/** A question who has an address. */
export function arpRequest(source: UdpEnd, ip: string): Uint8Array {
  const frame = new Uint8Array(42)
  frame.fill(0xff, 0, 6)
  frame.set(source.mac, 6)
  frame.set([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1], 12)
  frame.set(source.mac, 22)
  frame.set(addressOf(source.ip), 28)
  frame.set(addressOf(ip), 38)
  return frame
}

/** The Internet checksum's sum, not inverted. */
function sum(bytes: Uint8Array): number {
  let total = 0
  for (let i = 0; i < bytes.length; i++) total += i % 2 ? bytes[i]! : bytes[i]! << 8
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16)
  return total
}

/** The payload of a UDP datagram in an Ethernet frame; undefined for other frames. */
export function udpPayload(frame: Uint8Array): Uint8Array | undefined {
  const isUdp = frame[12] === 0x08 && frame[13] === 0 && frame[23] === 17
  return isUdp ? frame.subarray(42) : undefined
}
