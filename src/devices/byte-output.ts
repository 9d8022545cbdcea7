// Bytes from the guest to a Node stream. The guest writes one byte an exit and must never wait for
// the host; the stream's reader wants few large chunks. So bytes gather here for one turn of the
// event loop, and when nobody reads, the oldest go.

import { Readable } from 'node:stream'

const LARGEST_CHUNK = 4096

/** Options of {@link ByteOutput}. */
export interface ByteOutputOptions {
  /**
   * Bytes kept, beside the stream's own buffer, while nobody reads; 1 MiB when absent. Beyond it
   * the oldest are dropped, a chunk at a time: the end of a log tells more than its start.
   */
  readonly limit?: number
}

/**
 * A `Readable` of the bytes a guest wrote. Chunks hold everything written since the last turn of
 * the event loop. A program that runs a vCPU synchronously for long gets nothing until it yields,
 * and should take bytes through the device's `onByte` instead.
 */
export class ByteOutput extends Readable {
  /** Bytes dropped so far because nobody read them in time. */
  dropped = 0
  readonly #limit: number
  readonly #chunkSize: number
  #full: Uint8Array[] = []
  #chunk: Uint8Array
  #used = 0
  #wanted = false
  #scheduled = false
  #finished = false

  constructor(options: ByteOutputOptions = {}) {
    super()
    this.#limit = Math.max(4, options.limit ?? 1024 * 1024)
    this.#chunkSize = Math.min(LARGEST_CHUNK, this.#limit >>> 2)
    this.#chunk = new Uint8Array(this.#chunkSize)
  }

  /** Takes one byte from the guest; never blocks and never fails, even on a destroyed stream. */
  writeByte(byte: number): void {
    if (this.destroyed || this.#finished) return
    if (this.#used === this.#chunkSize) this.#seal()
    this.#chunk[this.#used++] = byte
    if (this.#wanted) this.#schedule()
  }

  /** Ends the stream once everything written has been read. Later bytes are ignored. */
  finish(): void {
    if (this.#finished) return
    this.#finished = true
    if (this.#wanted || this.#isEmpty) this.#flush()
  }

  /** For the stream machinery. */
  override _read(): void {
    this.#wanted = true
    if (!this.#isEmpty || this.#finished) this.#flush()
  }

  /** For the stream machinery. */
  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#full = []
    this.#used = 0
    callback(error)
  }

  get #isEmpty(): boolean {
    return this.#used === 0 && this.#full.length === 0
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(this.#onImmediate)
  }

  readonly #onImmediate = (): void => {
    this.#scheduled = false
    if (!this.destroyed) this.#flush()
  }

  #seal(): void {
    this.#full.push(this.#chunk)
    while ((this.#full.length + 1) * this.#chunkSize > this.#limit) {
      this.dropped += this.#full.shift()!.length
    }
    this.#chunk = new Uint8Array(this.#chunkSize)
    this.#used = 0
  }

  #flush(): void {
    while (this.#wanted && !this.#isEmpty) this.#wanted = this.push(this.#take())
    if (this.#finished && this.#isEmpty) this.push(null)
  }

  #take(): Uint8Array {
    const full = this.#full.shift()
    if (full) return full
    const rest = this.#chunk.slice(0, this.#used)
    this.#used = 0
    return rest
  }
}
