// Captures of frames in the classic pcap format, with nanoseconds (draft-ietf-opsawg-pcap): what tcpdump and
// Wireshark read.

const MAGIC_NANOSECONDS = 0xa1b2_3c4d
const LINKTYPE_ETHERNET = 1
const SNAP_LENGTH = 262_144
const FILE_HEADER_SIZE = 24
const RECORD_HEADER_SIZE = 16

/** The bytes a capture begins with. */
export function pcapHeader(): Uint8Array {
  const header = new DataView(new ArrayBuffer(FILE_HEADER_SIZE))
  header.setUint32(0, MAGIC_NANOSECONDS, true)
  header.setUint16(4, 2, true)
  header.setUint16(6, 4, true)
  header.setUint32(16, SNAP_LENGTH, true)
  header.setUint32(20, LINKTYPE_ETHERNET, true)
  return new Uint8Array(header.buffer)
}

/** The record of one frame, which was seen `timeMs` milliseconds after 1970. */
export function pcapRecord(frame: Uint8Array, timeMs: number): Uint8Array {
  const captured = Math.min(frame.length, SNAP_LENGTH)
  const record = new Uint8Array(RECORD_HEADER_SIZE + captured)
  const header = new DataView(record.buffer)
  const seconds = Math.floor(timeMs / 1000)
  header.setUint32(0, seconds, true)
  header.setUint32(4, Math.floor((timeMs - seconds * 1000) * 1e6), true)
  header.setUint32(8, captured, true)
  header.setUint32(12, frame.length, true)
  record.set(frame.subarray(0, captured), RECORD_HEADER_SIZE)
  return record
}
