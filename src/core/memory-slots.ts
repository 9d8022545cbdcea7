// What is known of a VM's memory slots on this side, for messages: the kernel knows better.

import type { MemoryRange } from './memory.js'

const EINVAL = -22
const SPACE = 0x1_0000

/** The slots of one VM. */
export class MemorySlots {
  readonly #slots = new Map<number, MemoryRange>()

  /** Where a slot is; undefined when there is none. */
  get(slot: number): MemoryRange | undefined {
    return this.#slots.get(slot)
  }

  /** Notes a slot that the kernel took; one of size 0 is gone. */
  set(slot: number, range: MemoryRange): void {
    if (range.size === 0) this.#slots.delete(slot)
    else this.#slots.set(slot, range)
  }

  /** Why the kernel may have refused a slot. */
  explain(result: number, slot: number, { gpa, size }: MemoryRange): string | undefined {
    const space = Math.floor(slot / SPACE)
    for (const [other, range] of this.#slots) {
      if (other === slot || Math.floor(other / SPACE) !== space) continue
      if (gpa < range.gpa + range.size && range.gpa < gpa + size) return `overlaps slot ${other}`
    }
    const before = this.#slots.get(slot)
    if (result !== EINVAL) return undefined
    if (size === 0 && before === undefined) return 'there is no such slot'
    if (size !== 0 && before !== undefined && before.size !== size) {
      return 'a slot cannot change its size: delete it first'
    }
    return undefined
  }
}
