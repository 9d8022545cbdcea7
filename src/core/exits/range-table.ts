// Which of several address ranges an access falls into.

import { KvmError } from '../errors.js'

interface Entry<T> {
  readonly start: number
  readonly end: number
  readonly value: T
}

/** Ranges that do not overlap, each with a value. Looking one up costs a binary search. */
export class RangeTable<T> {
  // Replaced as a whole, so that a handler may change the table while it is being looked at.
  #entries: readonly Entry<T>[] = []

  /**
   * Adds `[start, start + length)`.
   *
   * @returns What takes it out again.
   * @throws KvmError `ERR_KVM_RANGE_TAKEN` when it overlaps another range.
   */
  add(start: number, length: number, value: T): () => void {
    const entry = { start, end: start + length, value }
    const at = this.#after(start)
    const before = this.#entries[at - 1]
    const next = this.#entries[at]
    if ((before && before.end > start) || (next && next.start < entry.end)) {
      const range = `[0x${start.toString(16)}, 0x${entry.end.toString(16)})`
      throw new KvmError('ERR_KVM_RANGE_TAKEN', undefined, `${range} overlaps another range`)
    }
    this.#entries = [...this.#entries.slice(0, at), entry, ...this.#entries.slice(at)]
    return () => {
      this.#entries = this.#entries.filter((other) => other !== entry)
    }
  }

  /** The value of the range that holds all `size` bytes from `start`. */
  find(start: number, size: number): T | undefined {
    const entry = this.#entries[this.#after(start) - 1]
    return entry !== undefined && start + size <= entry.end ? entry.value : undefined
  }

  /** The index of the first entry that begins behind `address`. */
  #after(address: number): number {
    let low = 0
    let high = this.#entries.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#entries[middle]!.start <= address) low = middle + 1
      else high = middle
    }
    return low
  }
}
