// Bitmaps of dirty pages, and the ranges that their bits make up.

import { binding } from '../../binding.js'

const PAGE = 4096
/** Ranges that are taken from a bitmap at a time. */
const RANGES = 1024

/** Called with each range of pages, in bytes. */
export type EachRange = (gpa: number, size: number) => void

/** Bytes of a bitmap of so many pages: whole words of 64 bits, as the kernel counts them. */
export const bitmapSize = (pages: number) => Math.ceil(pages / 64) * 8

/** Such a bitmap. */
export const bitmapOf = (pages: number) =>
  // Not in the heap of JavaScript, where nothing promises the alignment that 64-bit words need.
  new Int32Array(new ArrayBuffer(bitmapSize(pages)))

/** Sets a page's bit. */
export function setBit(words: Int32Array, page: number): void {
  words[page >>> 5]! |= 1 << (page & 31)
}

/** Sets the bits of the first so many pages, and no others. */
export function setFirst(words: Int32Array, pages: number): void {
  words.fill(0)
  words.fill(-1, 0, pages >>> 5)
  for (let page = pages - (pages % 32); page < pages; page++) setBit(words, page)
}

/** Hands out the ranges of bitmaps. */
export class RangeTaker {
  /** Where the native side puts ranges: pairs of first page and count. */
  readonly ranges = new Uint32Array(new ArrayBuffer(RANGES * 8))

  /**
   * Calls `each` with the ranges of a bitmap whose first page is at `gpa`, upwards, and clears their
   * bits before. When it throws, the bits of what it was not called for are set again. Not to be
   * called by `each`.
   *
   * @param found How many of them are in `ranges` already, the first ones.
   * @returns How many pages they have.
   */
  take(
    words: Int32Array,
    gpa: number,
    each: EachRange,
    found = binding().takePageRanges(words, 0, this.ranges),
  ): number {
    const ranges = this.ranges
    let pages = 0
    for (let count = found; ; ) {
      pages += handOut(ranges, count, words, gpa, each)
      if (count < RANGES) return pages
      const page = ranges[RANGES * 2 - 2]! + ranges[RANGES * 2 - 1]!
      count = binding().takePageRanges(words, page, ranges)
    }
  }
}

function handOut(
  ranges: Uint32Array,
  count: number,
  words: Int32Array,
  gpa: number,
  each: EachRange,
): number {
  let pages = 0
  let i = 0
  try {
    while (i < count * 2) {
      const first = ranges[i]!
      const length = ranges[i + 1]!
      i += 2
      pages += length
      each(gpa + first * PAGE, length * PAGE)
    }
  } finally {
    for (; i < count * 2; i += 2) {
      for (let page = 0; page < ranges[i + 1]!; page++) setBit(words, ranges[i]! + page)
    }
  }
  return pages
}
