// virtio's network device (virtio 1.2 §5.1) but for the frames: what the driver sees of it, and the
// control queue. Who moves the frames is up to the subclass.

import { outOfRange } from '../errors.js'
import type { RateLimit } from '../token-bucket.js'
import type { DescriptorChain } from '../virtio/descriptor-chain.js'
import { type VirtioContext, VirtioDevice } from '../virtio/virtio-device.js'
import { VIRTIO_ID } from '../virtio/virtio-numbers.js'
import { formatMac, parseMac, randomMac } from './ethernet.js'
import { ReceiveFilter } from './receive-filter.js'
import { controlCommand, MAX_CONTROL_COMMAND, type NetControls } from './virtio-net-control.js'
import { VIRTIO_NET_CONFIG, VIRTIO_NET_F, VIRTIO_NET_S } from './virtio-net-features.js'

const NETWORK_CONTROLLER = 0x02_0000
const CONTROL_QUEUE_SIZE = 64
const MAX_QUEUE_PAIRS = 16

/** Limits of one direction. */
export interface NetRateLimits {
  /** Bytes of frames. */
  readonly bytes?: RateLimit
  readonly frames?: RateLimit
}

/** Options of every network device. */
export interface NetworkDeviceOptions {
  /** Such as `52:54:00:12:34:56`; a random one unless said. */
  readonly mac?: string
  /** The largest IP packet, 68 to 65535, of which the guest is told; it takes 1500 unless said. */
  readonly mtu?: number
  /** Pairs of a receive and a transmit queue, 1 to 16; 1 unless said. */
  readonly queuePairs?: number
  /** The most entries of each queue, a power of two; 256 unless said. */
  readonly queueSize?: number
  /** Whether the cable is plugged in at first, which it is unless said. */
  readonly link?: boolean
  /** What the guest may send. */
  readonly transmitLimits?: NetRateLimits
  /** What the guest may receive. */
  readonly receiveLimits?: NetRateLimits
}

/** What passed a device in one direction. */
export interface NetStatistics {
  readonly frames: number
  /** Of those frames. */
  readonly bytes: number
  /** Frames that were thrown away. */
  readonly dropped: number
}

/** A network device without its data path. */
export abstract class NetworkDevice extends VirtioDevice {
  override readonly deviceType = VIRTIO_ID.net
  override readonly pciClass = NETWORK_CONTROLLER
  override readonly queueSizes: readonly number[]
  override readonly deviceFeatures: bigint
  override readonly config = new Uint8Array(VIRTIO_NET_CONFIG.size)
  /** The queue pairs that there are. */
  readonly queuePairs: number
  readonly #mac: Uint8Array
  #filter: ReceiveFilter
  #controlIndex = -1

  /**
   * @param features what the data path can do
   * @throws `ERR_OUT_OF_RANGE` for an option that is none
   */
  protected constructor(features: bigint, options: NetworkDeviceOptions) {
    super()
    const { mac, mtu, queuePairs = 1, queueSize = 256, link = true } = options
    checkRange('queue pairs', queuePairs, 1, MAX_QUEUE_PAIRS)
    if (mtu !== undefined) checkRange('bytes of MTU', mtu, 68, 65_535)
    this.#mac = mac === undefined ? randomMac() : parseMac(mac)
    this.#filter = new ReceiveFilter(this.#mac)
    this.queuePairs = queuePairs
    this.queueSizes = [...Array(2 * queuePairs).fill(queueSize), CONTROL_QUEUE_SIZE]
    this.deviceFeatures =
      features |
      VIRTIO_NET_F.MAC |
      VIRTIO_NET_F.STATUS |
      VIRTIO_NET_F.CTRL_VQ |
      VIRTIO_NET_F.CTRL_MAC_ADDR |
      VIRTIO_NET_F.GUEST_ANNOUNCE |
      (queuePairs > 1 ? VIRTIO_NET_F.MQ : 0n) |
      (mtu === undefined ? 0n : VIRTIO_NET_F.MTU)
    this.config.set(this.#mac, VIRTIO_NET_CONFIG.mac)
    this.#setConfig(VIRTIO_NET_CONFIG.status, link ? VIRTIO_NET_S.LINK_UP : 0)
    this.#setConfig(VIRTIO_NET_CONFIG.maxVirtqueuePairs, queuePairs)
    this.#setConfig(VIRTIO_NET_CONFIG.mtu, mtu ?? 0)
  }

  /** The address that the guest uses: the device's, or another that its driver has chosen. */
  get mac(): string {
    return formatMac(this.config.subarray(VIRTIO_NET_CONFIG.mac, VIRTIO_NET_CONFIG.mac + 6))
  }

  /** Whether the cable is plugged in. Without, no frame passes, and the guest knows. */
  get link(): boolean {
    return (this.#status & VIRTIO_NET_S.LINK_UP) !== 0
  }

  set link(up: boolean) {
    if (up === this.link) return
    this.#changeStatus(VIRTIO_NET_S.LINK_UP, up)
    this.linkChanged(up)
  }

  /** Asks the guest to announce itself, by gratuitous ARP for one: after it was moved elsewhere. */
  announce(): void {
    this.#changeStatus(VIRTIO_NET_S.ANNOUNCE, true)
  }

  /** Frames from the guest. */
  abstract get transmitted(): NetStatistics
  /** Frames to the guest. */
  abstract get received(): NetStatistics

  /** Begins to move frames. */
  protected abstract startQueues(context: VirtioContext): void
  /** A receive (even index) or transmit queue was notified. */
  protected abstract queueNotified(queueIndex: number): void
  /** Moves frames through so many pairs. */
  protected abstract usePairs(pairs: number): void
  /** Of the negotiated offloads for the guest, uses these; false when they cannot be. */
  protected abstract useGuestOffloads(offloads: bigint): boolean
  /** The cable was plugged in or out. */
  protected abstract linkChanged(up: boolean): void

  /** Which frames the guest wants. */
  protected get filter(): ReceiveFilter {
    return this.#filter
  }

  override activate(context: VirtioContext): void {
    const has = (feature: bigint) => (context.features & feature) !== 0n
    this.#filter = new ReceiveFilter(this.#mac)
    if (has(VIRTIO_NET_F.CTRL_VLAN)) this.#filter.filterVlans()
    // Its place depends on what was negotiated (§5.1.2).
    const pairs = has(VIRTIO_NET_F.MQ) ? this.queuePairs : 1
    this.#controlIndex = has(VIRTIO_NET_F.CTRL_VQ) ? 2 * pairs : -1
    this.startQueues(context)
  }

  override notify(queueIndex: number): void {
    if (queueIndex === this.#controlIndex) super.notify(queueIndex)
    else this.queueNotified(queueIndex)
  }

  /** Serves the control queue. */
  protected override handle(chain: DescriptorChain): number {
    const command = chain.readAll(MAX_CONTROL_COMMAND)
    chain.write(new Uint8Array([controlCommand(this.#controls, command)]))
    return 1
  }

  override reset(): void | Promise<void> {
    this.config.set(this.#mac, VIRTIO_NET_CONFIG.mac)
    this.#setConfig(VIRTIO_NET_CONFIG.status, this.#status & ~VIRTIO_NET_S.ANNOUNCE)
  }

  get #controls(): NetControls {
    return {
      filter: this.#filter,
      features: this.context?.features ?? 0n,
      setMac: (mac) => this.config.set(mac, VIRTIO_NET_CONFIG.mac),
      announced: () => this.#changeStatus(VIRTIO_NET_S.ANNOUNCE, false),
      setQueuePairs: (pairs) => {
        if (pairs > this.queuePairs) return false
        this.usePairs(pairs)
        return true
      },
      setGuestOffloads: (offloads) => this.useGuestOffloads(offloads),
    }
  }

  get #status(): number {
    return this.config[VIRTIO_NET_CONFIG.status]!
  }

  #changeStatus(bit: number, on: boolean): void {
    this.#setConfig(VIRTIO_NET_CONFIG.status, on ? this.#status | bit : this.#status & ~bit)
    this.context?.configChanged()
  }

  #setConfig(offset: number, value: number): void {
    new DataView(this.config.buffer).setUint16(offset, value, true)
  }
}

function checkRange(what: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return
  throw outOfRange(`a network device has ${least} to ${most} ${what}, not ${value}`)
}
