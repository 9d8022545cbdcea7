// One connection between guest and host: a Node stream here, packets of virtio 1.2 §5.10.6 there. It
// says what it has to send when the device asks, so nothing waits in a queue but a chunk the user wrote.

import { Duplex } from 'node:stream'
import { ReceiveBuffer, SendCredit } from './vsock-credit.js'
import { VsockError } from './vsock-error.js'
import { VSOCK_OP, VSOCK_SEQ, VSOCK_SHUTDOWN, type VsockHeader } from './vsock-packet.js'

/** `stream`: bytes. `seqpacket`: messages; each write is one, and each chunk that is read. */
export type VsockType = 'stream' | 'seqpacket'

/** Options of a connection. */
export interface VsockSocketOptions {
  /** `stream` unless said. */
  readonly type?: VsockType
  /** Whether this side stays open when the guest has sent all; else it ends then, as in `node:net`. */
  readonly allowHalfOpen?: boolean
}

/** @internal Between which ports a connection is, who began it, and what carries it. */
export interface VsockConnection {
  readonly localPort: number
  readonly remotePort: number
  readonly initiator: 'host' | 'guest'
  /** It has something to send. */
  readonly ready: (socket: VsockSocket) => void
  /** It has said its last. */
  readonly remove: (socket: VsockSocket) => void
}

/** @internal A packet to be sent, but for what all packets of the connection have. */
export interface VsockMessage {
  readonly op: number
  readonly flags?: number
  readonly payload?: Uint8Array
}

interface Chunk {
  readonly bytes: Uint8Array
  done: number
  readonly written: (error?: Error | null) => void
}

/**
 * A connection to a program of the guest. A chunk counts as written when the guest's kernel has it, which
 * takes no more than it has room for; nor may the guest send more than there is room for here.
 *
 * `end()` tells the guest that all is sent; `destroy()` resets the connection. Errors are {@link VsockError}s with
 * codes of Node's sockets. The event `connect` comes when the guest has accepted.
 */
export class VsockSocket extends Duplex {
  /** The port on this side. */
  readonly localPort: number
  /** The guest's. */
  readonly remotePort: number
  readonly type: VsockType
  readonly #connection: VsockConnection
  readonly #credit = new SendCredit()
  readonly #incoming: ReceiveBuffer
  #state: 'connecting' | 'connected' | 'gone'
  #timer: NodeJS.Timeout | undefined
  // What is to be sent beside data.
  #owesOpening = true
  #owesShutdown = false
  #owesCredit = false
  #owesReset = false
  /** For more credit, since there was some. */
  #asked = false
  #chunk: Chunk | undefined
  #wanted = false
  #reading = false
  #peerSentAll = false
  #peerReadsNoMore = false

  /** @internal */
  constructor(connection: VsockConnection, options: VsockSocketOptions, timeoutMs = 0) {
    const { type = 'stream', allowHalfOpen = false } = options
    super({ allowHalfOpen, readableObjectMode: type === 'seqpacket' })
    this.type = type
    this.localPort = connection.localPort
    this.remotePort = connection.remotePort
    this.#connection = connection
    this.#incoming = new ReceiveBuffer(type === 'seqpacket')
    this.#state = connection.initiator === 'host' ? 'connecting' : 'connected'
    if (timeoutMs > 0) {
      this.#timer = setTimeout(() => this.destroy(this.#error('ETIMEDOUT', 'connect')), timeoutMs)
    }
  }

  /** Whether the guest has not accepted yet. */
  get connecting(): boolean {
    return this.#state === 'connecting'
  }

  /** For the stream machinery. */
  override _read(): void {
    this.#wanted = true
    this.#deliver()
  }

  /** For the stream machinery. */
  override _write(
    bytes: Uint8Array,
    _encoding: BufferEncoding,
    written: (error?: Error | null) => void,
  ): void {
    if (this.#peerReadsNoMore) written(this.#error('EPIPE', 'write'))
    else if (bytes.length === 0 && this.type === 'stream') written()
    else {
      this.#chunk = { bytes, done: 0, written }
      this.#checkMessage()
      this.#connection.ready(this)
    }
  }

  /** For the stream machinery. */
  override _final(callback: (error?: Error | null) => void): void {
    this.#owesShutdown = true
    this.#connection.ready(this)
    callback()
  }

  /** For the stream machinery. */
  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    clearTimeout(this.#timer)
    this.#incoming.clear()
    this.#hangUp()
    this.#takeChunk()?.written(error)
    callback(error)
  }

  /** The guest hears of the end, unless it has heard of nothing or said so itself. */
  #hangUp(): void {
    if (this.#state === 'gone') return
    if (this.#state === 'connecting' && this.#owesOpening) {
      this.#leave()
      return
    }
    this.#owesReset = true
    this.#connection.ready(this)
  }

  #leave(): void {
    this.#state = 'gone'
    this.#connection.remove(this)
  }

  #error(code: VsockError['code'], syscall: string): VsockError {
    return new VsockError(code, syscall, this.remotePort)
  }

  // What comes.

  /** @internal What every packet tells of the guest's room. */
  hear({ bufAlloc, fwdCnt }: VsockHeader): void {
    this.#credit.update(bufAlloc, fwdCnt)
  }

  /** @internal A packet has come; `payload` reads what it carries. */
  handle(header: VsockHeader, payload: () => Uint8Array): void {
    this.hear(header)
    if (this.#owesReset) return
    switch (header.op) {
      case VSOCK_OP.RESPONSE:
        this.#onAccepted()
        break
      case VSOCK_OP.RST:
        this.#onReset()
        return
      case VSOCK_OP.SHUTDOWN:
        this.#onShutdown(header.flags)
        break
      case VSOCK_OP.RW:
        this.#onPayload(header, payload)
        break
      case VSOCK_OP.CREDIT_UPDATE:
        break
      case VSOCK_OP.CREDIT_REQUEST:
        this.#owesCredit = true
        break
      default:
        this.destroy(this.#error('ECONNRESET', 'read'))
    }
    if (this.#credit.available > 0) this.#asked = false
    this.#checkMessage()
    this.#connection.ready(this)
  }

  /** A message has to fit into the guest's room as a whole. */
  #checkMessage(): void {
    if (this.type !== 'seqpacket' || this.#state !== 'connected') return
    if (this.#chunk === undefined || this.#chunk.bytes.length <= this.#credit.room) return
    this.#takeChunk()?.written(this.#error('EMSGSIZE', 'write'))
  }

  #onAccepted(): void {
    if (this.#state !== 'connecting' || this.#owesOpening) {
      this.destroy(this.#error('ECONNRESET', 'read'))
      return
    }
    clearTimeout(this.#timer)
    this.#state = 'connected'
    process.nextTick(() => this.emit('connect'))
  }

  #onReset(): void {
    const isRefusal = this.#state === 'connecting'
    this.#leave()
    this.destroy(isRefusal ? this.#error('ECONNREFUSED', 'connect') : this.#resetError())
  }

  /** @internal The guest's driver is gone, and with it what it had. A call waits for the next. */
  dropped(): void {
    if (this.#state === 'connecting' && !this.destroyed) {
      this.#owesOpening = true
      return
    }
    this.#leave()
    this.destroy(this.#resetError())
  }

  /** Both have said that they sent all: then it is only the end. */
  #resetError(): Error | undefined {
    const isOver = this.#peerSentAll && this.writableFinished
    return isOver ? undefined : this.#error('ECONNRESET', 'read')
  }

  #onShutdown(flags: number): void {
    if (flags & VSOCK_SHUTDOWN.SEND) this.#peerSentAll = true
    if (flags & VSOCK_SHUTDOWN.RECEIVE) this.#peerReadsNoMore = true
    // The guest waits for the confirmation; what it sent is here.
    if (this.#peerSentAll && this.#peerReadsNoMore) this.#owesReset = true
    if (this.#peerReadsNoMore) this.#takeChunk()?.written(this.#error('EPIPE', 'write'))
    this.#deliver()
  }

  #onPayload({ flags, length }: VsockHeader, payload: () => Uint8Array): void {
    if (this.#state !== 'connected' || this.#peerSentAll || !this.#incoming.hasRoom(length)) {
      this.destroy(this.#error('ECONNRESET', 'read'))
      return
    }
    this.#incoming.append(payload(), (flags & VSOCK_SEQ.EOM) !== 0)
    this.#deliver()
  }

  /** Hands on what has come, as far as the stream wants it. */
  #deliver(): void {
    if (this.#reading) return
    this.#reading = true
    try {
      while (this.#wanted && !this.destroyed) {
        const bytes = this.#incoming.shift()
        if (bytes === undefined) {
          if (this.#peerSentAll) this.push(null)
          break
        }
        this.#wanted = this.push(bytes)
      }
    } finally {
      this.#reading = false
    }
    if (this.#incoming.isNewsworthy) this.#owesCredit = true
    if (this.#owesCredit) this.#connection.ready(this)
  }

  #takeChunk(): Chunk | undefined {
    const chunk = this.#chunk
    this.#chunk = undefined
    return chunk
  }

  // What goes.

  /** @internal What every packet tells of this side's room. */
  tell(): { readonly bufAlloc: number; readonly fwdCnt: number } {
    this.#owesCredit = false
    return this.#incoming.tell()
  }

  /** @internal Whether {@link next} has a packet. */
  get hasNext(): boolean {
    if (this.#state === 'gone') return false
    if (this.#owesOpening || this.#owesReset) return true
    if (this.#state === 'connecting') return false
    const hasData = this.#chunk !== undefined && (this.#canSend || !this.#asked)
    return hasData || this.#owesShutdown || this.#owesCredit
  }

  /** Whether there is credit for what is to be sent. */
  get #canSend(): boolean {
    const chunk = this.#chunk
    return chunk !== undefined && (chunk.bytes.length === 0 || this.#credit.available > 0)
  }

  /**
   * @internal The next packet.
   *
   * @param room for its payload, in bytes
   */
  next(room: number): VsockMessage | undefined {
    if (!this.hasNext) return undefined
    if (this.#owesReset) {
      this.#leave()
      return { op: VSOCK_OP.RST }
    }
    if (this.#owesOpening) {
      this.#owesOpening = false
      return { op: this.#state === 'connecting' ? VSOCK_OP.REQUEST : VSOCK_OP.RESPONSE }
    }
    if (this.#canSend) return this.#nextData(room)
    if (this.#owesShutdown) {
      this.#owesShutdown = false
      return { op: VSOCK_OP.SHUTDOWN, flags: VSOCK_SHUTDOWN.SEND }
    }
    if (this.#owesCredit) return { op: VSOCK_OP.CREDIT_UPDATE }
    this.#asked = true
    return { op: VSOCK_OP.CREDIT_REQUEST }
  }

  #nextData(room: number): VsockMessage {
    const chunk = this.#chunk!
    const { bytes, done, written } = chunk
    const length = Math.min(room, this.#credit.available, bytes.length - done)
    this.#credit.spend(length)
    chunk.done += length
    const isWhole = chunk.done === bytes.length
    if (isWhole) {
      this.#chunk = undefined
      // ORDER: the packet is on its way before the writer goes on.
      process.nextTick(written)
    }
    const payload = bytes.subarray(done, done + length)
    return { op: VSOCK_OP.RW, flags: isWhole ? this.#messageEnd : 0, payload }
  }

  get #messageEnd(): number {
    return this.type === 'seqpacket' ? VSOCK_SEQ.EOM : 0
  }
}
