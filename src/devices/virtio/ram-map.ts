// Where RAM is, asked for every buffer of a driver.

interface Span {
  readonly gpa: number
  end: number
}

/** The ranges of a memory, those that touch joined. */
export class RamMap {
  readonly #spans: readonly Span[]

  /** `ranges` ascend and do not overlap. */
  constructor(ranges: readonly { readonly gpa: number; readonly size: number }[]) {
    const spans: Span[] = []
    for (const { gpa, size } of ranges) {
      const last = spans.at(-1)
      if (last?.end === gpa) last.end += size
      else spans.push({ gpa, end: gpa + size })
    }
    this.#spans = spans
  }

  /** Whether all of it is RAM. */
  has(gpa: number, length: number): boolean {
    // A machine has two or three.
    for (const span of this.#spans) {
      if (gpa >= span.gpa && gpa + length <= span.end) return true
    }
    return false
  }
}
