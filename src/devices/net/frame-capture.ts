// A capture of passing frames as a stream.

import { Readable } from 'node:stream'
import { pcapHeader, pcapRecord } from './pcap.js'

const DEFAULT_LIMIT = 4 * 2 ** 20

/**
 * A Readable of a pcap file: pipe it to a file, or to `tcpdump -r -`. Frames never wait for its reader:
 * beyond `limit` bytes that nobody has read, further ones are left out and counted.
 */
export class FrameCapture extends Readable {
  /** Frames that are missing in the capture, since nobody read. */
  dropped = 0
  readonly #limit: number

  /** @param limit bytes kept for the reader; 4 MiB unless said */
  constructor(limit = DEFAULT_LIMIT) {
    super()
    this.#limit = limit
    this.push(pcapHeader())
  }

  /** Adds a frame, seen now. */
  add(frame: Uint8Array): void {
    if (this.destroyed || this.readableEnded) return
    if (this.readableLength >= this.#limit) this.dropped++
    else this.push(pcapRecord(frame, performance.timeOrigin + performance.now()))
  }

  /** Ends the stream behind what was captured so far. */
  end(): void {
    if (!this.destroyed && !this.#ended) this.push(null)
    this.#ended = true
  }
  #ended = false

  /** For the stream machinery: frames are pushed as they come. */
  override _read(): void {}
}
