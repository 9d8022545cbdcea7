// A memory balloon (virtio 1.2 §5.5): the guest gives up pages so that the host has them, by a target that
// the host sets, and by itself where they are free.

import { outOfRange } from '../errors.js'
import type { DescriptorChain } from '../virtio/descriptor-chain.js'
import { type VirtioContext, VirtioDevice } from '../virtio/virtio-device.js'
import { VIRTIO_ID } from '../virtio/virtio-numbers.js'
import { type BalloonStatistics, StatisticsQueue } from './balloon-statistics.js'
import { FreePageHints, type FreePages } from './free-page-hints.js'
import { NoDriverError } from './no-driver-error.js'
import { type PageRange, pageRuns, wholePages } from './page-runs.js'

const F_STATS_VQ = 1n << 1n
const F_DEFLATE_ON_OOM = 1n << 2n
const F_FREE_PAGE_HINT = 1n << 3n
const F_PAGE_POISON = 1n << 4n
const F_PAGE_REPORTING = 1n << 5n

// Configuration space (§5.5.4).
const NUM_PAGES = 0
const ACTUAL = 4
const HINT_ID = 8
const POISON = 12
const CONFIG_SIZE = 16

/** The queues in the order of their numbers, each with the feature that it needs. */
const QUEUES = [
  { role: 'inflate', feature: 0n },
  { role: 'deflate', feature: 0n },
  { role: 'statistics', feature: F_STATS_VQ },
  { role: 'hint', feature: F_FREE_PAGE_HINT },
  { role: 'report', feature: F_PAGE_REPORTING },
] as const
type Role = (typeof QUEUES)[number]['role']

const PAGE = 4096
const MOST_PAGES = 0xffff_ffff
const QUEUE_SIZE = 128
/** Drivers name at most 1024 pages at once; a longer list would keep the event loop for long. */
const LIST_LIMIT = 4096
const COMMAND_SIZE = 4

/** What {@link VirtioBalloon} takes. */
export interface VirtioBalloonOptions {
  /** Bytes to begin with; 0 unless said. See {@link VirtioBalloon.target}. */
  readonly target?: number
  /** Whether the guest takes pages back rather than kill a program for want of memory; true unless said. */
  readonly deflateOnOom?: boolean
}

/**
 * A balloon. What the guest puts into it goes back to the host at once, and so do free pages that the
 * guest reports by itself (VIRTIO_BALLOON_F_PAGE_REPORTING). A page that the guest takes back is zero and is
 * allocated anew when it is touched.
 */
export class VirtioBalloon extends VirtioDevice {
  override readonly name = 'balloon'
  override readonly deviceType = VIRTIO_ID.balloon
  override readonly deviceFeatures: bigint
  override readonly queueSizes = QUEUES.map(() => QUEUE_SIZE)
  override readonly config = new Uint8Array(CONFIG_SIZE)
  override readonly pciClass = 0x00_ff00
  readonly #fields = new DataView(this.config.buffer)
  readonly #hints = new FreePageHints((id) => this.#change(HINT_ID, id))
  #roles: readonly (Role | undefined)[] = []
  #statistics: StatisticsQueue | undefined
  #waiting: (() => void)[] = []
  #inflated = 0
  #reported = 0
  #refused = 0

  constructor({ target = 0, deflateOnOom = true }: VirtioBalloonOptions = {}) {
    super()
    this.deviceFeatures =
      F_STATS_VQ |
      F_FREE_PAGE_HINT |
      F_PAGE_POISON |
      F_PAGE_REPORTING |
      (deflateOnOom ? F_DEFLATE_ON_OOM : 0n)
    this.target = target
  }

  /**
   * How many bytes the guest is to give up, in whole pages. Its driver follows as it can; see
   * {@link actual}.
   *
   * @throws RangeError `ERR_OUT_OF_RANGE` for what is no number of bytes below 2^44
   */
  get target(): number {
    return this.#fields.getUint32(NUM_PAGES, true) * PAGE
  }

  set target(bytes: number) {
    const pages = Math.floor(bytes / PAGE)
    if (!(pages >= 0 && pages <= MOST_PAGES)) throw outOfRange(`a balloon of ${bytes} bytes`)
    this.#change(NUM_PAGES, pages)
  }

  /** How many bytes the guest has given up, as its driver says. */
  get actual(): number {
    return this.#fields.getUint32(ACTUAL, true) * PAGE
  }

  /** Resolves when {@link actual} is {@link target}. Rejects with the signal's reason. */
  async reached({ signal }: { readonly signal?: AbortSignal } = {}): Promise<void> {
    signal?.throwIfAborted()
    if (this.actual === this.target) return
    await new Promise<void>((resolve, reject) => {
      const abort = () => {
        this.#waiting = this.#waiting.filter((each) => each !== look)
        reject(signal?.reason)
      }
      const look = () => {
        if (this.actual !== this.target) return this.#waiting.push(look)
        signal?.removeEventListener('abort', abort)
        return resolve()
      }
      this.#waiting.push(look)
      signal?.addEventListener('abort', abort, { once: true })
    })
  }

  /** Bytes that went back to the host since the start. */
  get released(): BalloonRelease {
    return { inflated: this.#inflated, reported: this.#reported, refused: this.#refused }
  }

  /**
   * Asks the guest for figures about its memory. Resolves when its driver answers.
   *
   * @throws NoDriverError when no driver is there that has them, or when it goes before it answers
   */
  async statistics(): Promise<BalloonStatistics> {
    if (this.#statistics === undefined) throw new NoDriverError('no driver gives statistics')
    return this.#statistics.ask()
  }

  /**
   * Asks the guest for the pages it has no use for, which need not be saved or sent: its driver holds
   * them until `release()`.
   *
   * @throws NoDriverError when no driver is there that can, or when it goes before it answers
   */
  async freePages(): Promise<FreePages> {
    if (!this.#roles.includes('hint')) throw new NoDriverError('no driver names free pages')
    return this.#hints.ask()
  }

  override writeConfig(offset: number, size: number, value: number): void {
    if (size !== 4 || (offset !== ACTUAL && offset !== POISON)) return
    this.#fields.setUint32(offset, value, true)
    const waiting = this.#waiting
    this.#waiting = []
    for (const look of waiting) look()
  }

  override activate(context: VirtioContext): void {
    this.#roles = rolesOf(context)
    const queue = context.queues[this.#roles.indexOf('statistics')]
    this.#statistics = queue && new StatisticsQueue(queue, () => context.interrupt(queue.index))
  }

  override notify(queueIndex: number): void {
    if (this.#roles[queueIndex] === 'statistics') this.#statistics?.onNotify()
    else super.notify(queueIndex)
  }

  protected override handle(chain: DescriptorChain, queueIndex: number): number {
    const { context } = this
    if (context === undefined) return 0
    const { ranges } = context.memory
    switch (this.#roles[queueIndex]) {
      case 'inflate':
        this.#inflated += this.#discard(pageRuns(chain.readAll(LIST_LIMIT), ranges))
        break
      case 'report':
        if (this.#mayDiscard) this.#reported += this.#discard(blocksOf(chain, ranges))
        break
      case 'hint':
        this.#onHint(chain, ranges)
        break
      default:
      // Pages that are taken back come by themselves when they are touched.
    }
    return 0
  }

  override async pause(): Promise<void> {
    this.#statistics?.pause()
    await super.pause()
  }

  override resume(): void {
    this.#statistics?.resume()
    super.resume()
  }

  override reset(): void {
    const gone = new NoDriverError('the driver was reset')
    this.#statistics?.cancel(gone)
    this.#statistics = undefined
    this.#hints.cancel(gone)
    this.#roles = []
    for (const field of [ACTUAL, HINT_ID, POISON]) this.#fields.setUint32(field, 0, true)
  }

  #change(field: number, value: number): void {
    this.#fields.setUint32(field, value, true)
    this.context?.configChanged()
  }

  /** A guest that fills its free pages with something else than zeros finds it changed when they come back. */
  get #mayDiscard(): boolean {
    const isPoisoned = ((this.context?.features ?? 0n) & F_PAGE_POISON) !== 0n
    return !isPoisoned || this.#fields.getUint32(POISON, true) === 0
  }

  #onHint(chain: DescriptorChain, ranges: readonly PageRange[]): void {
    if (chain.readableLength > 0) {
      const command = chain.read(0, COMMAND_SIZE)
      this.#hints.onCommand(new DataView(command.buffer).getUint32(0, true))
    }
    if (this.#mayDiscard) this.#hints.onPages(blocksOf(chain, ranges))
  }

  /** @returns bytes that the host has back */
  #discard(ranges: readonly PageRange[]): number {
    let bytes = 0
    for (const { gpa, size } of ranges) {
      try {
        this.context?.memory.discard(gpa, size)
        bytes += size
      } catch {
        // Locked memory, or a part of a huge page: the guest keeps to its side all the same.
        this.#refused += size
      }
    }
    return bytes
  }
}

/** What {@link VirtioBalloon.released} gives, in bytes. */
export interface BalloonRelease {
  /** What the guest put into the balloon. */
  readonly inflated: number
  /** What the guest reported as free. */
  readonly reported: number
  /** What the host would not take back, such as parts of huge pages. */
  readonly refused: number
}

/** The whole pages among what a driver lets the device write. */
function blocksOf({ writable }: DescriptorChain, ram: readonly PageRange[]): PageRange[] {
  return writable.flatMap(({ gpa, length }) => wholePages({ gpa, size: length }, ram))
}

/**
 * Which queue is what. The specification gives each a number of its own, but Linux has long counted only
 * those whose feature is agreed on.
 */
function rolesOf({ features, queues }: VirtioContext): (Role | undefined)[] {
  const agreed = QUEUES.filter(({ feature }) => (features & feature) === feature)
  const own = QUEUES.map((queue) => (agreed.includes(queue) ? queue.role : undefined))
  const isOwn = own.every((role, i) => role === undefined || queues[i] !== undefined)
  return isOwn ? own : agreed.map(({ role }) => role)
}
