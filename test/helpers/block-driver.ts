// A driver of block devices in this process: what a guest's kernel does, by guest memory and eventfds.
// Only the registers of a transport are left out.

import {
  type Doorbell,
  type QueueLayout,
  SECTOR_SIZE,
  VIRTIO_BLK_T,
  VIRTIO_F,
  type VirtioDevice,
} from '../../src/devices/index.js'
import { Activation, type ActivationOwner } from '../../src/devices/virtio/activation.js'
import { EventFd, GuestMemory } from '../../src/index.js'
import { type DriverRing, driverRing, ringBytes, ringLayout } from './virtio-rings.js'

const MIB = 0x10_0000
/** Each request has so much memory of its own. */
const AREA = MIB / 2
const DATA = 0x1000
const AREAS_GPA = 4 * MIB

/** How a driver uses its device. */
export interface BlockDriverOptions {
  readonly queues?: number
  readonly queueSize?: number
  readonly packed?: boolean
  readonly eventIdx?: boolean
  readonly indirect?: boolean
  readonly inOrder?: boolean
  /** Bits that are not accepted. */
  readonly without?: bigint
  /** Requests at once. */
  readonly depth?: number
}

/** What became of a request. */
export interface BlockAnswer {
  readonly status: number
  /** Bytes that the device says it has written. */
  readonly written: number
  /** What it wrote before the status. */
  readonly data: Uint8Array
}

/** What to ask for. */
export interface BlockRequest {
  readonly type: number
  readonly sector?: number
  /** For the device to read. */
  readonly data?: Uint8Array
  /** Bytes for the device to write. */
  readonly room?: number
  /** Lengths of the parts that data or room come in; one part unless said. */
  readonly parts?: readonly number[]
  /** Where in its page the data begins. */
  readonly skew?: number
  readonly queue?: number
}

class EventDoorbell implements Doorbell {
  readonly event = EventFd.create()
  readonly id = this.event.id
  place(): void {}
  ring(): void {
    this.event.signal()
  }
  listen(handler: (() => void) | undefined): void {
    this.event.offSignal()
    if (handler !== undefined) this.event.onSignal(handler)
  }
  close(): void {
    this.event.close()
  }
}

interface Pending {
  readonly area: number
  readonly dataAt: number
  readonly request: BlockRequest
  readonly resolve: (answer: BlockAnswer) => void
}

/** A device at work. */
export class BlockDriver implements AsyncDisposable {
  readonly memory: GuestMemory
  readonly device: VirtioDevice
  /** What the device reported as its end. */
  readonly failures: unknown[] = []
  configChanges = 0
  interrupts = 0
  readonly features: bigint
  readonly rings: DriverRing[]
  readonly #activation: Activation
  readonly #calls: EventFd[]
  readonly #kicks: EventDoorbell[] = []
  readonly #free: number[]
  readonly #pending: Map<number, Pending>[]
  readonly #waiting: (() => void)[] = []

  constructor(device: VirtioDevice, options: BlockDriverOptions = {}) {
    const { queues = 1, queueSize = 16, depth = 32, without = 0n } = options
    const { packed = false, eventIdx = true, indirect = false, inOrder = false } = options
    this.device = device
    this.memory = GuestMemory.create(AREAS_GPA + depth * AREA)
    this.#free = Array.from({ length: depth }, (_, i) => AREAS_GPA + i * AREA)
    this.features = (device.deviceFeatures & ~without) | VIRTIO_F.version1
    const layouts = Array.from(
      { length: queues },
      (_, index): QueueLayout => ({
        ...ringLayout(
          0x1000 + index * Math.ceil(ringBytes(queueSize) / 0x1000) * 0x1000,
          queueSize,
          {
            ...{ packed, eventIdx, indirect, inOrder },
          },
        ),
        index,
      }),
    )
    this.#pending = layouts.map(() => new Map())
    this.#calls = layouts.map(({ index }) =>
      EventFd.create().onSignal((count) => {
        this.interrupts += count
        this.#collect(index)
      }),
    )
    this.rings = layouts.map((layout) => driverRing(this.memory, layout))
    this.#activation = new Activation(this.#owner(device), this.features, layouts)
    this.#activation.start()
  }

  #owner(device: VirtioDevice): ActivationOwner {
    return {
      device,
      host: {
        memory: this.memory,
        messageInterrupt: () => {
          throw new Error('no PCI here')
        },
        createDoorbell: () => {
          const doorbell = new EventDoorbell()
          this.#kicks.push(doorbell)
          return doorbell
        },
        hold: () => {},
        onFailure: (_, error) => this.failures.push(error),
      },
      doorbellPlace: () => undefined,
      interruptQueue: (index) => {
        this.#calls[index]!.signal()
      },
      interruptEvent: (index) => this.#calls[index]!.id,
      configChanged: () => {
        this.configChanges++
      },
      failed: (error) => this.failures.push(error),
    }
  }

  /** Notifies the device of what is in a queue. */
  kick(queue = 0): void {
    this.#kicks[queue]!.ring()
  }

  /** Makes a request, when there is room for it, and waits for its end. */
  async request(request: BlockRequest): Promise<BlockAnswer> {
    while (this.#free.length === 0 || !this.#hasRoom(request)) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    }
    return new Promise((resolve) => this.#submit(request, resolve))
  }

  #hasRoom({ queue = 0, parts = [0] }: BlockRequest): boolean {
    let used = 0
    const { size, indirect } = this.rings[queue]!.layout
    for (const { request } of this.#pending[queue]!.values()) {
      used += indirect ? 1 : 2 + (request.parts?.length ?? 1)
    }
    return used + (indirect ? 1 : 2 + parts.length) <= size
  }

  #submit(request: BlockRequest, resolve: (answer: BlockAnswer) => void): void {
    const { type, sector = 0, data, room = 0, queue = 0, skew = 0 } = request
    const area = this.#free.pop()!
    const ring = this.rings[queue]!
    const { memory } = this
    memory.writeU32(area, type)
    memory.writeU32(area + 4, 0)
    memory.writeU64(area + 8, BigInt(sector))
    memory.writeU8(area + 16, 0xee)
    const dataAt = area + DATA + skew
    const length = data?.length ?? room
    if (data !== undefined) memory.write(dataAt, data)
    const lengths = request.parts ?? (length > 0 ? [length] : [])
    let at = dataAt
    const pieces = lengths.map((each) => {
      const piece = { gpa: at, length: each }
      at += each
      return piece
    })
    const header = { gpa: area, length: 16 }
    const status = { gpa: area + 16, length: 1 }
    const id = ring.add({
      readable: data === undefined ? [header] : [header, ...pieces],
      writable: data === undefined ? [...pieces, status] : [status],
      ...(ring.layout.indirect ? { tableGpa: area + 0x100 } : {}),
    })
    if (id === undefined) throw new Error('the ring is full')
    this.#pending[queue]!.set(id, { area, dataAt, request, resolve })
    if (ring.needsKick()) this.kick(queue)
  }

  #collect(queue: number): void {
    for (let used = this.#take(queue); used !== undefined; used = this.#take(queue)) {
      const pending = this.#pending[queue]!.get(used.id)!
      this.#pending[queue]!.delete(used.id)
      const { area, dataAt, request, resolve } = pending
      const length = request.data === undefined ? (request.room ?? 0) : 0
      const data = this.memory.read(dataAt, length)
      this.#free.push(area)
      resolve({ status: this.memory.readU8(area + 16), written: used.length, data })
    }
    for (const wake of this.#waiting.splice(0)) wake()
  }

  #take(queue: number) {
    return this.rings[queue]!.takeUsed()
  }

  read(sector: number, length: number, more: Partial<BlockRequest> = {}): Promise<BlockAnswer> {
    return this.request({ type: VIRTIO_BLK_T.in, sector, room: length, ...more })
  }

  write(sector: number, data: Uint8Array, more: Partial<BlockRequest> = {}): Promise<BlockAnswer> {
    return this.request({ type: VIRTIO_BLK_T.out, sector, data, ...more })
  }

  async flush(): Promise<number> {
    return (await this.request({ type: VIRTIO_BLK_T.flush })).status
  }

  /** A discard, or a write of zeros, of so many bytes. */
  async range(type: number, sector: number, bytes: number, flags = 0): Promise<number> {
    const data = new DataView(new ArrayBuffer(16))
    data.setBigUint64(0, BigInt(sector), true)
    data.setUint32(8, bytes / SECTOR_SIZE, true)
    data.setUint32(12, flags, true)
    return (await this.request({ type, data: new Uint8Array(data.buffer) })).status
  }

  /** Hears of no request's end any more. */
  offInterrupts(): void {
    for (const call of this.#calls) call.offSignal()
  }

  /** The driver resets its device. Resolves when that touches memory no more. */
  async reset(): Promise<void> {
    this.offInterrupts()
    this.#activation.end()
    await this.device.stop()
    this.#activation.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.reset()
    await this.device.close()
    for (const call of this.#calls) call.close()
    this.memory.close()
  }
}
