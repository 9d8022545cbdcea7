// Bytes that wait for a reader, in few arrays however small the pieces are that they came in.

const SMALLEST = 4096

/** A first-in, first-out queue of bytes. */
export class ByteQueue {
  /** Bytes that wait. */
  length = 0
  readonly #chunks: Uint8Array[] = []
  /** Bytes used of the last chunk. */
  #used = 0

  /** Puts bytes at the end. The array is the queue's from now on. */
  append(bytes: Uint8Array): void {
    this.length += bytes.length
    const last = this.#chunks.at(-1)
    const copied = last === undefined ? 0 : Math.min(last.length - this.#used, bytes.length)
    if (last !== undefined) {
      last.set(bytes.subarray(0, copied), this.#used)
      this.#used += copied
    }
    const rest = bytes.subarray(copied)
    if (rest.length === 0) return
    const chunk = rest.length >= SMALLEST ? rest : new Uint8Array(SMALLEST)
    if (chunk !== rest) chunk.set(rest)
    this.#chunks.push(chunk)
    this.#used = rest.length
  }

  /** Takes a chunk out; undefined when there is none. */
  shift(): Uint8Array | undefined {
    const chunk = this.#chunks.shift()
    if (chunk === undefined) return undefined
    const bytes = this.#chunks.length === 0 ? chunk.subarray(0, this.#used) : chunk
    this.length -= bytes.length
    return bytes
  }

  /** Takes everything out, as one array. */
  takeAll(): Uint8Array {
    const all = new Uint8Array(this.length)
    for (let done = 0, chunk = this.shift(); chunk !== undefined; chunk = this.shift()) {
      all.set(chunk, done)
      done += chunk.length
    }
    return all
  }

  /** Drops everything. */
  clear(): void {
    this.#chunks.length = 0
    this.length = 0
  }
}
