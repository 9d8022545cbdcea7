// Numbers of virtio 1.2: ids, status and feature bits that are not one device's own.

/** Device types (virtio 1.2 §5). */
export const VIRTIO_ID = {
  net: 1,
  block: 2,
  console: 3,
  rng: 4,
  balloon: 5,
  vsock: 19,
} as const

/** Bits of the device status (virtio 1.2 §2.1). */
export const VIRTIO_STATUS = {
  acknowledge: 1,
  driver: 2,
  driverOk: 4,
  featuresOk: 8,
  needsReset: 64,
  failed: 128,
} as const

/** Feature bits of queues and negotiation (virtio 1.2 §6), as masks. The transport offers them. */
export const VIRTIO_F = {
  indirectDesc: 1n << 28n,
  eventIdx: 1n << 29n,
  version1: 1n << 32n,
  ringPacked: 1n << 34n,
  inOrder: 1n << 35n,
} as const
