// Pages that a guest names one by one, as ranges of RAM.

const PAGE = 4096

/** Where a range of RAM is, in bytes. */
export interface PageRange {
  readonly gpa: number
  readonly size: number
}

/**
 * Joins numbers of pages of 4096 bytes to ranges, and leaves out what is not in `ram`.
 *
 * @param bytes 32 bits each, little endian
 */
export function pageRuns(bytes: Uint8Array, ram: readonly PageRange[]): PageRange[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const numbers = new Uint32Array(bytes.length >>> 2)
  for (let i = 0; i < numbers.length; i++) numbers[i] = view.getUint32(4 * i, true)
  numbers.sort()
  const runs: { gpa: number; size: number }[] = []
  for (const number of numbers) {
    const gpa = number * PAGE
    const last = runs.at(-1)
    if (last === undefined || gpa > last.gpa + last.size) runs.push({ gpa, size: PAGE })
    else if (gpa === last.gpa + last.size) last.size += PAGE
  }
  return runs.flatMap((run) => wholePages(run, ram))
}

/** The whole pages of a range that are RAM. */
export function wholePages({ gpa, size }: PageRange, ram: readonly PageRange[]): PageRange[] {
  const parts: PageRange[] = []
  for (const range of ram) {
    const from = Math.ceil(Math.max(gpa, range.gpa) / PAGE) * PAGE
    const to = Math.floor(Math.min(gpa + size, range.gpa + range.size) / PAGE) * PAGE
    if (from < to) parts.push({ gpa: from, size: to - from })
  }
  return parts
}
