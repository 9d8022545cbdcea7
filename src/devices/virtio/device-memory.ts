// Guest RAM as a device sees it that reads and writes it on its own.

import type { PhysicalMemory } from '../../x86/physical-memory.js'

/** A part of guest RAM, in bytes, of any alignment. */
export interface MemoryPart {
  readonly gpa: number
  readonly length: number
}

/** What a device needs of guest RAM beside reads and writes. `GuestMemory` has it. */
export interface DeviceMemory extends PhysicalMemory {
  /**
   * The bytes themselves, not a copy. They must lie within one of `ranges`.
   *
   * @throws where any byte is not RAM
   */
  view(gpa: number, length: number): Uint8Array
  /** Copies out as many bytes as the array has. */
  readInto(gpa: number, bytes: Uint8Array): void
  /** Gives whole pages back to the host; they read as zeros afterwards. */
  discard(gpa: number, length: number): void
  /**
   * Takes note of what the guest has no use for at the moment, parts of pages and what is not RAM left
   * out.
   *
   * @returns bytes taken note of
   */
  hintFree(ranges: readonly { readonly gpa: number; readonly size: number }[]): number
}
