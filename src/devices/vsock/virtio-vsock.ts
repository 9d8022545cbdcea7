// A socket device (virtio 1.2 §5.10): connections between programs of the guest and this process, both
// ways, without a kernel module and without a network.

import { outOfRange } from '../errors.js'
import type { DescriptorChain } from '../virtio/descriptor-chain.js'
import { failOrThrow, popOrWait, TURN_BYTES, turnCost } from '../virtio/turn.js'
import { type VirtioContext, VirtioDevice } from '../virtio/virtio-device.js'
import { VIRTIO_ID } from '../virtio/virtio-numbers.js'
import type { Virtqueue } from '../virtio/virtqueue.js'
import { VirtqueueError } from '../virtio/virtqueue-error.js'
import { VsockError } from './vsock-error.js'
import {
  decodeVsock,
  encodeVsock,
  VSOCK_HEADER_SIZE,
  VSOCK_OP,
  VSOCK_TYPE,
  type VsockHeader,
} from './vsock-packet.js'
import { VsockServer, type VsockServerOptions } from './vsock-server.js'
import { type VsockMessage, VsockSocket, type VsockSocketOptions } from './vsock-socket.js'

const F_STREAM = 1n << 0n
const F_SEQPACKET = 1n << 1n

const RECEIVE = 0
const TRANSMIT = 1
const QUEUE_SIZES = [128, 128, 8]

/** The host's address. */
export const VSOCK_HOST_CID = 2
const LEAST_CID = 3
const MOST_CID = 0xffff_fffe

const MOST_CONNECTIONS = 1024
/** Refusals that wait for a buffer of the guest; beyond it, its packets wait. */
const MOST_REFUSALS = 128
const FIRST_FREE_PORT = 0xc000_0000
const MOST_PORT = 0xffff_fffe
const CONNECT_TIMEOUT_MS = 10_000

/** What {@link VirtioVsock} takes. */
export interface VirtioVsockOptions {
  /** The guest's address, 3 to 2^32 - 2; 3 unless said. Each machine may have the same. */
  readonly cid?: number
  /**
   * Takes connections to ports that nobody listens on; `socket.localPort` says which it was to be. Without
   * it they are refused.
   */
  readonly onUnclaimed?: (socket: VsockSocket) => void
  /** Beyond so many connections, those that the guest wants are refused; 1024 unless said. */
  readonly maxConnections?: number
}

/** What {@link VirtioVsock.connect} takes. */
export interface VsockConnectOptions extends VsockSocketOptions {
  /** How long to wait for the guest, booting included; 10000 unless said, 0 for ever. */
  readonly timeoutMs?: number
}

const typeNumber = (type: VsockSocketOptions['type'] = 'stream') =>
  type === 'stream' ? VSOCK_TYPE.STREAM : VSOCK_TYPE.SEQPACKET
const keyOf = (localPort: number, remotePort: number) => `${localPort}:${remotePort}`

/** A socket device. Programs of the guest use AF_VSOCK; the host's address is {@link VSOCK_HOST_CID}. */
export class VirtioVsock extends VirtioDevice {
  override readonly name = 'vsock'
  override readonly deviceType = VIRTIO_ID.vsock
  override readonly deviceFeatures = F_STREAM | F_SEQPACKET
  override readonly queueSizes = QUEUE_SIZES
  override readonly config = new Uint8Array(8)
  override readonly pciClass = 0x07_8000
  /** The guest's address. */
  readonly cid: number
  readonly #maxConnections: number
  readonly #onUnclaimed: ((socket: VsockSocket) => void) | undefined
  readonly #servers = new Map<number, VsockServer>()
  readonly #sockets = new Map<string, VsockSocket>()
  /** Connections that have something to send, in turn. */
  readonly #ready = new Set<VsockSocket>()
  /** Answers to packets that belong to no connection. */
  readonly #refusals: VsockHeader[] = []
  #nextPort = FIRST_FREE_PORT
  #paused = false
  #working = false
  #isDue = false

  /** @throws RangeError `ERR_OUT_OF_RANGE` for a cid that no guest can have, and no connections */
  constructor(options: VirtioVsockOptions = {}) {
    super()
    const { cid = LEAST_CID, maxConnections = MOST_CONNECTIONS, onUnclaimed } = options
    if (!(Number.isInteger(cid) && cid >= LEAST_CID && cid <= MOST_CID)) {
      throw outOfRange(`cid must be ${LEAST_CID} to ${MOST_CID}, not ${cid}`)
    }
    if (!(Number.isInteger(maxConnections) && maxConnections > 0)) {
      throw outOfRange(`maxConnections must be 1 or more, not ${maxConnections}`)
    }
    this.cid = cid
    this.#maxConnections = maxConnections
    this.#onUnclaimed = onUnclaimed
    new DataView(this.config.buffer).setBigUint64(0, BigInt(cid), true)
  }

  /**
   * Connects to a port that a program of the guest listens on. What is written before the guest has
   * accepted waits.
   *
   * @returns a stream, which emits `connect`, or `error` with a {@link VsockError}
   * @throws RangeError `ERR_OUT_OF_RANGE` for a port that cannot be, or too many connections
   */
  connect(port: number, options: VsockConnectOptions = {}): VsockSocket {
    checkPort(port)
    if (this.#sockets.size >= this.#maxConnections) {
      throw outOfRange(`no more than ${this.#maxConnections} connections`)
    }
    const localPort = this.#freePort((free) => !this.#sockets.has(keyOf(free, port)))
    return this.#open(localPort, port, 'host', options, options.timeoutMs ?? CONNECT_TIMEOUT_MS)
  }

  /**
   * Listens on a port of the host; 0 for any that is free.
   *
   * @throws VsockError `EADDRINUSE`; RangeError `ERR_OUT_OF_RANGE` for a port that cannot be
   */
  listen(
    port: number,
    onConnection?: (socket: VsockSocket) => void,
    options: VsockServerOptions = {},
  ): VsockServer {
    checkPort(port)
    const chosen = port === 0 ? this.#freePort((free) => !this.#servers.has(free)) : port
    if (this.#servers.has(chosen)) throw new VsockError('EADDRINUSE', 'listen', chosen)
    const server = new VsockServer(chosen, options, () => this.#servers.delete(chosen))
    if (onConnection) server.on('connection', onConnection)
    this.#servers.set(chosen, server)
    return server
  }

  /** Connections there are, those included that wait for the guest's answer. */
  get connections(): number {
    return this.#sockets.size
  }

  override activate(_context: VirtioContext): void {
    for (const socket of this.#sockets.values()) this.#ready.add(socket)
    this.#work()
  }

  override notify(): void {
    this.#work()
  }

  override reset(): void {
    this.#refusals.length = 0
    this.#ready.clear()
    for (const socket of [...this.#sockets.values()]) socket.dropped()
  }

  override async pause(): Promise<void> {
    this.#paused = true
  }

  override resume(): void {
    this.#paused = false
    this.#work()
  }

  override close(): void {
    for (const server of [...this.#servers.values()]) server.close()
    for (const socket of [...this.#sockets.values()]) socket.destroy()
  }

  #freePort(isFree: (port: number) => boolean): number {
    for (;;) {
      const port = this.#nextPort
      this.#nextPort = port === MOST_PORT ? FIRST_FREE_PORT : port + 1
      // There are many more ports than connections.
      if (isFree(port)) return port
    }
  }

  #open(
    localPort: number,
    remotePort: number,
    initiator: 'host' | 'guest',
    options: VsockSocketOptions,
    timeoutMs?: number,
  ): VsockSocket {
    const key = keyOf(localPort, remotePort)
    const connection = {
      localPort,
      remotePort,
      initiator,
      ready: (socket: VsockSocket) => this.#onReady(socket),
      remove: () => {
        this.#sockets.delete(key)
      },
    }
    const socket = new VsockSocket(connection, options, timeoutMs)
    this.#sockets.set(key, socket)
    this.#onReady(socket)
    return socket
  }

  #onReady(socket: VsockSocket): void {
    this.#ready.add(socket)
    this.#work()
  }

  /** Takes what the guest has sent, and sends what there is to send, as far as there are buffers. */
  #work(): void {
    const { context } = this
    const receive = context?.queues[RECEIVE]
    const transmit = context?.queues[TRANSMIT]
    if (!context || !receive || !transmit || this.#working || this.#paused) return
    this.#working = true
    try {
      const tookAll = this.#takePackets(transmit)
      const sentAll = this.#sendPackets(receive)
      const canTake = this.#refusals.length < MOST_REFUSALS
      if (!sentAll || (!tookAll && canTake)) this.#continueLater()
    } catch (error) {
      failOrThrow(context, error)
    } finally {
      this.#working = false
    }
    context.interrupt(TRANSMIT)
    context.interrupt(RECEIVE)
  }

  #continueLater(): void {
    if (this.#isDue) return
    this.#isDue = true
    setImmediate(() => {
      this.#isDue = false
      this.#work()
    })
  }

  /** Whether nothing is left to take. */
  #takePackets(queue: Virtqueue): boolean {
    for (let left = TURN_BYTES; left > 0 && this.#refusals.length < MOST_REFUSALS; ) {
      const chain = popOrWait(queue)
      if (chain === undefined) return true
      const header = decodeVsock(chain.read(0, VSOCK_HEADER_SIZE))
      const { length } = header
      if (VSOCK_HEADER_SIZE + length > chain.readableLength) {
        throw new VirtqueueError(`a packet of ${length} bytes in ${chain.readableLength}`)
      }
      this.#onPacket(header, () => chain.read(VSOCK_HEADER_SIZE, length))
      queue.push(chain, 0)
      left -= turnCost(length)
    }
    return false
  }

  #onPacket(header: VsockHeader, payload: () => Uint8Array): void {
    if (header.srcCid !== BigInt(this.cid) || header.dstCid !== BigInt(VSOCK_HOST_CID)) return
    const { srcPort, dstPort, type, op } = header
    const socket = this.#sockets.get(keyOf(dstPort, srcPort))
    if (socket !== undefined && typeNumber(socket.type) === type) {
      socket.handle(header, payload)
    } else if (op !== VSOCK_OP.REQUEST || socket !== undefined || !this.#accept(header)) {
      if (op !== VSOCK_OP.RST) this.#refusals.push(header)
    }
  }

  /** Whether somebody listens. */
  #accept(header: VsockHeader): boolean {
    const { srcPort, dstPort, type } = header
    const server = this.#servers.get(dstPort)
    if (server === undefined && this.#onUnclaimed === undefined) return false
    const options = server?.options ?? UNCLAIMED
    if (typeNumber(options.type) !== type || this.#sockets.size >= this.#maxConnections)
      return false
    const socket = this.#open(dstPort, srcPort, 'guest', options)
    socket.hear(header)
    // What listeners throw is not the guest's fault.
    process.nextTick(() => {
      if (server === undefined) this.#onUnclaimed?.(socket)
      else if (!server.emit('connection', socket)) socket.destroy()
    })
    return true
  }

  /** Whether nothing is left to send, or there is no buffer for it. */
  #sendPackets(queue: Virtqueue): boolean {
    for (let left = TURN_BYTES; left > 0; ) {
      const socket = this.#nextReady()
      if (socket === undefined && this.#refusals.length === 0) return true
      const chain = popOrWait(queue)
      if (chain === undefined) return true
      const room = chain.writableLength - VSOCK_HEADER_SIZE
      if (room <= 0) throw new VirtqueueError(`no room for a packet: ${chain.writableLength} bytes`)
      const refused = this.#refusals.shift()
      const payload = refused ? this.#refuse(chain, refused) : this.#sendNext(chain, socket!, room)
      queue.push(chain, VSOCK_HEADER_SIZE + payload)
      left -= turnCost(payload)
    }
    return false
  }

  /** Each in its turn. */
  #nextReady(): VsockSocket | undefined {
    for (const socket of this.#ready) {
      this.#ready.delete(socket)
      if (!socket.hasNext) continue
      this.#ready.add(socket)
      return socket
    }
    return undefined
  }

  #refuse(chain: DescriptorChain, { srcPort, dstPort, type }: VsockHeader): number {
    const message = { op: VSOCK_OP.RST }
    this.#write(chain, { localPort: dstPort, remotePort: srcPort, type, ...NO_ROOM }, message)
    return 0
  }

  /** @returns bytes of payload */
  #sendNext(chain: DescriptorChain, socket: VsockSocket, room: number): number {
    const { localPort, remotePort } = socket
    const message = socket.next(room)!
    const type = typeNumber(socket.type)
    this.#write(chain, { localPort, remotePort, type, ...socket.tell() }, message)
    return message.payload?.length ?? 0
  }

  #write(chain: DescriptorChain, sender: Sender, { op, flags = 0, payload }: VsockMessage): void {
    const { localPort, remotePort, type, bufAlloc, fwdCnt } = sender
    const header = encodeVsock({
      srcCid: BigInt(VSOCK_HOST_CID),
      dstCid: BigInt(this.cid),
      srcPort: localPort,
      dstPort: remotePort,
      length: payload?.length ?? 0,
      type,
      op,
      flags,
      bufAlloc,
      fwdCnt,
    })
    chain.write(header)
    if (payload) chain.write(payload, VSOCK_HEADER_SIZE)
  }
}

/** What of a connection is in each of its packets. */
interface Sender {
  readonly localPort: number
  readonly remotePort: number
  readonly type: number
  readonly bufAlloc: number
  readonly fwdCnt: number
}

/** How connections are to ports that nobody listens on. */
const UNCLAIMED: VsockSocketOptions = { allowHalfOpen: true }
const NO_ROOM = { bufAlloc: 0, fwdCnt: 0 }

function checkPort(port: number): void {
  if (Number.isInteger(port) && port >= 0 && port <= MOST_PORT) return
  throw outOfRange(`port must be 0 to ${MOST_PORT}, not ${port}`)
}
