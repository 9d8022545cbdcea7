// A console device (virtio 1.2 §5.3): ports that are Node streams here, and in a Linux guest consoles
// (hvc0 and on) or files (/dev/virtio-ports/NAME).

import { ByteOutput } from '../byte-output.js'
import { outOfRange } from '../errors.js'
import { failOrThrow, popOrWait } from '../virtio/turn.js'
import { type VirtioContext, VirtioDevice } from '../virtio/virtio-device.js'
import { VIRTIO_ID } from '../virtio/virtio-numbers.js'
import type { Virtqueue } from '../virtio/virtqueue.js'
import { VirtqueueError } from '../virtio/virtqueue-error.js'
import { CONSOLE_EVENT, CONTROL_SIZE, ControlOutbox, decodeControl } from './console-control.js'
import { ConsolePort, type ConsolePortOptions } from './console-port.js'

const F_SIZE = 1n << 0n
const F_MULTIPORT = 1n << 1n
const F_EMERG_WRITE = 1n << 2n

// Configuration space (§5.3.4).
const COLUMNS = 0
const ROWS = 2
const MAX_PORTS = 4
const EMERGENCY = 8
const CONFIG_SIZE = 12

const CONTROL_RECEIVE = 2
const CONTROL_TRANSMIT = 3
const QUEUE_SIZE = 64
const SPARE_PORTS = 4
const MOST_PORTS = 31

/** Of a terminal, in characters. */
export interface ConsoleSize {
  readonly columns: number
  readonly rows: number
}

/** What {@link VirtioConsole} takes. */
export interface VirtioConsoleOptions {
  /** The ports to begin with; one console unless said. */
  readonly ports?: readonly ConsolePortOptions[]
  /** The most there can be, 1 to 31, for {@link VirtioConsole.addPort}; four more than `ports` unless said. */
  readonly maxPorts?: number
  /** Of the consoles; 80 by 24 unless said. */
  readonly size?: ConsoleSize
}

/**
 * A console device with ports that come and go. For a driver that does not take VIRTIO_CONSOLE_F_MULTIPORT it
 * is the one port with number 0.
 */
export class VirtioConsole extends VirtioDevice {
  override readonly name = 'console'
  override readonly deviceType = VIRTIO_ID.console
  override readonly deviceFeatures = F_SIZE | F_MULTIPORT | F_EMERG_WRITE
  override readonly queueSizes: readonly number[]
  override readonly config = new Uint8Array(CONFIG_SIZE)
  override readonly pciClass = 0x07_8000
  /** What the guest wrote to the emergency register, a byte at a time and past all queues. */
  readonly emergency = new ByteOutput()
  readonly #fields = new DataView(this.config.buffer)
  readonly #ports = new Map<number, ConsolePort>()
  readonly #maxPorts: number
  readonly #outbox = new ControlOutbox()
  #driverReady = false
  #paused = false

  /** @throws RangeError `ERR_OUT_OF_RANGE` for more ports than there can be, and for equal names */
  constructor(options: VirtioConsoleOptions = {}) {
    super()
    const { ports = [{ console: true }], size = { columns: 80, rows: 24 } } = options
    this.#maxPorts = options.maxPorts ?? Math.min(MOST_PORTS, ports.length + SPARE_PORTS)
    if (!(this.#maxPorts >= 1 && this.#maxPorts <= MOST_PORTS)) {
      throw outOfRange(`maxPorts must be 1 to ${MOST_PORTS}, not ${this.#maxPorts}`)
    }
    // Two for each port, and two for control messages.
    this.queueSizes = new Array<number>(2 * this.#maxPorts + 2).fill(QUEUE_SIZE)
    this.#fields.setUint32(MAX_PORTS, this.#maxPorts, true)
    this.#setSize(size)
    for (const port of ports) this.addPort(port)
  }

  /** The ports, by number. */
  get ports(): readonly ConsolePort[] {
    return [...this.#ports.values()].sort((a, b) => a.id - b.id)
  }

  /** The port of this name, or undefined. */
  port(name: string): ConsolePort | undefined {
    return this.ports.find(({ portName }) => portName === name)
  }

  /**
   * Adds a port, which a running guest finds at once.
   *
   * @throws RangeError `ERR_OUT_OF_RANGE` beyond {@link VirtioConsoleOptions.maxPorts}, those that were removed
   *   among them until the guest's driver has taken notice, and for a name that another port has
   */
  addPort(options: ConsolePortOptions = {}): ConsolePort {
    const { name } = options
    if (name !== undefined && this.port(name)) throw outOfRange(`there is a port named ${name}`)
    const port: ConsolePort = new ConsolePort(this.#freeId(), options, () =>
      this.#tell(port, CONSOLE_EVENT.PORT_OPEN, 0),
    )
    this.#ports.set(port.id, port)
    this.#attach(port)
    this.#tell(port, CONSOLE_EVENT.PORT_ADD, 1)
    return port
  }

  /** Takes a port away from the guest, and destroys its stream. */
  removePort(port: ConsolePort): void {
    if (this.#ports.get(port.id) !== port) return
    // A driver that has not heard of the port need not hear of its end.
    const isKnown = !this.#outbox.has(port.id, CONSOLE_EVENT.PORT_ADD)
    port.destroy()
    port.detach()
    this.#ports.delete(port.id)
    this.#outbox.forget(port.id)
    if (isKnown) this.#tell(port, CONSOLE_EVENT.PORT_REMOVE, 1)
  }

  /**
   * Tells the guest how large its consoles are.
   *
   * @throws RangeError `ERR_OUT_OF_RANGE` for what does not fit into 16 bits
   */
  resize(size: ConsoleSize): void {
    this.#setSize(size)
    this.context?.configChanged()
    for (const port of this.ports) if (port.isConsole) this.#tellSize(port)
  }

  override writeConfig(offset: number, _size: number, value: number): void {
    if (offset === EMERGENCY) this.emergency.writeByte(value & 0xff)
  }

  override activate({ features }: VirtioContext): void {
    for (const port of this.ports) {
      this.#attach(port)
      // Without control messages nobody says so.
      if ((features & F_MULTIPORT) === 0n && port.id === 0) port.setGuestOpen(true)
    }
  }

  override notify(queueIndex: number): void {
    if (queueIndex === CONTROL_TRANSMIT) this.#takeControl()
    else if (queueIndex === CONTROL_RECEIVE) this.#sendControl()
    else if (queueIndex & 1) this.#ports.get(portOf(queueIndex))?.receive()
    else this.#ports.get(portOf(queueIndex))?.send()
  }

  override reset(): void {
    this.#driverReady = false
    this.#outbox.clear()
    for (const port of this.ports) port.detach()
  }

  override async pause(): Promise<void> {
    this.#paused = true
  }

  override resume(): void {
    this.#paused = false
    this.#takeControl()
    this.#sendControl()
    for (const port of this.ports) {
      port.receive()
      port.send()
    }
  }

  override close(): void {
    for (const port of this.ports) port.finish()
    this.emergency.finish()
  }

  #setSize({ columns, rows }: ConsoleSize): void {
    if (!isUint16(columns) || !isUint16(rows)) throw outOfRange(`a size of ${columns} by ${rows}`)
    this.#fields.setUint16(COLUMNS, columns, true)
    this.#fields.setUint16(ROWS, rows, true)
  }

  #freeId(): number {
    for (let id = 0; id < this.#maxPorts; id++) {
      // A number serves again when the guest has heard that its former port is gone.
      if (!this.#ports.has(id) && !this.#outbox.has(id, CONSOLE_EVENT.PORT_REMOVE)) return id
    }
    const left = this.#maxPorts - this.#ports.size
    const unheard = left > 0 ? `: the guest has yet to hear of ${left} that are gone` : ''
    throw outOfRange(`a console with more than ${this.#maxPorts} ports${unheard}`)
  }

  #attach(port: ConsolePort): void {
    const { context } = this
    const receive = context?.queues[queueOf(port.id)]
    const transmit = context?.queues[queueOf(port.id) + 1]
    if (context === undefined || receive === undefined || transmit === undefined) return
    const isPaused = () => this.#paused
    port.attach({
      receive,
      transmit,
      get isPaused() {
        return isPaused()
      },
      interrupt: (queue) => context.interrupt(queue.index),
      fail: (error) => context.fail(error),
    })
  }

  // Control messages.

  #tell(port: ConsolePort, event: number, value: number, rest?: Uint8Array): void {
    if (!this.#driverReady) return
    this.#outbox.add({ id: port.id, event, value }, rest)
    this.#sendControl()
  }

  #tellSize(port: ConsolePort): void {
    this.#tell(port, CONSOLE_EVENT.RESIZE, 0, this.config.slice(COLUMNS, MAX_PORTS))
  }

  /** The driver has made room for a port: what there is to know of it. */
  #introduce(port: ConsolePort): void {
    if (port.isConsole) {
      this.#tell(port, CONSOLE_EVENT.CONSOLE_PORT, 1)
      this.#tellSize(port)
    }
    if (port.portName !== undefined) {
      this.#tell(port, CONSOLE_EVENT.PORT_NAME, 1, Buffer.from(port.portName))
    }
    if (port.hostOpen) this.#tell(port, CONSOLE_EVENT.PORT_OPEN, 1)
  }

  #takeControl(): void {
    this.#serve(CONTROL_TRANSMIT, (queue) => {
      // As many as there can be at once: what comes meanwhile is notified anew.
      for (let i = 0; i < QUEUE_SIZE; i++) {
        const chain = popOrWait(queue)
        if (chain === undefined) return
        const message = chain.read(0, CONTROL_SIZE)
        queue.push(chain, 0)
        this.#onControl(message)
      }
      setImmediate(() => this.#takeControl())
    })
  }

  #onControl(bytes: Uint8Array): void {
    const { id, event, value } = decodeControl(bytes)
    const port = this.#ports.get(id)
    if (event === CONSOLE_EVENT.DEVICE_READY) {
      this.#driverReady = value === 1
      if (this.#driverReady)
        for (const each of this.ports) this.#tell(each, CONSOLE_EVENT.PORT_ADD, 1)
    } else if (event === CONSOLE_EVENT.PORT_READY && value === 1) {
      if (port) this.#introduce(port)
    } else if (event === CONSOLE_EVENT.PORT_OPEN) {
      port?.setGuestOpen(value !== 0)
    }
  }

  #sendControl(): void {
    this.#serve(CONTROL_RECEIVE, (queue) => {
      while (this.#outbox.size > 0) {
        const chain = popOrWait(queue)
        if (chain === undefined) return
        const message = this.#outbox.take()!
        if (chain.writableLength < message.length) {
          throw new VirtqueueError(`no room for a control message of ${message.length} bytes`)
        }
        chain.write(message)
        queue.push(chain, message.length)
      }
    })
  }

  #serve(queueIndex: number, work: (queue: Virtqueue) => void): void {
    const { context } = this
    const queue = context?.queues[queueIndex]
    if (context === undefined || queue === undefined || this.#paused) return
    try {
      work(queue)
    } catch (error) {
      failOrThrow(context, error)
    }
    context.interrupt(queueIndex)
  }
}

/** The first of a port's two queues. */
const queueOf = (id: number) => (id === 0 ? 0 : 2 * id + 2)
const portOf = (queueIndex: number) => (queueIndex < 2 ? 0 : (queueIndex >> 1) - 1)
const isUint16 = (value: number) => Number.isInteger(value) && value >= 0 && value <= 0xffff
