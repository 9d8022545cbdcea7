// RAM of a test, as devices see it.

import type { DeviceMemory } from '../../src/devices/index.js'
import { BufferMemory } from '../../src/x86/buffer-memory.js'

/** Bytes from one address on; accesses outside throw. */
export class TestMemory extends BufferMemory implements DeviceMemory {
  readonly #gpa: number
  readonly #bytes: Uint8Array

  /** So many zeros, or these bytes. */
  constructor(content: number | Uint8Array, gpa = 0) {
    const bytes = typeof content === 'number' ? new Uint8Array(content) : content
    super([{ gpa, bytes }])
    this.#gpa = gpa
    this.#bytes = bytes
  }

  view(gpa: number, length: number): Uint8Array {
    const at = gpa - this.#gpa
    if (!(at >= 0 && at + length <= this.#bytes.length)) throw new RangeError(`${gpa} is not RAM`)
    return this.#bytes.subarray(at, at + length)
  }

  readInto(gpa: number, bytes: Uint8Array): void {
    bytes.set(this.view(gpa, bytes.length))
  }

  discard(gpa: number, length: number): void {
    this.fill(gpa, length)
  }

  hintFree(ranges: readonly { readonly gpa: number; readonly size: number }[]): number {
    return ranges.reduce((sum, { size }) => sum + size, 0)
  }
}
