// Numbers of the block device (virtio 1.2 §5.2).

/** Bytes of a sector, the unit of every number of a request and of the capacity. */
export const SECTOR_SIZE = 512

/** Feature bits (virtio 1.2 §5.2.3), as masks. */
export const VIRTIO_BLK_F = {
  segMax: 1n << 2n,
  readOnly: 1n << 5n,
  blockSize: 1n << 6n,
  flush: 1n << 9n,
  topology: 1n << 10n,
  configWce: 1n << 11n,
  multiQueue: 1n << 12n,
  discard: 1n << 13n,
  writeZeroes: 1n << 14n,
} as const

/** Types of requests (virtio 1.2 §5.2.6). */
export const VIRTIO_BLK_T = {
  in: 0,
  out: 1,
  flush: 4,
  getId: 8,
  discard: 11,
  writeZeroes: 13,
} as const

/** What the last byte of a request says (virtio 1.2 §5.2.6). */
export const VIRTIO_BLK_S = { ok: 0, ioError: 1, unsupported: 2 } as const

/** Where fields of the configuration space are (virtio 1.2 §5.2.4). */
export const VIRTIO_BLK_CONFIG = {
  capacity: 0,
  segMax: 12,
  blockSize: 20,
  physicalBlockExp: 24,
  alignmentOffset: 25,
  minIoSize: 26,
  optIoSize: 28,
  writeback: 32,
  numQueues: 34,
  maxDiscardSectors: 36,
  maxDiscardSeg: 40,
  discardSectorAlignment: 44,
  maxWriteZeroesSectors: 48,
  maxWriteZeroesSeg: 52,
  writeZeroesMayUnmap: 56,
  size: 60,
} as const

/** Bytes in front of every request: type, reserved, sector. */
export const HEADER_SIZE = 16
/** Bytes of a range to discard or to write zeros to: sector, sectors, flags. */
export const RANGE_SIZE = 16
/** Bytes of the answer to GET_ID. */
export const ID_SIZE = 20
/** Flag of a range of zeros: the device may give its blocks back. */
export const RANGE_UNMAP = 1
