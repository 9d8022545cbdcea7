// A driver that a test plays, for a device in this process: rings in real guest RAM, no guest and no
// transport. It does what a driver may do, and in `memory` whatever none may.

import { GuestMemory } from '../../src/core/memory.js'
import type { Doorbell, MemoryPart, QueueLayout, VirtioDevice } from '../../src/devices/index.js'
import { Activation, type ActivationOwner } from '../../src/devices/virtio/activation.js'
import { VIRTIO_F } from '../../src/devices/virtio/virtio-numbers.js'
import { type DriverRing, driverRing, ringBytes, ringLayout } from './virtio-rings.js'

/** The most bytes of one buffer. */
export const SLOT = 0x1_0000
const SIZE = 64
const RINGS = Math.ceil(ringBytes(SIZE) / 0x1000) * 0x1000

interface Queue {
  readonly ring: DriverRing
  readonly freeSlots: number[]
  /** By id: the slots, and what the device may write. */
  readonly out: Map<number, { readonly slots: readonly number[]; readonly writable: MemoryPart[] }>
}

/** A buffer that the device is done with. */
export interface UsedRequest {
  readonly id: number
  /** What the device wrote. */
  readonly bytes: Buffer
}

/** What {@link DeviceDriver} takes. */
export interface DeviceDriverOptions {
  /** Feature bits that are agreed on; all of the device's and the event index unless said. */
  readonly features?: bigint
  /** Numbers of the queues that are set up; all unless said. */
  readonly queues?: readonly number[]
}

/** A device at work, with its driver. */
export class DeviceDriver implements Disposable {
  readonly memory: GuestMemory
  readonly device: VirtioDevice
  /** What the device failed with. */
  readonly failures: unknown[] = []
  /** How often each queue's interrupt was raised. */
  readonly interrupts: number[]
  configChanges = 0
  readonly #queues: (Queue | undefined)[]
  readonly #activation: Activation

  constructor(device: VirtioDevice, options: DeviceDriverOptions = {}) {
    const count = device.queueSizes.length
    const features = options.features ?? device.deviceFeatures | VIRTIO_F.eventIdx
    const used = new Set(options.queues ?? device.queueSizes.keys())
    const area = RINGS + SIZE * SLOT
    this.device = device
    this.memory = GuestMemory.create(count * area)
    this.interrupts = new Array<number>(count).fill(0)
    this.#queues = Array.from(device.queueSizes, (_, index) => {
      if (!used.has(index)) return undefined
      const gpa = index * area
      const ring = driverRing(this.memory, layoutOf(gpa, index, features))
      const freeSlots = Array.from({ length: SIZE }, (_, i) => gpa + RINGS + i * SLOT)
      return { ring, freeSlots, out: new Map() }
    })
    this.#activation = new Activation(this.#owner, features, this.layouts)
    this.#activation.start()
  }

  get #owner(): ActivationOwner {
    return {
      device: this.device,
      host: {
        memory: this.memory,
        messageInterrupt: () => {
          throw new Error('there is no PCI here')
        },
        createDoorbell,
        hold: () => {},
        onFailure: () => {},
      },
      doorbellPlace: () => undefined,
      interruptQueue: (index) => {
        this.interrupts[index]!++
      },
      interruptEvent: () => undefined,
      configChanged: () => {
        this.configChanges++
      },
      failed: (error) => this.failures.push(error),
    }
  }

  /** Where the queues are. */
  get layouts(): readonly (QueueLayout | undefined)[] {
    return this.#queues.map((queue) => queue?.ring.layout)
  }

  /**
   * Makes a request available without a notification.
   *
   * @param writable What the device may write: so many bytes of the driver's choice, or where
   */
  add(
    index: number,
    readable: readonly Uint8Array[],
    writable: readonly (number | MemoryPart)[] = [],
  ): void {
    const { ring, freeSlots, out } = this.#queues[index]!
    const slots = freeSlots.splice(0, readable.length + writable.length)
    const parts = [...readable, ...writable].map((part, i): MemoryPart => {
      const gpa = slots[i]
      if (gpa === undefined) throw new Error('no slot is free')
      if (part instanceof Uint8Array) this.memory.write(gpa, part)
      if (typeof part === 'object' && 'gpa' in part) return part
      return { gpa, length: typeof part === 'number' ? part : part.length }
    })
    const readableParts = parts.slice(0, readable.length)
    const writableParts = parts.slice(readable.length)
    const id = ring.add({ readable: readableParts, writable: writableParts })
    if (id === undefined) throw new Error('the ring is full')
    out.set(id, { slots, writable: writableParts })
  }

  /** Notifies the device, whether it wants that or not. */
  kick(index: number): void {
    this.#activation.ring(index)
  }

  /** Makes a request available, and notifies the device if it wants that. */
  send(
    index: number,
    readable: readonly Uint8Array[],
    writable: readonly (number | MemoryPart)[] = [],
  ): void {
    this.add(index, readable, writable)
    this.#kickIfWanted(index)
  }

  /** Gives the device `count` buffers to write to. */
  fill(index: number, count: number, length: number): void {
    for (let i = 0; i < count; i++) this.add(index, [], [length])
    this.#kickIfWanted(index)
  }

  #kickIfWanted(index: number): void {
    if (this.#queues[index]!.ring.needsKick()) this.kick(index)
  }

  /** Takes back what the device is done with. */
  used(index: number): UsedRequest[] {
    const { ring, freeSlots, out } = this.#queues[index]!
    const taken: UsedRequest[] = []
    for (let used = ring.takeUsed(); used !== undefined; used = ring.takeUsed()) {
      const { id, length } = used
      const { slots, writable } = out.get(id)!
      const bytes = Buffer.concat(writable.map((part) => this.memory.read(part.gpa, part.length)))
      taken.push({ id, bytes: bytes.subarray(0, length) })
      out.delete(id)
      freeSlots.push(...slots)
    }
    return taken
  }

  /** Requests that the device has not given back. */
  out(index: number): number {
    return this.#queues[index]!.out.size
  }

  /** Resets the device, as its driver may at any time. */
  async reset(): Promise<void> {
    this.#activation.end()
    await this.device.stop()
    this.#activation.close()
  }

  [Symbol.dispose](): void {
    this.memory.close()
  }
}

function layoutOf(gpa: number, index: number, features: bigint): QueueLayout {
  const has = (bit: bigint) => (features & bit) !== 0n
  return ringLayout(gpa, SIZE, {
    index,
    packed: has(VIRTIO_F.ringPacked),
    eventIdx: has(VIRTIO_F.eventIdx),
  })
}

/** One that rings in the same moment. */
function createDoorbell(): Doorbell {
  let listener: (() => void) | undefined
  return {
    id: 0,
    place: () => {},
    ring: () => listener?.(),
    listen: (handler) => {
      listener = handler
    },
    close: () => {},
  }
}
