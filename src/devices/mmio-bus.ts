// Guest-physical addresses that are not RAM. Guests talk to one device many times in a row, so the
// range that was hit last is looked at before the search.

import { Bus, type BusRange } from './bus.js'

const GPA_LIMIT = 2 ** 52

/** Memory-mapped devices, by guest-physical address (below 2^52). */
export class MmioBus extends Bus {
  #last: BusRange | undefined

  constructor() {
    super('MMIO bus', GPA_LIMIT)
  }

  override find(gpa: number): BusRange | undefined {
    const last = this.#last
    if (last !== undefined && gpa >= last.base && gpa < last.end) return last
    const range = this.#search(gpa)
    if (range !== undefined) this.#last = range
    return range
  }

  protected override onAdded(): void {
    this.#last = undefined
  }

  protected override onRemoved(): void {
    this.#last = undefined
  }

  #search(gpa: number): BusRange | undefined {
    const ranges = this.ranges
    let low = 0
    let high = ranges.length
    while (low < high) {
      const middle = Math.floor((low + high) / 2)
      if (ranges[middle]!.end <= gpa) low = middle + 1
      else high = middle
    }
    const range = ranges[low]
    return range !== undefined && range.base <= gpa ? range : undefined
  }
}
