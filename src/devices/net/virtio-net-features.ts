// The numbers of virtio's network device (virtio 1.2 §5.1).

/** Feature bits (§5.1.3). GUEST: what the guest takes; HOST: what the device takes. */
export const VIRTIO_NET_F = {
  CSUM: 1n << 0n,
  GUEST_CSUM: 1n << 1n,
  CTRL_GUEST_OFFLOADS: 1n << 2n,
  MTU: 1n << 3n,
  MAC: 1n << 5n,
  GUEST_TSO4: 1n << 7n,
  GUEST_TSO6: 1n << 8n,
  GUEST_ECN: 1n << 9n,
  GUEST_UFO: 1n << 10n,
  HOST_TSO4: 1n << 11n,
  HOST_TSO6: 1n << 12n,
  HOST_ECN: 1n << 13n,
  HOST_UFO: 1n << 14n,
  MRG_RXBUF: 1n << 15n,
  STATUS: 1n << 16n,
  CTRL_VQ: 1n << 17n,
  CTRL_RX: 1n << 18n,
  CTRL_VLAN: 1n << 19n,
  CTRL_RX_EXTRA: 1n << 20n,
  GUEST_ANNOUNCE: 1n << 21n,
  MQ: 1n << 22n,
  CTRL_MAC_ADDR: 1n << 23n,
  GUEST_USO4: 1n << 54n,
  GUEST_USO6: 1n << 55n,
  HOST_USO: 1n << 56n,
} as const

/** What a guest may take and can switch while it runs (§5.1.6.5.6). */
export const GUEST_OFFLOADS =
  VIRTIO_NET_F.GUEST_CSUM |
  VIRTIO_NET_F.GUEST_TSO4 |
  VIRTIO_NET_F.GUEST_TSO6 |
  VIRTIO_NET_F.GUEST_ECN |
  VIRTIO_NET_F.GUEST_UFO |
  VIRTIO_NET_F.GUEST_USO4 |
  VIRTIO_NET_F.GUEST_USO6

/** The device's configuration (§5.1.4). */
export const VIRTIO_NET_CONFIG = {
  mac: 0,
  status: 6,
  maxVirtqueuePairs: 8,
  mtu: 10,
  size: 12,
} as const

/** Bits of the configuration's status. */
export const VIRTIO_NET_S = { LINK_UP: 1, ANNOUNCE: 2 } as const

/** Bytes before each frame: struct virtio_net_hdr_mrg_rxbuf (§5.1.6). */
export const VIRTIO_NET_HEADER_SIZE = 12
/** Where in it the number of buffers of a received frame is. */
export const VIRTIO_NET_HEADER_NUM_BUFFERS = 10

/** Classes of commands of the control queue (§5.1.6.5). */
export const VIRTIO_NET_CTRL = {
  RX: 0,
  MAC: 1,
  VLAN: 2,
  ANNOUNCE: 3,
  MQ: 4,
  GUEST_OFFLOADS: 5,
} as const

/** Answers of the control queue. */
export const VIRTIO_NET_OK = 0
/** Answers of the control queue. */
export const VIRTIO_NET_ERR = 1
