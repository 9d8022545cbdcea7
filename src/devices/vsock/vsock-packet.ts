// Packets of the socket device (virtio 1.2, 5.10.6).

/** Bytes of a packet's header. */
export const VSOCK_HEADER_SIZE = 44

/** What a packet is. */
export const VSOCK_OP = {
  REQUEST: 1,
  RESPONSE: 2,
  RST: 3,
  SHUTDOWN: 4,
  RW: 5,
  CREDIT_UPDATE: 6,
  CREDIT_REQUEST: 7,
} as const

/** Kinds of sockets. */
export const VSOCK_TYPE = { STREAM: 1, SEQPACKET: 2 } as const

/** Flags of {@link VSOCK_OP}.SHUTDOWN: what the sender of the packet will do no more. */
export const VSOCK_SHUTDOWN = { RECEIVE: 1, SEND: 2 } as const

/** Flags of {@link VSOCK_OP}.RW of a sequenced socket: the packet ends a message, or a record. */
export const VSOCK_SEQ = { EOM: 1, EOR: 2 } as const

/** A packet's header. */
export interface VsockHeader {
  readonly srcCid: bigint
  readonly dstCid: bigint
  readonly srcPort: number
  readonly dstPort: number
  /** Bytes of payload behind the header. */
  readonly length: number
  readonly type: number
  readonly op: number
  readonly flags: number
  /** How many bytes the sender of the packet can receive and keep in all. */
  readonly bufAlloc: number
  /** How many it has received and handed on, modulo 2^32. */
  readonly fwdCnt: number
}

/** Reads a header of {@link VSOCK_HEADER_SIZE} bytes. */
export function decodeVsock(bytes: Uint8Array): VsockHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  return {
    srcCid: view.getBigUint64(0, true),
    dstCid: view.getBigUint64(8, true),
    srcPort: view.getUint32(16, true),
    dstPort: view.getUint32(20, true),
    length: view.getUint32(24, true),
    type: view.getUint16(28, true),
    op: view.getUint16(30, true),
    flags: view.getUint32(32, true),
    bufAlloc: view.getUint32(36, true),
    fwdCnt: view.getUint32(40, true),
  }
}

/** Writes a header. */
export function encodeVsock(header: VsockHeader): Uint8Array {
  const bytes = new Uint8Array(VSOCK_HEADER_SIZE)
  const view = new DataView(bytes.buffer)
  view.setBigUint64(0, header.srcCid, true)
  view.setBigUint64(8, header.dstCid, true)
  view.setUint32(16, header.srcPort, true)
  view.setUint32(20, header.dstPort, true)
  view.setUint32(24, header.length, true)
  view.setUint16(28, header.type, true)
  view.setUint16(30, header.op, true)
  view.setUint32(32, header.flags, true)
  view.setUint32(36, header.bufAlloc, true)
  view.setUint32(40, header.fwdCnt, true)
  return bytes
}
