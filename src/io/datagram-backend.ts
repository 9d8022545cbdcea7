// A network behind UDP, a frame in each datagram (QEMU's `-netdev dgram`).

import type { Socket } from 'node:dgram'
import { once } from 'node:events'
import { isIPv6 } from 'node:net'
import type { NetBackend, NetPort } from '../devices/index.js'

/** Bytes that may wait in the socket: what comes then waits in the guest. */
const SEND_LIMIT = 256 * 1024
/** Frames that wait for a guest without buffers; beyond, they are lost, as datagrams may be. */
const RECEIVE_LIMIT = 256

/** An address of UDP. */
export interface DatagramAddress {
  /** A numeric address. */
  readonly host: string
  readonly port: number
}

/** A back end on a UDP socket. It receives from its remote address only. */
export class DatagramBackend implements NetBackend {
  /** Frames to the guest that were lost here, as it had no buffers. */
  dropped = 0
  readonly #socket: Socket
  readonly #waiting: Uint8Array[] = []
  #port: NetPort | undefined
  #queued = 0
  #refused = false
  #closed = false

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('message', (frame) => this.#onMessage(frame))
    // Nobody listens there (yet): what was sent is lost.
    socket.on('error', () => {})
  }

  /**
   * Opens a socket between two addresses.
   *
   * @throws what bind(2) and connect(2) say: `EADDRINUSE`, …
   */
  static async open(local: DatagramAddress, remote: DatagramAddress): Promise<DatagramBackend> {
    // Loaded with the first socket: most processes have none.
    const { createSocket } = process.getBuiltinModule('node:dgram')
    const socket = createSocket(isIPv6(local.host) ? 'udp6' : 'udp4')
    try {
      socket.bind(local.port, local.host)
      await once(socket, 'listening')
      socket.connect(remote.port, remote.host)
      await once(socket, 'connect')
    } catch (error) {
      socket.close()
      throw error
    }
    return new DatagramBackend(socket)
  }

  /** For the device. */
  connect(port: NetPort): void {
    this.#port = port
  }

  /** For the device. */
  transmit(frame: Uint8Array): boolean {
    if (this.#closed) return true
    this.#refused = this.#queued >= SEND_LIMIT
    if (this.#refused) return false
    this.#queued += frame.length
    this.#socket.send(frame, () => this.#onSent(frame.length))
    return true
  }

  /** For the device. */
  resume(): void {
    while (this.#waiting.length > 0 && this.#port?.receive(this.#waiting[0]!)) this.#waiting.shift()
  }

  /** Closes the socket. Idempotent. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#port = undefined
    this.#socket.close()
  }

  #onSent(size: number): void {
    this.#queued -= size
    if (!this.#refused) return
    this.#refused = false
    this.#port?.resume()
  }

  #onMessage(frame: Uint8Array): void {
    if (this.#waiting.length === 0 && this.#port?.receive(frame)) return
    if (this.#waiting.length < RECEIVE_LIMIT) this.#waiting.push(frame)
    else this.dropped++
  }
}
