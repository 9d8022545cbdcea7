// Frames on a byte stream as QEMU's `-netdev stream` (and so passt) has them: the length in four bytes,
// big endian, then the frame.

import { MAX_FRAME_SIZE } from './ethernet.js'

const LENGTH_SIZE = 4

/** A frame with its length before it. */
export function encodeFrame(frame: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(LENGTH_SIZE + frame.length)
  new DataView(bytes.buffer).setUint32(0, frame.length)
  bytes.set(frame, LENGTH_SIZE)
  return bytes
}

/** Cuts a stream into frames again. It keeps no more than the part of one frame between two chunks. */
export class FrameDecoder {
  #rest: Uint8Array = new Uint8Array(0)

  /**
   * The frames that a chunk of the stream completes; their bytes may be the chunk's.
   *
   * @throws RangeError for a length that no frame has: the stream is none of frames, and what follows
   *   has no meaning
   */
  decode(chunk: Uint8Array): Uint8Array[] {
    let bytes = chunk
    if (this.#rest.length > 0) {
      bytes = new Uint8Array(this.#rest.length + chunk.length)
      bytes.set(this.#rest)
      bytes.set(chunk, this.#rest.length)
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
    const frames: Uint8Array[] = []
    let at = 0
    while (bytes.length - at >= LENGTH_SIZE) {
      const length = view.getUint32(at)
      if (length > MAX_FRAME_SIZE) throw new RangeError(`a frame of ${length} bytes in the stream`)
      if (bytes.length - at - LENGTH_SIZE < length) break
      const start = at + LENGTH_SIZE
      at = start + length
      frames.push(bytes.subarray(start, at))
    }
    this.#rest = new Uint8Array(bytes.subarray(at))
    return frames
  }
}
