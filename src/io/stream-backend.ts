// A network behind a stream socket with QEMU's framing (`-netdev stream`): another QEMU, passt, or a
// program. Passt gives a guest the host's network without any rights.

import { connect, type Socket } from 'node:net'
import { encodeFrame, FrameDecoder, type NetBackend, type NetPort } from '../devices/index.js'

/** Where the other end listens: a path, or a host and port. */
export type StreamAddress =
  | { readonly path: string }
  | { readonly host: string; readonly port: number }

/**
 * A back end on a stream socket. While the other end does not read, the guest's transmissions wait; while
 * the guest has no buffers, the socket is not read. When the socket ends, the link goes down.
 */
export class StreamBackend implements NetBackend {
  /** Resolves when the socket is closed: with the error, if that was why. */
  readonly closed: Promise<Error | undefined>
  readonly #socket: Socket
  readonly #decoder = new FrameDecoder()
  #waiting: Uint8Array[] = []
  #port: NetPort | undefined
  #refused = false

  /** @param socket connected or about to be; it is this object's from now on */
  constructor(socket: Socket) {
    this.#socket = socket
    // Frames wait in the socket until there is a device.
    socket.pause()
    let failure: Error | undefined
    socket.on('error', (error) => {
      failure = error
    })
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        this.#port?.setLink(false)
        this.#resumeGuest()
        resolve(failure)
      })
    })
    socket.on('data', (chunk) => this.#onData(chunk))
    socket.on('drain', () => this.#resumeGuest())
  }

  /**
   * Connects to who listens there.
   *
   * @throws what connect(2) says: `ENOENT`, `ECONNREFUSED`, …
   */
  static connect(address: StreamAddress): Promise<StreamBackend> {
    const socket = connect(address)
    return new Promise((resolve, reject) => {
      socket.once('error', reject)
      socket.once('connect', () => {
        socket.off('error', reject)
        resolve(new StreamBackend(socket))
      })
    })
  }

  /** For the device. */
  connect(port: NetPort): void {
    this.#port = port
    if (this.#socket.destroyed) port.setLink(false)
    else this.#socket.resume()
  }

  /** For the device. */
  transmit(frame: Uint8Array): boolean {
    if (this.#socket.destroyed) return true
    this.#refused = this.#socket.writableNeedDrain
    if (!this.#refused) this.#socket.write(encodeFrame(frame))
    return !this.#refused
  }

  /** For the device. */
  resume(): void {
    this.#deliver()
  }

  /** Ends the connection. Idempotent. */
  close(): void {
    this.#port = undefined
    this.#waiting = []
    this.#socket.destroy()
  }

  #resumeGuest(): void {
    if (!this.#refused) return
    this.#refused = false
    this.#port?.resume()
  }

  #onData(chunk: Uint8Array): void {
    try {
      this.#waiting.push(...this.#decoder.decode(chunk))
    } catch (error) {
      this.#socket.destroy(error as Error)
      return
    }
    this.#deliver()
  }

  /** Until all are, nothing more is read. */
  #deliver(): void {
    let done = 0
    while (done < this.#waiting.length && this.#port?.receive(this.#waiting[done]!)) done++
    this.#waiting.splice(0, done)
    if (this.#waiting.length > 0) this.#socket.pause()
    else if (this.#port !== undefined) this.#socket.resume()
  }
}
