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
