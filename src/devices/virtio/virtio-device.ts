// What a virtio device is, whatever bus it is on: a user's own extends this class, as ours do.

import type { DescriptorChain } from './descriptor-chain.js'
import type { DeviceMemory } from './device-memory.js'
import { RequestPump } from './request-pump.js'
import type { QueueLayout, Virtqueue } from './virtqueue.js'

/** A queue for whoever serves it outside of JavaScript. */
export interface QueueSetup extends QueueLayout {
  /** The driver's notifications: the id of an `EventFd`. */
  readonly kick: number
  /** Signal it to interrupt the driver, if the ring says it wants that: the id of an `EventFd`. */
  readonly call: number
}

/** What a device has while its driver is at work: from DRIVER_OK to the next reset. */
export interface VirtioContext {
  readonly memory: DeviceMemory
  /** The feature bits that both sides agreed on. */
  readonly features: bigint
  /** By index; undefined where the driver uses none, and where it was handed over. */
  readonly queues: readonly (Virtqueue | undefined)[]
  /**
   * Gives a queue away, to be served by native code: `notify` is not called for it.
   * To be called in `activate`.
   *
   * @returns undefined when the driver does not use the queue
   */
  handOver(queueIndex: number): QueueSetup | undefined
  /** Interrupts the driver if it wants to hear of what was pushed to the queue. */
  interrupt(queueIndex: number): void
  /** Tells the driver that the configuration space has changed. */
  configChanged(): void
  /**
   * Stops all queues until the driver resets the device, and tells the driver that it should. For a
   * `VirtqueueError`, and for errors of the device.
   */
  fail(error: unknown): void
}

const NO_CONFIG = new Uint8Array(0)

/**
 * A virtio device. The least that a subclass has: {@link name}, {@link deviceType}, {@link queueSizes},
 * and {@link handle}, which serves one request.
 *
 * Everything a driver writes is the guest's and may change while it is looked at. What these methods
 * throw, or reject with, ends in NEEDS_RESET and in the machine's event `deviceFailed`.
 */
export abstract class VirtioDevice {
  /** For messages. */
  abstract readonly name: string
  /** The device type of virtio 1.2 §5. */
  abstract readonly deviceType: number
  /** The most entries of each queue: powers of two, at most 32768. */
  abstract readonly queueSizes: readonly number[]
  /** Feature bits of the device itself, 0 to 23 and 50 on. Those of queues are the transport's. */
  readonly deviceFeatures: bigint = 0n
  /** Base class, sub-class and interface on PCI. */
  readonly pciClass: number = 0xff_0000
  /** The configuration space as the driver reads it. */
  readonly config: Uint8Array = NO_CONFIG
  #context: VirtioContext | undefined
  #pumps: (RequestPump | undefined)[] = []

  /** What there is while the driver is at work. */
  protected get context(): VirtioContext | undefined {
    return this.#context
  }

  /** Reads 1, 2 or 4 bytes of configuration space; behind its end are zeros. */
  readConfig(offset: number, size: number): number {
    let value = 0
    for (let i = size - 1; i >= 0; i--) value = value * 256 + (this.config[offset + i] ?? 0)
    return value
  }

  /** Gets what the driver writes to configuration space. Nothing is writable unless overridden. */
  writeConfig(_offset: number, _size: number, _value: number): void {}

  /** The driver has set the device up. Queues are served from when this returns. */
  activate(_context: VirtioContext): void {}

  /**
   * The driver has made something available in a queue. Hands each request to {@link handle}, unless
   * overridden.
   */
  notify(queueIndex: number): void {
    this.#pump(queueIndex)?.run()
  }

  /**
   * Serves one request. There may be as many at once as the queue has entries; what is to be done in
   * order must be kept in order here.
   *
   * @returns bytes written to the chain, from the first writable one on
   */
  protected handle(_chain: DescriptorChain, queueIndex: number): number | Promise<number> {
    throw new Error(`${this.name}: nobody serves queue ${queueIndex}`)
  }

  /**
   * The driver or the machine resets the device. When this has settled, nothing may touch guest memory
   * any more; chains that are still out are stale, and what is written to them goes nowhere.
   */
  reset(): void | Promise<void> {}

  /** The machine is paused. When this has settled, nothing touches guest memory. */
  async pause(): Promise<void> {
    await Promise.all(this.#pumps.map((pump) => pump?.pause()))
  }

  /** Ends {@link pause}. */
  resume(): void {
    for (const pump of this.#pumps) pump?.resume()
  }

  /** The machine is closed, after a last {@link reset}: files, sockets and memory are given back. */
  close(): void | Promise<void> {}

  /** @internal For transports. */
  start(context: VirtioContext): void {
    this.#context = context
    this.activate(context)
  }

  /** @internal For transports. */
  stop(): void | Promise<void> {
    this.#context = undefined
    for (const pump of this.#pumps) pump?.stop()
    this.#pumps = []
    return this.reset()
  }

  #pump(index: number): RequestPump | undefined {
    const context = this.#context
    const queue = context?.queues[index]
    if (context === undefined || queue === undefined) return undefined
    this.#pumps[index] ??= new RequestPump(queue, (chain) => this.handle(chain, index), context)
    return this.#pumps[index]
  }
}
