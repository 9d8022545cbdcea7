// Decides where everything goes before anything is written. A loader claims ranges, queues what goes
// into them, and commits; every refusal happens before the first byte of guest memory changes.

import type { PhysicalMemory } from '../x86/physical-memory.js'
import { alignDown, alignUp } from './align.js'
import { BootError, hex } from './boot-error.js'
import { type GpaRange, mergeRanges } from './memory-map.js'

/** A range of guest memory that a loader uses, and for what. */
export interface Placement extends GpaRange {
  /** `kernel`, `initrd`, `command line`, `boot parameters`, `page tables`, `GDT`, … */
  readonly name: string
}

/** What a loader needs of guest memory: nothing is read. */
export type LoadTarget = Pick<PhysicalMemory, 'ranges' | 'write' | 'fill'>

interface PendingWrite extends GpaRange {
  /** Absent: zeros. */
  readonly bytes?: Uint8Array
}

/** Where {@link LoadPlan.claimLowest} and {@link LoadPlan.claimHighest} may look. */
export interface SearchWindow {
  /** The result is a multiple of this, in bytes. */
  readonly alignment: number
  /** Lowest address allowed. */
  readonly from: number
  /** One past the highest address allowed. */
  readonly end: number
}

/** Claims and writes that are checked together and applied together. */
export class LoadPlan {
  readonly #usable: readonly GpaRange[]
  readonly #claims: Placement[] = []
  readonly #writes: PendingWrite[] = []

  /** `usable`: the ranges that claims may take, ascending, not overlapping. */
  constructor(usable: readonly GpaRange[]) {
    this.#usable = mergeRanges(usable)
  }

  /** Everything claimed so far, ascending by address. */
  get placements(): readonly Placement[] {
    return [...this.#claims].sort((a, b) => a.gpa - b.gpa)
  }

  /**
   * Takes exactly `size` bytes at `gpa`.
   *
   * @throws BootError `ERR_BOOT_NO_SPACE` where it is not all RAM, `ERR_BOOT_OVERLAP` where taken
   */
  claim(name: string, gpa: number, size: number): void {
    const claim = { name, gpa, size }
    const details = { placement: name, gpa, size }
    if (!this.#usable.some((range) => contains(range, claim))) {
      const message =
        `${name} needs ${span(claim)}, which is not all usable RAM; usable are ` +
        `${this.describeUsable()}. Give the guest more memory or another layout`
      throw new BootError('ERR_BOOT_NO_SPACE', message, details)
    }
    const other = this.#conflict(claim)
    if (other) {
      const message =
        `${name} needs ${span(claim)}, but ${other.name} is at ${span(other)}; ` +
        'load one of them elsewhere'
      throw new BootError('ERR_BOOT_OVERLAP', message, details)
    }
    this.#claims.push(claim)
  }

  /** Takes the lowest free place in the window and returns its address, or undefined. */
  claimLowest(name: string, size: number, window: SearchWindow): number | undefined {
    for (const range of this.#usable) {
      let gpa = alignUp(Math.max(range.gpa, window.from), window.alignment)
      while (gpa + size <= Math.min(range.gpa + range.size, window.end)) {
        const other = this.#conflict({ gpa, size })
        if (!other) return this.#take(name, gpa, size)
        gpa = alignUp(other.gpa + other.size, window.alignment)
      }
    }
    return undefined
  }

  /** Takes the highest free place in the window and returns its address, or undefined. */
  claimHighest(name: string, size: number, window: SearchWindow): number | undefined {
    for (const range of [...this.#usable].reverse()) {
      let end = Math.min(range.gpa + range.size, window.end)
      for (;;) {
        const gpa = alignDown(end - size, window.alignment)
        if (end < size || gpa < Math.max(range.gpa, window.from)) break
        const other = this.#conflict({ gpa, size })
        if (!other) return this.#take(name, gpa, size)
        end = other.gpa
      }
    }
    return undefined
  }

  /** Queues bytes for a claimed range. */
  write(gpa: number, bytes: Uint8Array): void {
    this.#queue({ gpa, size: bytes.length, bytes })
  }

  /** Queues zeros for a claimed range. */
  zero(gpa: number, size: number): void {
    this.#queue({ gpa, size })
  }

  /** Performs all queued writes, in order. */
  commit(memory: LoadTarget): void {
    for (const { gpa, size, bytes } of this.#writes) {
      if (bytes) memory.write(gpa, bytes)
      else memory.fill(gpa, size, 0)
    }
  }

  #queue(write: PendingWrite): void {
    if (write.size === 0) return
    // A slip in a loader's own arithmetic must not become a wild write either.
    if (!this.#claims.some((claim) => contains(claim, write))) {
      throw new Error(`write to ${span(write)} is outside every claim; this is a bug of the loader`)
    }
    this.#writes.push(write)
  }

  #take(name: string, gpa: number, size: number): number {
    this.claim(name, gpa, size)
    return gpa
  }

  #conflict(wanted: GpaRange): Placement | undefined {
    const end = wanted.gpa + wanted.size
    return this.#claims.find((claim) => claim.gpa < end && wanted.gpa < claim.gpa + claim.size)
  }

  /** The ranges that claims may take, for messages. */
  describeUsable(): string {
    return this.#usable.map(span).join(', ') || 'none'
  }
}

function contains(outer: GpaRange, inner: GpaRange): boolean {
  return inner.gpa >= outer.gpa && inner.gpa + inner.size <= outer.gpa + outer.size
}

function span({ gpa, size }: GpaRange): string {
  return `${hex(gpa)}..${hex(gpa + size)}`
}
