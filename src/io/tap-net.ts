// A network device on a TAP or macvtap. Native threads move the frames between the guest's buffers and
// the TAP; JavaScript sees none of them.

import { KvmError } from '../core/errors.js'
import {
  GUEST_OFFLOADS,
  type NetStatistics,
  NetworkDevice,
  type NetworkDeviceOptions,
  TokenBucket,
  VIRTIO_NET_F,
  type VirtioContext,
  VirtqueueError,
} from '../devices/index.js'
import { NetWorker } from './net-worker.js'
import { type Tap, TUN_F } from './tap.js'

/** What the guest may take, and what the TAP must hand over then. */
const OFFLOADS: readonly [guest: bigint, tap: number][] = [
  [VIRTIO_NET_F.GUEST_CSUM, TUN_F.CSUM],
  [VIRTIO_NET_F.GUEST_TSO4, TUN_F.TSO4],
  [VIRTIO_NET_F.GUEST_TSO6, TUN_F.TSO6],
  [VIRTIO_NET_F.GUEST_ECN, TUN_F.TSO_ECN],
  [VIRTIO_NET_F.GUEST_UFO, TUN_F.UFO],
  [VIRTIO_NET_F.GUEST_USO4, TUN_F.USO4],
  [VIRTIO_NET_F.GUEST_USO6, TUN_F.USO6],
]

/** What a TAP takes from the guest: always, or with the same as a guest's. */
const ALWAYS =
  VIRTIO_NET_F.MRG_RXBUF |
  VIRTIO_NET_F.CSUM |
  VIRTIO_NET_F.HOST_TSO4 |
  VIRTIO_NET_F.HOST_TSO6 |
  VIRTIO_NET_F.HOST_ECN |
  VIRTIO_NET_F.CTRL_GUEST_OFFLOADS

const MACVTAP_WATCH_MS = 500

/** Options of {@link TapNet}. */
export interface TapNetOptions extends NetworkDeviceOptions {
  /** Leave checksums and segmentation to neither side. Default: the guest may use what the TAP has. */
  readonly offloads?: boolean
}

/**
 * A network device on a {@link Tap}, which it owns: closing the machine closes it.
 *
 * MTU and number of queues are the TAP's unless said, and so is the address on a macvtap.
 */
export class TapNet extends NetworkDevice {
  override readonly name = 'virtio-net'
  readonly #tap: Tap
  readonly #isMacvtap: boolean
  readonly #options: TapNetOptions
  #workers: NetWorker[] = []
  /** Of workers that have ended. */
  readonly #totals = Array<number>(6).fill(0)
  #isGone = false
  #watch: ReturnType<typeof setInterval> | undefined

  constructor(tap: Tap, options: TapNetOptions = {}) {
    const { queuePairs = tap.queueCount, offloads = true } = options
    if (queuePairs > tap.queueCount) {
      const text = `${queuePairs} queue pairs, but the TAP has ${tap.queueCount} queues`
      throw new KvmError('EINVAL', 22, text)
    }
    const isMacvtap = tap.isMacvtap
    const own = isMacvtap ? { mac: tap.mac } : {}
    super(offloads ? featuresOf(tap) : VIRTIO_NET_F.MRG_RXBUF, {
      mtu: tap.mtu,
      ...own,
      ...options,
      queuePairs,
    })
    for (const limits of [options.receiveLimits, options.transmitLimits]) {
      for (const limit of [limits?.bytes, limits?.frames]) if (limit) new TokenBucket(limit)
    }
    this.#tap = tap
    this.#isMacvtap = isMacvtap
    this.#options = options
  }

  /** Whether the TAP has vanished: then the link is down for good. */
  get isGone(): boolean {
    return this.#isGone
  }

  override get received(): NetStatistics {
    return this.#statistics(0)
  }

  override get transmitted(): NetStatistics {
    return this.#statistics(3)
  }

  protected override startQueues(context: VirtioContext): void {
    this.usePairs(1)
    this.useGuestOffloads(context.features & GUEST_OFFLOADS)
    for (let i = 0; i < this.queuePairs; i++) this.#startPair(i, context)
    this.#watchMacvtap()
  }

  /** A file of a macvtap that was removed has no frames and takes any: its threads see nothing of it. */
  #watchMacvtap(): void {
    if (!this.#isMacvtap || !this.#hasTap) return
    this.#watch = setInterval(() => this.#hasTap, MACVTAP_WATCH_MS).unref()
  }

  get #hasTap(): boolean {
    if (!this.#isGone && this.#tap.isGone) this.#onGone()
    return !this.#isGone
  }

  #startPair(index: number, context: VirtioContext): void {
    const receive = context.handOver(2 * index)
    const transmit = context.handOver(2 * index + 1)
    if (receive === undefined || transmit === undefined) return
    const { receiveLimits = {}, transmitLimits = {} } = this.#options
    const worker = new NetWorker({
      memory: context.memory,
      tap: this.#tap.queue(index),
      receive,
      transmit,
      receiveLimits,
      transmitLimits,
      mergeable: (context.features & VIRTIO_NET_F.MRG_RXBUF) !== 0n,
      link: this.link,
      onBroken: () => context.fail(new VirtqueueError('the driver broke the rules of a queue')),
      onGone: () => this.#onGone(),
    })
    this.#workers.push(worker)
  }

  /** Native code serves all queues but the control queue. */
  protected override queueNotified(): void {}

  protected override usePairs(pairs: number): void {
    if (this.#hasTap) this.#tap.useQueues(pairs)
  }

  protected override useGuestOffloads(offloads: bigint): boolean {
    const has = (bit: bigint) => (offloads & bit) !== 0n
    // What needs checksums is not to be had without.
    const wanted = has(VIRTIO_NET_F.GUEST_CSUM) ? OFFLOADS.filter(([guest]) => has(guest)) : []
    if (!this.#hasTap) return false
    this.#tap.setOffloads(wanted.reduce((all, [, tap]) => all | tap, 0))
    return true
  }

  protected override linkChanged(up: boolean): void {
    for (const worker of this.#workers) worker.setLink(up)
  }

  #onGone(): void {
    clearInterval(this.#watch)
    this.#isGone = true
    this.link = false
  }

  override async reset(): Promise<void> {
    clearInterval(this.#watch)
    const workers = this.#workers.splice(0)
    await Promise.all(workers.map((worker) => worker.stop()))
    for (const { counts } of workers) {
      counts.forEach((count, i) => {
        this.#totals[i]! += count
      })
    }
    await super.reset()
  }

  override async pause(): Promise<void> {
    await super.pause()
    await Promise.all(this.#workers.map((worker) => worker.pause()))
  }

  override resume(): void {
    super.resume()
    for (const worker of this.#workers) worker.resume()
  }

  override close(): void {
    clearInterval(this.#watch)
    this.#tap.close()
  }

  #statistics(at: number): NetStatistics {
    const all = [this.#totals, ...this.#workers.map(({ counts }) => counts)]
    const sum = (i: number) => all.reduce((total, counts) => total + counts[at + i]!, 0)
    return { frames: sum(0), bytes: sum(1), dropped: sum(2) }
  }
}

function featuresOf({ offloads }: Tap): bigint {
  const guest = OFFLOADS.filter(([, tap]) => (offloads & tap) !== 0)
  const uso = offloads & TUN_F.USO4 ? VIRTIO_NET_F.HOST_USO : 0n
  const ufo = offloads & TUN_F.UFO ? VIRTIO_NET_F.HOST_UFO : 0n
  return guest.reduce((all, [feature]) => all | feature, ALWAYS | uso | ufo)
}
