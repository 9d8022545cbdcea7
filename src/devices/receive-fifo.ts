// The receiver FIFO of a 16550: sixteen characters, each with the line errors it arrived with.

const DEPTH = 16

/**
 * Characters that wait for the guest. With the FIFO off (16450 mode) the depth is one, and a
 * character that comes too early replaces the one that waits; with it on the newcomer is lost
 * (PC16550D, "Line Status Register", bit 1).
 */
export class ReceiveFifo {
  readonly #bytes = new Uint8Array(DEPTH)
  readonly #errors = new Uint8Array(DEPTH)
  #head = 0
  #length = 0
  #depth = 1

  /** Characters that wait. */
  get length(): number {
    return this.#length
  }

  /** Whether another character fits. */
  get hasRoom(): boolean {
    return this.#length < this.#depth
  }

  /** Line-status error bits of the oldest character that have not been reported. */
  get frontErrors(): number {
    return this.#length === 0 ? 0 : this.#errors[this.#head]!
  }

  /** Whether any character carries an error. */
  get hasErrors(): boolean {
    for (let i = 0; i < this.#length; i++) {
      if (this.#errors[(this.#head + i) % DEPTH] !== 0) return true
    }
    return false
  }

  /** Turns the FIFO on or off and empties it. */
  configure(enabled: boolean): void {
    this.#depth = enabled ? DEPTH : 1
    this.clear()
  }

  /** Empties the FIFO. */
  clear(): void {
    this.#head = 0
    this.#length = 0
  }

  /** Appends a character; `false` means overrun. */
  push(byte: number, errors = 0): boolean {
    const fits = this.hasRoom
    if (!fits && this.#depth === DEPTH) return false
    if (fits) this.#length++
    const tail = (this.#head + this.#length - 1) % DEPTH
    this.#bytes[tail] = byte
    this.#errors[tail] = errors
    return fits
  }

  /** Removes the oldest character; 0 when there is none. */
  shift(): number {
    if (this.#length === 0) return 0
    const byte = this.#bytes[this.#head]!
    this.#head = (this.#head + 1) % DEPTH
    this.#length--
    return byte
  }

  /** Marks the oldest character's errors as reported. */
  clearFrontErrors(): void {
    if (this.#length > 0) this.#errors[this.#head] = 0
  }
}
