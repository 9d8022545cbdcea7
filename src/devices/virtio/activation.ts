// A device between DRIVER_OK and reset: its queues, the doorbells that lead to them, the way back.

import type { DeviceMemory } from './device-memory.js'
import type { Doorbell, DoorbellPlace, VirtioHost } from './doorbell.js'
import { PackedVirtqueue } from './packed-virtqueue.js'
import { SplitVirtqueue } from './split-virtqueue.js'
import type { QueueSetup, VirtioContext, VirtioDevice } from './virtio-device.js'
import type { QueueLayout, RingQueue } from './virtqueue.js'

/** The transport as an activation sees it. */
export interface ActivationOwner {
  readonly device: VirtioDevice
  readonly host: VirtioHost
  /** Where the driver notifies a queue. */
  doorbellPlace(queueIndex: number): DoorbellPlace | undefined
  /** Interrupts the driver for a queue. */
  interruptQueue(queueIndex: number): void
  /** The event that does the same from anywhere, where there is one. */
  interruptEvent(queueIndex: number): number | undefined
  /** The configuration has changed. */
  configChanged(): void
  /** The device cannot go on. */
  failed(error: unknown): void
}

/** {@link VirtioContext}, and what the transport does with it. */
export class Activation implements VirtioContext {
  readonly memory: DeviceMemory
  readonly features: bigint
  readonly queues: (RingQueue | undefined)[]
  readonly #owner: ActivationOwner
  readonly #layouts: readonly (QueueLayout | undefined)[]
  readonly #doorbells: (Doorbell | undefined)[]
  readonly #calls: Doorbell[] = []
  #over = false

  /** @throws VirtqueueError when a queue is not where a queue can be */
  constructor(
    owner: ActivationOwner,
    features: bigint,
    layouts: readonly (QueueLayout | undefined)[],
  ) {
    const { host } = owner
    this.memory = host.memory
    this.features = features
    this.#owner = owner
    this.#layouts = layouts
    this.queues = layouts.map((layout) => {
      if (layout === undefined) return undefined
      const Queue = layout.packed ? PackedVirtqueue : SplitVirtqueue
      return new Queue(host.memory, layout)
    })
    this.#doorbells = layouts.map((layout) => layout && host.createDoorbell())
  }

  /** Lets the device begin. */
  start(): void {
    try {
      this.#owner.device.start(this)
    } catch (error) {
      this.fail(error)
    }
    this.placeDoorbells()
    this.listen()
  }

  handOver(queueIndex: number): QueueSetup | undefined {
    const layout = this.#layouts[queueIndex]
    const kick = this.#doorbells[queueIndex]?.id
    if (layout === undefined || kick === undefined) return undefined
    this.queues[queueIndex]?.close()
    this.queues[queueIndex] = undefined
    const call = this.#owner.interruptEvent(queueIndex) ?? this.#callOf(queueIndex)
    return { ...layout, kick, call }
  }

  /** An interrupt that goes by way of JavaScript. */
  #callOf(queueIndex: number): number {
    const call = this.#owner.host.createDoorbell()
    call.listen(() => this.#owner.interruptQueue(queueIndex))
    this.#calls.push(call)
    return call.id
  }

  interrupt(queueIndex: number): void {
    if (this.#over) return
    if (this.queues[queueIndex]?.needsInterrupt()) this.#owner.interruptQueue(queueIndex)
  }

  configChanged(): void {
    if (!this.#over) this.#owner.configChanged()
  }

  fail(error: unknown): void {
    if (this.#over) return
    this.#stop()
    this.#owner.failed(error)
  }

  /** The driver's notification came as an access after all. */
  ring(queueIndex: number): void {
    this.#doorbells[queueIndex]?.ring()
  }

  /** Brings the doorbells to where the driver rings them now. */
  placeDoorbells(): void {
    this.#doorbells.forEach((doorbell, i) => {
      doorbell?.place(this.#owner.doorbellPlace(i))
    })
  }

  /** Hears what is rung, also what was rung while nobody did. */
  listen(): void {
    this.queues.forEach((queue, i) => {
      if (queue === undefined || this.#over) return
      this.#doorbells[i]?.listen(() => this.#notify(i))
    })
  }

  /** Lets what is rung wait. */
  unlisten(): void {
    for (const [i, queue] of this.queues.entries()) {
      if (queue !== undefined) this.#doorbells[i]?.listen(undefined)
    }
  }

  #notify(queueIndex: number): void {
    try {
      this.#owner.device.notify(queueIndex)
    } catch (error) {
      this.fail(error)
    }
  }

  #stop(): void {
    this.#over = true
    this.unlisten()
    for (const queue of this.queues) queue?.close()
  }

  /** The end, before the device hears of it: no queue gives or takes any more. */
  end(): void {
    this.#stop()
  }

  /** After the device has let go. */
  close(): void {
    for (const each of [...this.#doorbells, ...this.#calls]) each?.close()
  }
}
