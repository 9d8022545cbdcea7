// Bitmaps of dirty pages: joining their bits to ranges. Most words are all zeros or all ones.

const PAGE = 4096
/** What is compared with zeros at once. */
const BLOCK = 1024
const ZEROS = Buffer.alloc(BLOCK * 4)

/** Called with each range of pages, in bytes. */
export type EachRange = (gpa: number, size: number) => void

/** Sets a page's bit. */
export function setBit(words: Int32Array, page: number): void {
  words[page >>> 5]! |= 1 << (page & 31)
}

/** How many zeros are below the lowest bit of a word that has one. */
const trailingZeros = (word: number) => 31 - Math.clz32(word & -word)

/** Whether no bit of the words from `from` up to `to` is set. */
export function isZero(words: Int32Array, from: number, to: number): boolean {
  for (let at = from; at < to; at += BLOCK) {
    const length = (Math.min(at + BLOCK, to) - at) * 4
    const block = new Uint8Array(words.buffer, words.byteOffset + at * 4, length)
    if (ZEROS.compare(block, 0, length, 0, length) !== 0) return false
  }
  return true
}

/** Turns bitmaps into ranges, one part of a bitmap after the other: a range may go on in the next. */
export class RangeJoiner {
  /** Pages in the ranges so far. */
  pages = 0
  readonly #gpa: number
  readonly #each: EachRange
  #open = -1

  /** @param gpa The address of the bitmap's first page. */
  constructor(gpa: number, each: EachRange) {
    this.#gpa = gpa
    this.#each = each
  }

  /**
   * Hands out the ranges of the words from `from` up to `to`, and clears each before it does. One that
   * reaches the end waits for more, or for {@link end}.
   */
  take(words: Int32Array, from: number, to: number): void {
    for (let at = from; at < to; at += BLOCK) {
      const end = Math.min(at + BLOCK, to)
      if (this.#open >= 0 || !isZero(words, at, end)) this.#block(words, at, end)
    }
  }

  #block(words: Int32Array, from: number, to: number): void {
    for (let i = from; i < to; i++) {
      const word = words[i]!
      if (word === 0) {
        if (this.#open >= 0) this.end(i * 32)
      } else if (word === -1) {
        words[i] = 0
        if (this.#open < 0) this.#open = i * 32
      } else {
        this.#mixed(words, i)
      }
    }
  }

  /** Hands out the range that is still open; `page` is behind the last. */
  end(page: number): void {
    const first = this.#open
    if (first < 0) return
    this.#open = -1
    this.pages += page - first
    this.#each(this.#gpa + first * PAGE, (page - first) * PAGE)
  }

  #mixed(words: Int32Array, at: number): void {
    const gpa = this.#gpa + at * 32 * PAGE
    const each = this.#each
    let rest = words[at]!
    let pages = 0
    words[at] = 0
    try {
      if (this.#open >= 0) {
        const ones = trailingZeros(~rest)
        rest &= -1 << ones
        this.end(at * 32 + ones)
      }
      while (rest !== 0) {
        const lowest = rest & -rest
        const first = 31 - Math.clz32(lowest)
        // The sum carries through the lowest run of ones, and out of a word that ends with it.
        const others = rest & (rest + lowest)
        const run = rest ^ others
        rest = others
        if (run < 0) {
          this.#open = at * 32 + first
          break
        }
        const count = 32 - Math.clz32(run) - first
        pages += count
        each(gpa + first * PAGE, count * PAGE)
      }
    } catch (error) {
      words[at]! |= rest
      throw error
    }
    this.pages += pages
  }
}
