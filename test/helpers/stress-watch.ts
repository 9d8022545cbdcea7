// A userfaultfd on an area of the memory stress, for a round: pages that come from a file or from
// JavaScript when the guest touches them, or first writes that are told. What came is compared with what
// the model says was touched.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type GuestMemory, Userfault } from '../../src/index.js'
import { waitUntil } from './wait-until.js'

const PAGE = 0x1000
const WORDS = PAGE / 8

/** Who brings missing pages, or `write`: nobody, but writes are told. */
export type WatchKind = 'file' | 'handler' | 'write'

/** What this process may use, of what this kernel has for memfd and anonymous memory alike. */
export function watchKinds(): WatchKind[] {
  const support = Userfault.support()
  if (support === undefined) return []
  return support.write && support.writeShared ? ['file', 'handler', 'write'] : ['file', 'handler']
}

/** The pages that are brought, no two words alike. */
export class PageImage {
  readonly words: BigUint64Array
  readonly path: string
  readonly #folder = mkdtempSync(join(tmpdir(), 'node-kvm-stress-'))

  constructor(pages: number) {
    this.words = BigUint64Array.from(
      { length: pages * WORDS },
      (_, i) => BigInt(i + 1) * 0x9e37_79b9_7f4a_7c15n,
    )
    this.path = join(this.#folder, 'image')
    writeFileSync(this.path, this.words)
  }

  close(): void {
    rmSync(this.#folder, { recursive: true })
  }
}

/** Some RAM from address 0 on, and what the model says is in it. */
export interface Watched {
  readonly memory: GuestMemory
  readonly model: BigUint64Array
}

/** One watch. */
export class Watch {
  readonly kind: WatchKind
  readonly #userfault: Userfault
  /** Pages that JavaScript was asked for or told of. */
  readonly #seen: number[] = []
  #complaint: string | undefined

  /** Takes all pages of the area away, in the model as well, or protects them. */
  constructor(kind: WatchKind, area: Watched, image: PageImage) {
    this.kind = kind
    if (kind === 'write') this.#userfault = this.#protect(area)
    else this.#userfault = this.#takeAway(kind, area, image)
  }

  #takeAway(kind: 'file' | 'handler', { memory, model }: Watched, image: PageImage): Userfault {
    memory.discard(0, model.byteLength)
    model.set(image.words.subarray(0, model.length))
    if (kind === 'file') return Userfault.create(memory, { missing: { file: image.path } })
    const missing = async (gpa: number) => {
      this.#seen.push(gpa / PAGE)
      if (gpa % (3 * PAGE) === 0) await new Promise(setImmediate)
      return new Uint8Array(image.words.buffer, gpa, PAGE)
    }
    return Userfault.create(memory, { missing })
  }

  #protect({ memory, model }: Watched): Userfault {
    // Not every kernel protects what is not there.
    memory.advise(0, model.byteLength, 'populateWrite')
    const old = Buffer.from(model.slice().buffer)
    const write = (gpa: number, before: Uint8Array) => {
      this.#seen.push(gpa / PAGE)
      if (old.compare(before, 0, PAGE, gpa, gpa + PAGE) !== 0)
        this.#complaint = `page ${gpa / PAGE} was told with other contents than it had`
    }
    const userfault = Userfault.create(memory, { write })
    userfault.protect()
    return userfault
  }

  /**
   * Ends it, with all pages there.
   *
   * @param touched The pages that the guest wrote, upwards.
   * @returns What is not as it should be.
   */
  async end(touched: readonly number[]): Promise<string | undefined> {
    if (this.kind === 'file') this.#compareCount(touched.length)
    else await this.#compareSeen(touched)
    if (this.kind !== 'write') await this.#userfault.prefetch()
    this.close()
    return this.#complaint
  }

  close(): void {
    this.#userfault.close()
  }

  #compareCount(touched: number): void {
    const { fromFile, zeroed } = this.#userfault.statistics
    if (fromFile !== touched || zeroed !== 0)
      this.#complaint = `${fromFile} pages came from the file and ${zeroed} were zeros, of ${touched}`
  }

  async #compareSeen(touched: readonly number[]): Promise<void> {
    // Writes are told a little later.
    if (this.kind === 'write') await waitUntil(() => this.#seen.length >= touched.length)
    const seen = this.#seen.slice().sort((a, b) => a - b)
    const at = touched.findIndex((page, i) => page !== seen[i])
    if (at >= 0 || seen.length !== touched.length)
      this.#complaint ??= `${this.kind}: ${seen.length} pages, not ${touched.length}; ${seen[at]} for ${touched[at]}`
  }
}
