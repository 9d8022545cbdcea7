// One port of a console device: a Node stream on this side, two virtqueues on the guest's.

import { Duplex } from 'node:stream'
import { ByteQueue } from '../byte-queue.js'
import type { DescriptorChain } from '../virtio/descriptor-chain.js'
import { failOrThrow, popOrWait, TURN_BYTES, turnCost } from '../virtio/turn.js'
import type { Virtqueue } from '../virtio/virtqueue.js'
import { VirtqueueError } from '../virtio/virtqueue-error.js'

/** Bytes copied from a guest's buffer at once. */
const CHUNK = 0x1_0000
/** Bytes of a console's output kept while nobody reads it. */
const BACKLOG = 0x10_0000

/** What {@link VirtioConsole.addPort} takes. */
export interface ConsolePortOptions {
  /** In a Linux guest the port is /dev/virtio-ports/NAME. */
  readonly name?: string
  /** Whether the guest is to use it as a console (in Linux hvc0 and on). */
  readonly console?: boolean
}

/** @internal A port's queues while a driver is at work. */
export interface PortQueues {
  /** For what the guest receives, and what it transmits. */
  readonly receive: Virtqueue
  readonly transmit: Virtqueue
  readonly isPaused: boolean
  /** Tells the driver that buffers of the queue were used. */
  interrupt(queue: Virtqueue): void
  /** The driver did what it must not. */
  fail(error: unknown): void
}

interface Chunk {
  readonly bytes: Uint8Array
  done: number
  readonly written: (error?: Error | null) => void
}

/**
 * A port: a stream of bytes to and from the guest.
 *
 * A chunk counts as written when the guest has it in its buffers, and it waits while the guest has not
 * opened the port. What the guest writes is taken from its buffers as the stream is read, so a slow reader
 * makes the guest wait. Of a console, whose guest cannot wait, the last MiB is kept instead, and
 * {@link dropped} says how much was not.
 *
 * The stream outlives a guest that closes the port or resets the device. The events `guestOpen` and
 * `guestClose` tell, the latter behind all that the guest wrote before. `end()` and `destroy()` close the host's side, which a Linux guest reads as the end of
 * the file. The stream ends with the machine.
 */
export class ConsolePort extends Duplex {
  /** Its number in the device. */
  readonly id: number
  /** See {@link ConsolePortOptions.name}. */
  readonly portName: string | undefined
  /** See {@link ConsolePortOptions.console}. */
  readonly isConsole: boolean
  /** Bytes of a console that nobody read in time. */
  dropped = 0
  readonly #onHostClose: () => void
  readonly #backlog = new ByteQueue()
  #queues: PortQueues | undefined
  #guestOpen = false
  #owesClose = false
  #hostOpen = true
  #closed = false
  #chunk: Chunk | undefined
  #chain: { readonly chain: DescriptorChain; done: number } | undefined
  #wanted = false
  #receiving = false
  #sending = false
  #isDue = false

  /** @internal */
  constructor(id: number, options: ConsolePortOptions, onHostClose: () => void) {
    super({ readableHighWaterMark: CHUNK })
    this.id = id
    this.portName = options.name
    this.isConsole = options.console ?? false
    this.#onHostClose = onHostClose
  }

  /** Whether a program of the guest has the port open. */
  get guestOpen(): boolean {
    return this.#guestOpen
  }

  /** Whether this side is open: until `end()` or `destroy()`. */
  get hostOpen(): boolean {
    return this.#hostOpen
  }

  /** @internal A driver is at work. */
  attach(queues: PortQueues): void {
    this.#queues = queues
    // What the stream keeps for a reader who comes later is taken at once: it outlives a reset.
    this.read(0)
    this.receive()
  }

  /** @internal It is no longer; what it had in its buffers is gone. */
  detach(): void {
    // A port that is taken away gives back what it holds; after a reset nobody wants it.
    if (this.#chain !== undefined) this.#queues?.transmit.push(this.#chain.chain, 0)
    this.#queues = undefined
    this.#chain = undefined
    this.setGuestOpen(false)
    this.#tellClose()
  }

  /** @internal The driver says whether the port is open. */
  setGuestOpen(open: boolean): void {
    if (open === this.#guestOpen) return
    this.#guestOpen = open
    if (!open) {
      this.#owesClose = true
      this.receive()
      return
    }
    this.#tellClose()
    process.nextTick(() => this.emit('guestOpen'))
    this.send()
  }

  /** To be told when all has come that the guest wrote before. */
  #tellClose(): void {
    if (!this.#owesClose) return
    this.#owesClose = false
    process.nextTick(() => this.emit('guestClose'))
  }

  /** @internal The machine is closed: the stream ends behind what is here, and swallows what is written. */
  finish(): void {
    if (this.#closed || this.destroyed) return
    this.#closed = true
    this.#takeChunk()?.written()
    for (let bytes = this.#backlog.shift(); bytes; bytes = this.#backlog.shift()) this.push(bytes)
    this.push(null)
  }

  /** For the stream machinery. */
  override _read(): void {
    this.#wanted = true
    this.receive()
  }

  /** For the stream machinery. */
  override _write(
    bytes: Uint8Array,
    _encoding: BufferEncoding,
    written: (error?: Error | null) => void,
  ): void {
    if (this.#closed) {
      written()
      return
    }
    this.#chunk = { bytes, done: 0, written }
    this.send()
  }

  /** For the stream machinery. */
  override _final(callback: (error?: Error | null) => void): void {
    this.#closeHost()
    callback()
  }

  /** For the stream machinery. */
  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#closeHost()
    this.#takeChunk()?.written(error)
    this.#backlog.clear()
    // Nobody reads any more, so the guest shall not wait.
    this.receive()
    callback(error)
  }

  #takeChunk(): Chunk | undefined {
    const chunk = this.#chunk
    this.#chunk = undefined
    return chunk
  }

  #closeHost(): void {
    if (!this.#hostOpen) return
    this.#hostOpen = false
    this.#onHostClose()
  }

  /** @internal Takes what the guest has written, as far as the stream wants it. */
  receive(): void {
    const queues = this.#queues
    if (this.#receiving || this.#closed) return
    this.#receiving = true
    try {
      this.#readBacklog()
      if (queues && this.#take(queues)) queues.interrupt(queues.transmit)
    } catch (error) {
      failOrThrow(queues, error)
    } finally {
      this.#receiving = false
    }
  }

  #readBacklog(): void {
    while (this.#wanted) {
      const bytes = this.#backlog.shift()
      if (bytes === undefined) return
      this.#wanted = this.push(bytes)
    }
  }

  /** Whether what the guest writes has somewhere to go. */
  get #takes(): boolean {
    return this.#wanted || this.destroyed || this.isConsole
  }

  /** Whether buffers were used. */
  #take(queues: PortQueues): boolean {
    let used = false
    // A listener of the stream may end, pause or reset everything in the midst of this.
    for (let left = TURN_BYTES; this.#queues === queues && !queues.isPaused && this.#takes; ) {
      if (left <= 0) {
        this.#continueLater()
        break
      }
      this.#chain ??= beginning(popOrWait(queues.transmit))
      if (this.#chain === undefined) {
        this.#tellClose()
        break
      }
      const { chain, done } = this.#chain
      const length = this.destroyed ? 0 : Math.min(CHUNK, chain.readableLength - done)
      const bytes = chain.read(done, length)
      this.#chain.done += length
      left -= turnCost(length)
      if (this.destroyed || this.#chain.done === chain.readableLength) {
        this.#chain = undefined
        queues.transmit.push(chain, 0)
        used = true
      }
      if (length > 0) this.#hand(bytes)
    }
    return used
  }

  #hand(bytes: Uint8Array): void {
    if (this.#wanted) {
      this.#wanted = this.push(bytes)
      return
    }
    this.#backlog.append(bytes)
    while (this.#backlog.length > BACKLOG) this.dropped += this.#backlog.shift()!.length
  }

  /** @internal Gives the guest what was written, as far as it has buffers. */
  send(): void {
    const queues = this.#queues
    if (queues === undefined || this.#sending) return
    this.#sending = true
    try {
      if (this.#give(queues)) queues.interrupt(queues.receive)
    } catch (error) {
      failOrThrow(queues, error)
    } finally {
      this.#sending = false
    }
  }

  /** Whether buffers were used. */
  #give(queues: PortQueues): boolean {
    let used = false
    let left = TURN_BYTES
    while (this.#queues === queues && !queues.isPaused && this.#guestOpen && this.#chunk) {
      const { bytes, done } = this.#chunk
      if (done === bytes.length) {
        this.#takeChunk()?.written()
        continue
      }
      if (left <= 0) {
        this.#continueLater()
        break
      }
      const chain = popOrWait(queues.receive)
      if (chain === undefined) break
      const length = Math.min(chain.writableLength, bytes.length - done)
      if (length === 0) throw new VirtqueueError('a receive buffer has no room')
      chain.write(bytes.subarray(done, done + length))
      queues.receive.push(chain, length)
      used = true
      this.#chunk.done += length
      left -= turnCost(length)
    }
    return used
  }

  #continueLater(): void {
    if (this.#isDue) return
    this.#isDue = true
    setImmediate(() => {
      this.#isDue = false
      this.receive()
      this.send()
    })
  }
}

const beginning = (chain: DescriptorChain | undefined) => chain && { chain, done: 0 }
