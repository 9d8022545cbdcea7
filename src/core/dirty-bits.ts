// Bitmaps of dirty pages: joining their bits to ranges. Most words are all zeros or all ones.

/** Called with the first page of a range and the page behind its last. */
export type PageRange = (first: number, end: number) => void

/** Sets a page's bit. */
export function setBit(words: Int32Array, page: number): void {
  words[page >>> 5]! |= 1 << (page & 31)
}

/** How many zeros are below the lowest bit of a word that has one. */
const trailingZeros = (word: number) => 31 - Math.clz32(word & -word)

/** Turns bitmaps into ranges, one part of a bitmap after the other: a range may go on in the next. */
export class RangeJoiner {
  readonly #each: PageRange
  #open = -1
  /** Pages in the ranges so far. */
  pages = 0

  constructor(each: PageRange) {
    this.#each = each
  }

  /**
   * Hands out the ranges of the words from `from` up to `to`, and clears each before it does. One that
   * reaches the end waits for more, or for {@link end}.
   */
  take(words: Int32Array, from: number, to: number): void {
    for (let i = from; i < to; i++) {
      const word = words[i]!
      if (word === 0) {
        if (this.#open >= 0) this.#close(i * 32)
        else i = skipZeros(words, i, to)
        continue
      }
      if (word !== -1) {
        this.#mixed(words, i)
        continue
      }
      words[i] = 0
      if (this.#open < 0) this.#open = i * 32
    }
  }

  /** Hands out the range that is still open; `page` is behind the last. */
  end(page: number): void {
    if (this.#open >= 0) this.#close(page)
  }

  #close(end: number): void {
    const first = this.#open
    this.#open = -1
    this.pages += end - first
    this.#each(first, end)
  }

  #mixed(words: Int32Array, at: number): void {
    const base = at * 32
    let rest = words[at]!
    if (this.#open >= 0) {
      const ones = trailingZeros(~rest)
      rest &= -1 << ones
      words[at] = rest
      this.#close(base + ones)
    }
    while (rest !== 0) {
      const first = trailingZeros(rest)
      const behind = ~(rest | ((1 << first) - 1))
      const end = behind === 0 ? 32 : trailingZeros(behind)
      rest = end === 32 ? 0 : rest & (-1 << end)
      words[at] = rest
      this.#open = base + first
      if (end < 32) this.#close(base + end)
    }
  }
}

/** The last of the zeros from `from` on, eight words at a time. */
function skipZeros(words: Int32Array, from: number, to: number): number {
  let i = from + 1
  while (i + 8 <= to) {
    const low = words[i]! | words[i + 1]! | words[i + 2]! | words[i + 3]!
    const high = words[i + 4]! | words[i + 5]! | words[i + 6]! | words[i + 7]!
    if ((low | high) !== 0) break
    i += 8
  }
  return i - 1
}
