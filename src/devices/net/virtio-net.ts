// A network device whose frames go through JavaScript: to a switch, a socket, or a program.

import type { DescriptorChain } from '../virtio/descriptor-chain.js'
import type { VirtioContext } from '../virtio/virtio-device.js'
import type { Virtqueue } from '../virtio/virtqueue.js'
import { VirtqueueError } from '../virtio/virtqueue-error.js'
import { ETHERNET_HEADER_SIZE, MAX_FRAME_SIZE } from './ethernet.js'
import { FlowTable } from './flow-table.js'
import type { NetBackend } from './net-backend.js'
import { type NetStatistics, NetworkDevice, type NetworkDeviceOptions } from './network-device.js'
import { RateGate } from './rate-gate.js'
import { ReceiveBuffers } from './receive-buffers.js'
import { VIRTIO_NET_F, VIRTIO_NET_HEADER_SIZE } from './virtio-net-features.js'

const FEATURES =
  VIRTIO_NET_F.MRG_RXBUF |
  VIRTIO_NET_F.CTRL_RX |
  VIRTIO_NET_F.CTRL_RX_EXTRA |
  VIRTIO_NET_F.CTRL_VLAN

/** A frame of the guest that the back end did not take yet. */
interface Held {
  readonly chain: DescriptorChain
  readonly frame: Uint8Array
}

/** A transmit queue. */
interface Transmitter {
  readonly queue: Virtqueue
  held: Held | undefined
  isDue: boolean
}

/** Counters that {@link NetStatistics} shows. */
const counters = () => ({ frames: 0, bytes: 0, dropped: 0 })

/**
 * A network device with a back end in JavaScript:
 *
 * ```ts
 * const bridge = new EthernetSwitch()
 * new VirtioNet(bridge.port(), { mac: '52:54:00:00:00:01' })
 * ```
 *
 * It has no offloads: each frame is one of the wire.
 */
export class VirtioNet extends NetworkDevice {
  override readonly name = 'virtio-net'
  readonly #backend: NetBackend
  readonly #flows = new FlowTable()
  readonly #transmitted = counters()
  readonly #received = counters()
  readonly #transmitGate: RateGate
  readonly #receiveGate: RateGate
  #receivers: (ReceiveBuffers | undefined)[] = []
  #transmitters: (Transmitter | undefined)[] = []
  #pairs = 1
  #paused = false
  #isTransmitting = false

  constructor(backend: NetBackend, options: NetworkDeviceOptions = {}) {
    super(FEATURES, options)
    this.#backend = backend
    this.#transmitGate = new RateGate(options.transmitLimits ?? {}, () => this.#transmitAll())
    this.#receiveGate = new RateGate(options.receiveLimits ?? {}, () => this.#backend.resume())
    backend.connect({
      receive: (frame) => this.#receive(frame),
      resume: () => this.#transmitAll(),
      setLink: (up) => {
        this.link = up
      },
    })
  }

  override get transmitted(): NetStatistics {
    return { ...this.#transmitted }
  }

  override get received(): NetStatistics {
    return { ...this.#received }
  }

  protected override startQueues({ queues, features }: VirtioContext): void {
    const mergeable = (features & VIRTIO_NET_F.MRG_RXBUF) !== 0n
    const each = Array.from({ length: this.queuePairs }, (_, i) => i)
    this.#receivers = each.map((i) => {
      const queue = queues[2 * i]
      return queue && new ReceiveBuffers(queue, mergeable)
    })
    this.#transmitters = each.map((i) => {
      const queue = queues[2 * i + 1]
      return queue && { queue, held: undefined, isDue: false }
    })
    this.#pairs = 1
    // Frames may have waited for a driver.
    setImmediate(() => this.#backend.resume())
  }

  protected override queueNotified(queueIndex: number): void {
    if (queueIndex % 2 === 0) this.#backend.resume()
    else this.#transmit((queueIndex - 1) / 2)
  }

  protected override usePairs(pairs: number): void {
    this.#pairs = pairs
    this.#flows.clear()
  }

  protected override useGuestOffloads(offloads: bigint): boolean {
    return offloads === 0n
  }

  protected override linkChanged(): void {
    this.#transmitAll()
  }

  override reset(): void | Promise<void> {
    this.#receivers = []
    this.#transmitters = []
    return super.reset()
  }

  override async pause(): Promise<void> {
    this.#paused = true
    await super.pause()
  }

  override resume(): void {
    this.#paused = false
    super.resume()
    this.#transmitAll()
    this.#backend.resume()
  }

  override close(): void {
    this.#transmitGate.close()
    this.#receiveGate.close()
    this.#backend.close()
  }

  /** Whether the frame is dealt with; false: later. */
  #receive(frame: Uint8Array): boolean {
    const context = this.context
    if (context === undefined || this.#paused) return false
    if (frame.length < ETHERNET_HEADER_SIZE || frame.length > MAX_FRAME_SIZE || !this.link) {
      this.#received.dropped++
      return true
    }
    if (!this.filter.accepts(frame)) return true
    if (!this.#receiveGate.isOpen()) return false
    const pair = this.#pairs === 1 ? 0 : this.#flows.pairOf(frame, this.#pairs)
    const receiver = this.#receivers[pair]
    if (receiver === undefined) return false
    try {
      const outcome = receiver.put(frame)
      if (outcome === 'later') return false
      if (outcome === 'tooLarge') this.#received.dropped++
      else this.#count(this.#received, frame)
    } catch (error) {
      context.fail(error)
      return false
    }
    this.#receiveGate.passed(frame.length)
    context.interrupt(2 * pair)
    return true
  }

  #transmitAll(): void {
    for (let pair = 0; pair < this.#transmitters.length; pair++) this.#transmit(pair)
  }

  /** A back end may call back while it is given a frame: the round that goes on sees to that. */
  #transmit(pair: number): void {
    const { context } = this
    const transmitter = this.#transmitters[pair]
    if (context === undefined || transmitter === undefined || this.#paused) return
    if (this.#isTransmitting) {
      this.#transmitLater(transmitter, pair)
      return
    }
    this.#isTransmitting = true
    try {
      if (this.#transmitRound(transmitter, pair)) this.#transmitLater(transmitter, pair)
    } catch (error) {
      context.fail(error)
    } finally {
      this.#isTransmitting = false
    }
    context.interrupt(2 * pair + 1)
  }

  #transmitLater(transmitter: Transmitter, pair: number): void {
    if (transmitter.isDue) return
    transmitter.isDue = true
    setImmediate(() => {
      transmitter.isDue = false
      if (this.#transmitters[pair] === transmitter) this.#transmit(pair)
    })
  }

  /** As many frames as the queue has entries. @returns Whether there may be more. */
  #transmitRound(transmitter: Transmitter, pair: number): boolean {
    const { queue } = transmitter
    queue.disableNotifications()
    for (let i = 0; i < queue.size; i++) {
      const next = transmitter.held ?? this.#take(queue)
      if (next === undefined) {
        if (!queue.enableNotifications()) return false
        queue.disableNotifications()
        continue
      }
      if (!this.#send(next.frame, pair)) {
        transmitter.held = next
        return false
      }
      transmitter.held = undefined
      queue.push(next.chain, 0)
    }
    return true
  }

  #take(queue: Virtqueue): Held | undefined {
    const chain = queue.pop()
    if (chain === undefined) return undefined
    const length = chain.readableLength - VIRTIO_NET_HEADER_SIZE
    if (length <= 0) throw new VirtqueueError('a frame without a header')
    // Of what is too long to be a frame only that is kept.
    const frame = length > MAX_FRAME_SIZE ? NOTHING : chain.read(VIRTIO_NET_HEADER_SIZE, length)
    return { chain, frame }
  }

  /** Whether the frame is dealt with. */
  #send(frame: Uint8Array, pair: number): boolean {
    if (frame.length < ETHERNET_HEADER_SIZE || !this.link) {
      this.#transmitted.dropped++
      return true
    }
    if (!this.#transmitGate.isOpen() || !this.#backend.transmit(frame)) return false
    this.#transmitGate.passed(frame.length)
    if (this.#pairs > 1) this.#flows.sent(frame, pair)
    this.#count(this.#transmitted, frame)
    return true
  }

  #count(counts: { frames: number; bytes: number }, frame: Uint8Array): void {
    counts.frames++
    counts.bytes += frame.length
  }
}

const NOTHING = new Uint8Array(0)
