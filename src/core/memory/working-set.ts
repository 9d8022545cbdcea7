// Which pages a guest has used lately, from what was seen interval by interval.

import type { MemoryRange } from '../memory.js'
import { integer, list, outOfRange } from '../validate.js'

const PAGE = 4096

/**
 * Keeps for each page the last interval in which it was used. It is fed with ranges, once for every
 * interval: those of {@link DirtyTracker} for the pages that a guest writes, or of any other source.
 * (KVM tells user space of writes only: which pages were read is in the processor's own tables.)
 */
export class WorkingSet {
  readonly #last = new Map<number, number>()
  #interval = 0

  /** Ends an interval in which these ranges were used. */
  add(ranges: readonly MemoryRange[]): void {
    this.#interval++
    for (const { gpa, size } of list(ranges, 'ranges')) {
      const end = (integer(gpa, 'gpa') + integer(size, 'size')) / PAGE
      for (let page = Math.floor(gpa / PAGE); page < end; page++) {
        this.#last.set(page, this.#interval)
      }
    }
  }

  /** How many intervals there were. */
  get intervals(): number {
    return this.#interval
  }

  /** Bytes that were used in any of the last `intervals`; in all of them unless said. */
  size(intervals: number = this.#interval): number {
    let pages = 0
    const since = this.#since(intervals)
    for (const last of this.#last.values()) pages += last > since ? 1 : 0
    return pages * PAGE
  }

  /** The same as ranges, upwards and joined. */
  ranges(intervals: number = this.#interval): MemoryRange[] {
    const since = this.#since(intervals)
    const pages = [...this.#last].filter(([, last]) => last > since).map(([page]) => page)
    const ranges: { gpa: number; size: number }[] = []
    for (const page of pages.sort((a, b) => a - b)) {
      const before = ranges.at(-1)
      if (before !== undefined && before.gpa + before.size === page * PAGE) before.size += PAGE
      else ranges.push({ gpa: page * PAGE, size: PAGE })
    }
    return ranges
  }

  /** Pages that were used once, but in none of the last `intervals`: what a balloon may want. */
  idle(intervals: number): number {
    return this.size() - this.size(intervals)
  }

  #since(intervals: number): number {
    if (integer(intervals, 'intervals') > this.#interval) {
      throw outOfRange('intervals', `at most ${this.#interval}, of which is known`, intervals)
    }
    return this.#interval - intervals
  }
}
