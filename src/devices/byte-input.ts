// Bytes from a Node stream to the guest. A device pulls them one by one as its FIFO gets room; a
// chunk counts as written when its last byte has been pulled, which is the stream's back pressure.

import { Writable } from 'node:stream'

const NOTHING = new Uint8Array(0)

/** A `Writable` whose bytes a device pulls. */
export class ByteInput extends Writable {
  readonly #onAvailable: () => void
  #chunk: Uint8Array = NOTHING
  #position = 0
  #written: ((error?: Error | null) => void) | undefined
  #discarding = false

  /** @param onAvailable called when bytes have come that {@link ByteInput.next} will give */
  constructor(onAvailable: () => void) {
    super()
    this.#onAvailable = onAvailable
  }

  /**
   * The next byte, or -1 when there is none. The stream learns about a finished chunk on the next
   * tick, so that its listeners do not run inside the guest's access.
   */
  next(): number {
    if (this.#position >= this.#chunk.length) return -1
    const byte = this.#chunk[this.#position++]!
    if (this.#position === this.#chunk.length) this.#release()
    return byte
  }

  /** Drops what waits and swallows what comes: nobody is at the other end any more. */
  discard(): void {
    this.#discarding = true
    this.#release()
  }

  /** For the stream machinery. */
  override _write(
    chunk: Uint8Array,
    _encoding: BufferEncoding,
    callback: (error?: Error | null) => void,
  ): void {
    if (this.#discarding || chunk.length === 0) {
      callback()
      return
    }
    this.#chunk = chunk
    this.#position = 0
    this.#written = callback
    this.#onAvailable()
  }

  /** For the stream machinery. */
  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.discard()
    callback(error)
  }

  #release(): void {
    const written = this.#written
    this.#written = undefined
    this.#chunk = NOTHING
    this.#position = 0
    if (written) process.nextTick(written)
  }
}
