// What the guest's kernel tells of its memory (virtio 1.2 §5.5.6.4).

import type { DescriptorChain } from '../virtio/descriptor-chain.js'
import { popOrWait } from '../virtio/turn.js'
import type { Virtqueue } from '../virtio/virtqueue.js'
import { VirtqueueError } from '../virtio/virtqueue-error.js'

/** Names by tag. Linux sends those that it has. */
const NAMES = [
  'swapIn',
  'swapOut',
  'majorFaults',
  'minorFaults',
  'freeMemory',
  'totalMemory',
  'availableMemory',
  'diskCaches',
  'hugetlbAllocations',
  'hugetlbFailures',
  'oomKills',
  'allocationStalls',
  'asyncScanned',
  'directScanned',
  'asyncReclaimed',
  'directReclaimed',
] as const

/** Bytes of a tag and its value. */
const ENTRY = 10

/**
 * The guest's figures, those that its driver has: bytes (`swapIn`, `swapOut`, memory and caches) and counts since
 * its start.
 */
export type BalloonStatistics = { readonly [Name in (typeof NAMES)[number]]?: bigint }

const STATISTICS_LIMIT = 4096

/** Reads a buffer of statistics; what has no name is left out. */
export function decodeStatistics(bytes: Uint8Array): BalloonStatistics {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const statistics: { -readonly [Name in keyof BalloonStatistics]: bigint } = {}
  for (let at = 0; at + ENTRY <= bytes.length; at += ENTRY) {
    const name = NAMES[view.getUint16(at, true)]
    if (name !== undefined) statistics[name] = view.getBigUint64(at + 2, true)
  }
  return statistics
}

interface Question {
  readonly promise: Promise<BalloonStatistics>
  readonly resolve: (statistics: BalloonStatistics) => void
  readonly reject: (error: Error) => void
}

function newQuestion(): Question {
  let resolve!: Question['resolve']
  let reject!: Question['reject']
  const promise = new Promise<BalloonStatistics>((onAnswer, onError) => {
    resolve = onAnswer
    reject = onError
  })
  return { promise, resolve, reject }
}

/** The queue of statistics: the device asks by giving the driver its buffer back. */
export class StatisticsQueue {
  readonly #queue: Virtqueue
  readonly #interrupt: () => void
  #held: DescriptorChain | undefined
  #question: Question | undefined
  #paused = false

  /** @param interrupt tells the driver that the queue has moved */
  constructor(queue: Virtqueue, interrupt: () => void) {
    this.#queue = queue
    this.#interrupt = interrupt
  }

  /** Asks for figures. Several may wait for one answer. */
  ask(): Promise<BalloonStatistics> {
    this.#question ??= newQuestion()
    this.#giveBack()
    return this.#question.promise
  }

  /** Before the driver's first buffer there is nothing to give back, and that comes filled. */
  #giveBack(): void {
    if (this.#paused || this.#question === undefined || this.#held === undefined) return
    this.#queue.push(this.#held, 0)
    this.#held = undefined
    this.#interrupt()
  }

  /** Leaves the guest's memory alone. */
  pause(): void {
    this.#paused = true
  }

  /** Ends {@link pause}. */
  resume(): void {
    this.#paused = false
    this.#giveBack()
  }

  /**
   * The driver has made a buffer available.
   *
   * @throws VirtqueueError for what no driver may do
   */
  onNotify(): void {
    for (let chain = popOrWait(this.#queue); chain !== undefined; chain = popOrWait(this.#queue)) {
      const statistics = decodeStatistics(chain.readAll(STATISTICS_LIMIT))
      if (this.#held !== undefined) throw new VirtqueueError('two buffers of statistics')
      this.#held = chain
      this.#question?.resolve(statistics)
      this.#question = undefined
    }
  }

  /** No answer will come. */
  cancel(error: Error): void {
    this.#question?.reject(error)
    this.#question = undefined
  }
}
