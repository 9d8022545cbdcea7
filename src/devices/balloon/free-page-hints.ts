// Free page hinting (virtio 1.2 §5.5.6.6): asked for, the driver names the pages that it has no use for, in a
// conversation with numbers so that answers to an old question are told from those to a new one.

import type { PageRange } from './page-runs.js'

const STOP = 0
const DONE = 1
const FIRST_ID = 2
/** A driver that names more is not listened to: hints may be ignored. */
const MOST_RANGES = 0x1_0000

/** Free pages of the guest, held by its driver until {@link release}. */
export interface FreePages {
  /**
   * Pages without use when they were named. The driver may have to give them to the guest before
   * {@link release}: what has been written since (dirty log) is not free any more.
   */
  readonly ranges: readonly PageRange[]
  /** Lets the driver give them back to the guest. */
  release(): void
}

interface Question {
  readonly id: number
  readonly ranges: PageRange[]
  heard: boolean
  readonly resolve: (pages: FreePages) => void
  readonly reject: (error: Error) => void
}

/** The device's side of the conversation. */
export class FreePageHints {
  readonly #say: (id: number) => void
  #question: Question | undefined
  #lastId = FIRST_ID - 1

  /** @param say puts a number where the driver reads it */
  constructor(say: (id: number) => void) {
    this.#say = say
  }

  /** Asks. */
  ask(): Promise<FreePages> {
    this.cancel(new Error('another question was asked'))
    this.#lastId = this.#lastId === 0xffff_ffff ? FIRST_ID : this.#lastId + 1
    return new Promise((resolve, reject) => {
      this.#question = { id: this.#lastId, ranges: [], heard: false, resolve, reject }
      this.#say(this.#lastId)
    })
  }

  /** The driver names the number of a question, or says that it has no more pages. */
  onCommand(id: number): void {
    const question = this.#question
    if (question === undefined) return
    if (id === question.id) question.heard = true
    if (id !== STOP || !question.heard) return
    this.#question = undefined
    const release = () => {
      if (this.#question === undefined) this.#say(DONE)
    }
    question.resolve({ ranges: question.ranges, release })
  }

  /** The driver names pages. */
  onPages(ranges: readonly PageRange[]): void {
    const question = this.#question
    if (!question?.heard || question.ranges.length + ranges.length > MOST_RANGES) return
    question.ranges.push(...ranges)
  }

  /** No answer will come. */
  cancel(error: Error): void {
    const question = this.#question
    this.#question = undefined
    question?.reject(error)
  }
}
