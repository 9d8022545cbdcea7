// Which pages of guest RAM have memory behind them.

import type { MemoryRange } from '../memory.js'

const PAGE = 4096

/** What the page tables of this process say of a page. */
export interface PageState {
  /** It is mapped. A page that only guests or other processes use need not be. */
  readonly present: boolean
  readonly swapped: boolean
  /** It belongs to a file or to shared memory. */
  readonly file: boolean
  /** It is mapped once. */
  readonly exclusive: boolean
}

/** The answer of {@link GuestMemory.residency}, true at one moment. */
export class Residency {
  /** How many pages of 4096 bytes are resident. */
  readonly count: number
  readonly #gpa: number
  readonly #pages: Uint8Array

  /** @internal */
  constructor(gpa: number, pages: Uint8Array) {
    this.#gpa = gpa
    this.#pages = pages
    this.count = pages.reduce((sum, page) => sum + (page & 1), 0)
  }

  /** Whether the page that holds the address is resident. */
  has(gpa: number): boolean {
    return ((this.#pages[Math.floor((gpa - this.#gpa) / PAGE)] ?? 0) & 1) === 1
  }

  /** Resident pages, joined to ranges. */
  *ranges(): Generator<MemoryRange> {
    let start = -1
    for (let i = 0; i <= this.#pages.length; i++) {
      const resident = ((this.#pages[i] ?? 0) & 1) === 1
      if (resident && start < 0) start = i
      if (!resident && start >= 0) {
        yield { gpa: this.#gpa + start * PAGE, size: (i - start) * PAGE }
        start = -1
      }
    }
  }
}
