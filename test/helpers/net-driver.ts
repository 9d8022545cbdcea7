// A driver for virtio's network device, over PCI with MSI-X.

import { type QueueLayout, VIRTIO_F, VIRTIO_NET_F } from '../../src/devices/index.js'
import { EDGE_VECTOR, PUPPET_FREE_GPA, type Puppet } from './puppet.js'
import { initialize, PciDriver } from './virtio-driver.js'
import { type DriverRing, driverRing, ringBytes, ringLayout } from './virtio-rings.js'

const ECAM_GPA = 0xe800_0000
const HEADER_SIZE = 12
const TRANSMIT_SIZE = 0x1_1000
const CONTROL_SIZE = 0x1000

/** What a driver of a test wants. */
export interface NetDriverOptions {
  /** Features beside VERSION_1; those that the device has are agreed on. */
  readonly features?: bigint
  readonly pairs?: number
  /** Bytes of each receive buffer. */
  readonly bufferSize?: number
  /** Receive buffers of each queue, two entries each; as many as it holds unless said. */
  readonly buffers?: number
  /** Entries of each queue. */
  readonly queueSize?: number
}

/** Features of queues that the driver knows. */
export const RING_FEATURES = VIRTIO_F.eventIdx | VIRTIO_F.indirectDesc

/** The header before each frame. */
export interface NetHeader {
  readonly flags?: number
  readonly gsoType?: number
  readonly headerLength?: number
  readonly gsoSize?: number
  readonly csumStart?: number
  readonly csumOffset?: number
}

/** One device, driven by the test. */
export class NetDriver {
  readonly driver: PciDriver
  /** Agreed on. */
  features = 0n
  readonly #puppet: Puppet
  readonly #options: Required<NetDriverOptions>
  #rings: DriverRing[] = []
  readonly #buffers = new Map<string, number>()
  #free = 0

  private constructor(puppet: Puppet, driver: PciDriver, options: NetDriverOptions) {
    this.#puppet = puppet
    this.driver = driver
    const { queueSize = 32 } = options
    const defaults = {
      features: RING_FEATURES,
      pairs: 1,
      bufferSize: 1526,
      buffers: queueSize >> 1,
    }
    this.#options = { ...defaults, ...options, queueSize }
  }

  /** Sets the device in PCI slot 1 up and fills its receive queues. */
  static async start(puppet: Puppet, options: NetDriverOptions = {}): Promise<NetDriver> {
    const driver = await PciDriver.find(puppet, ECAM_GPA, 1)
    const net = new NetDriver(puppet, driver, options)
    await net.restart()
    return net
  }

  /** Resets the device and sets it up again. */
  async restart(): Promise<void> {
    const { pairs, features, queueSize } = this.#options
    const queues = 2 * pairs + 1
    this.#free = PUPPET_FREE_GPA
    this.#buffers.clear()
    await this.driver.useMsix(EDGE_VECTOR, queues)
    const wanted = features | VIRTIO_F.version1
    this.features = await initialize(this.driver, wanted, (agreed) => {
      const has = (bit: bigint) => (agreed & bit) !== 0n
      const last = has(VIRTIO_NET_F.CTRL_VQ) ? 2 * (has(VIRTIO_NET_F.MQ) ? pairs : 1) : -1
      const indices = Array.from({ length: queues }, (_, i) => i).filter(
        (i) => i === last || i < 2 * (has(VIRTIO_NET_F.MQ) ? pairs : 1),
      )
      const layouts: QueueLayout[] = indices.map((index) =>
        ringLayout(this.#allocate(ringBytes(queueSize)), queueSize, {
          index,
          packed: has(VIRTIO_F.ringPacked),
          eventIdx: has(VIRTIO_F.eventIdx),
          indirect: has(VIRTIO_F.indirectDesc),
          inOrder: has(VIRTIO_F.inOrder),
        }),
      )
      this.#rings = layouts.map((layout) => driverRing(this.#puppet.machine.memory, layout))
      return layouts
    })
    await this.driver.chooseVectors(queues)
    for (let pair = 0; pair < this.#pairs; pair++) {
      for (let i = 0; i < this.#options.buffers; i++) {
        this.#addBuffer(pair, this.#allocate(this.#options.bufferSize))
      }
      await this.#kick(2 * pair)
    }
  }

  get #pairs(): number {
    return this.#rings.length >> 1
  }

  #allocate(size: number): number {
    const gpa = this.#free
    this.#free += (size + 0xfff) & ~0xfff
    return gpa
  }

  #addBuffer(pair: number, gpa: number): void {
    const { bufferSize } = this.#options
    // In two parts, the first of which ends within the header.
    const id = this.#rings[2 * pair]!.add({ writable: parts(gpa, bufferSize, 11) })
    if (id === undefined) throw new Error('no room for a receive buffer')
    this.#buffers.set(`${pair}/${id}`, gpa)
  }

  async #kick(queue: number): Promise<void> {
    if (this.#rings[queue]!.needsKick()) await this.driver.notify(queue)
  }

  /** Makes a frame available without waiting for the device; false when the queue is full. */
  async post(frame: Uint8Array, header: NetHeader = {}, pair = 0): Promise<boolean> {
    const { memory } = this.#puppet.machine
    const gpa = 0xc0_0000 + ((this.#posted++ % 32) * TRANSMIT_SIZE) / 2
    memory.write(gpa, encodeHeader(header))
    memory.write(gpa + HEADER_SIZE, frame)
    const readable = parts(gpa, HEADER_SIZE + frame.length, 20)
    if (this.#rings[2 * pair + 1]!.add({ readable }) === undefined) return false
    await this.#kick(2 * pair + 1)
    return true
  }
  #posted = 0

  /** How many frames the device has given back since the last call. */
  sent(pair = 0): number {
    let count = 0
    while (this.#rings[2 * pair + 1]!.takeUsed() !== undefined) count++
    return count
  }

  /** Sends a frame and waits until the device has taken it. */
  async send(frame: Uint8Array, header: NetHeader = {}, pair = 0): Promise<void> {
    if (!(await this.post(frame, header, pair))) throw new Error('the transmit queue is full')
    await this.#puppet.until('a frame to be taken', () => this.sent(pair) > 0)
  }

  /** The next frame that has come, with its header. */
  take(pair = 0): { header: Uint8Array; frame: Uint8Array } | undefined {
    const ring = this.#rings[2 * pair]!
    const pieces: Uint8Array[] = []
    let left = 1
    for (let first = true; left > 0; left--, first = false) {
      const used = ring.takeUsed()
      if (used === undefined) {
        if (first) return undefined
        throw new Error('a part of a frame is missing')
      }
      const gpa = this.#buffers.get(`${pair}/${used.id}`)!
      pieces.push(this.#puppet.machine.memory.read(gpa, used.length))
      if (first) left = new DataView(pieces[0]!.buffer).getUint16(10, true)
      this.#buffers.delete(`${pair}/${used.id}`)
      this.#addBuffer(pair, gpa)
    }
    const bytes = Buffer.concat(pieces)
    return {
      header: new Uint8Array(bytes.subarray(0, HEADER_SIZE)),
      frame: new Uint8Array(bytes.subarray(HEADER_SIZE)),
    }
  }

  /** Waits for the next frame that `wanted` is true for; others are dropped. */
  async receive(
    wanted: (frame: Uint8Array) => boolean = () => true,
    pair = 0,
  ): Promise<{ header: Uint8Array; frame: Uint8Array }> {
    for (;;) {
      let found: ReturnType<NetDriver['take']>
      await this.#puppet.until('a frame', () => {
        found = this.take(pair)
        return found !== undefined
      })
      // The buffers that are available again may be what the next frame waits for.
      await this.#kick(2 * pair)
      if (wanted(found!.frame)) return found!
    }
  }

  /** Tells the device of buffers that were made available again. */
  async refill(pair = 0): Promise<void> {
    await this.#kick(2 * pair)
  }

  /** A command by the control queue. @returns The answer. */
  async control(kind: number, number: number, ...data: number[]): Promise<number> {
    const { memory } = this.#puppet.machine
    const queue = this.#rings.length - 1
    const gpa = this.#allocate(CONTROL_SIZE)
    const command = new Uint8Array([kind, number, ...data])
    memory.write(gpa, command)
    memory.writeU8(gpa + 0x800, 0xff)
    this.#rings[queue]!.add({
      readable: parts(gpa, command.length, 2),
      writable: [{ gpa: gpa + 0x800, length: 1 }],
    })
    await this.driver.notify(this.#rings[queue]!.layout.index)
    await this.#puppet.until('an answer', () => this.#rings[queue]!.takeUsed() !== undefined)
    return memory.readU8(gpa + 0x800)
  }

  /** Interrupts of a queue. */
  interrupts(queue: number): number {
    return this.#puppet.interrupts(EDGE_VECTOR + queue)
  }
}

function parts(gpa: number, length: number, first: number) {
  if (length <= first) return [{ gpa, length }]
  return [
    { gpa, length: first },
    { gpa: gpa + first, length: length - first },
  ]
}

function encodeHeader(header: NetHeader): Uint8Array {
  const { flags = 0, gsoType = 0, headerLength = 0, gsoSize = 0 } = header
  const { csumStart = 0, csumOffset = 0 } = header
  const view = new DataView(new ArrayBuffer(HEADER_SIZE))
  view.setUint8(0, flags)
  view.setUint8(1, gsoType)
  ;[headerLength, gsoSize, csumStart, csumOffset].forEach((value, i) => {
    view.setUint16(2 + 2 * i, value, true)
  })
  return new Uint8Array(view.buffer)
}
