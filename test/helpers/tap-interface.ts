// A TAP of the host with an address, made for one test.

import { execFileSync } from 'node:child_process'
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { macOf } from './frames.js'

let made = 0

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] })
}

/** Why there can be no TAP here, if so: for skips. */
export function noTapReason(options?: { macvtap: boolean }): string | undefined {
  try {
    using tap = new TapInterface(options)
    return tap.name === '' ? 'no name' : undefined
  } catch (error) {
    return `no TAP: ${(error as Error).message.trim()}`
  }
}

/** The interface; it goes with {@link TapInterface.remove}. */
export class TapInterface implements Disposable {
  readonly name: string
  /** Address of the host. */
  readonly host: string
  /** Address of the guest, whose hardware address is `macOf(1)`. */
  readonly guest: string

  /** The interface that has the host's address. */
  readonly #hostSide: string

  constructor({
    multiQueue = false,
    mtu = 1500,
    macvtap = false,
  }: { multiQueue?: boolean; mtu?: number; macvtap?: boolean } = {}) {
    made++
    this.name = `kvm${process.pid % 100000}t${made}`
    const network = `10.${100 + (process.pid % 100)}.${made}`
    this.host = `${network}.1`
    this.guest = `${network}.2`
    this.#hostSide = macvtap ? `${this.name}b` : this.name
    const mac = Array.from(macOf(1), (byte) => byte.toString(16)).join(':')
    if (macvtap) this.#addMacvtap(mac)
    else ip('tuntap', 'add', this.name, 'mode', 'tap', ...(multiQueue ? ['multi_queue'] : []))
    try {
      ip('link', 'set', this.#hostSide, 'mtu', String(mtu), 'up')
      ip('addr', 'add', `${this.host}/24`, 'dev', this.#hostSide)
      ip('neigh', 'add', this.guest, 'lladdr', mac, 'dev', this.#hostSide, 'nud', 'permanent')
    } catch (error) {
      this.remove()
      throw error
    }
  }

  /** A macvtap above one end of a cable, at whose other end the host is. */
  #addMacvtap(mac: string): void {
    const lower = `${this.name}a`
    ip('link', 'add', lower, 'type', 'veth', 'peer', 'name', this.#hostSide)
    ip('link', 'set', lower, 'up')
    ip('link', 'add', 'link', lower, 'name', this.name, 'type', 'macvtap', 'mode', 'bridge')
    ip('link', 'set', this.name, 'address', mac, 'up')
  }

  /** The interface is gone, whoever has it open. */
  remove(): void {
    try {
      ip('link', 'del', this.#hostSide)
    } catch {
      // It is gone already.
    }
  }

  [Symbol.dispose](): void {
    this.remove()
  }

  /** A UDP socket of the host on it. */
  async socket(): Promise<Socket> {
    const socket = createSocket('udp4')
    socket.bind(0, this.host)
    await once(socket, 'listening')
    return socket
  }

  /** An Ethernet frame with a UDP datagram of the guest's for the host. */
  datagram(payload: Uint8Array, port: number, checksum: 'none' | 'partial' = 'none'): Uint8Array {
    const frame = new Uint8Array(42 + payload.length)
    const view = new DataView(frame.buffer)
    frame.set(this.#hostMac())
    frame.set(macOf(1), 6)
    view.setUint16(12, 0x0800)
    view.setUint16(14, 0x4500)
    view.setUint16(16, 28 + payload.length)
    view.setUint16(22, 0x4011)
    frame.set(this.guest.split('.').map(Number), 26)
    frame.set(this.host.split('.').map(Number), 30)
    view.setUint16(24, ~sum(frame.subarray(14, 34)) & 0xffff)
    view.setUint16(34, 7777)
    view.setUint16(36, port)
    view.setUint16(38, 8 + payload.length)
    // What a driver leaves to its device: the sum of the pseudo header alone.
    if (checksum === 'partial') {
      const pseudo = new Uint8Array(12)
      pseudo.set(frame.subarray(26, 34))
      pseudo[9] = 17
      new DataView(pseudo.buffer).setUint16(10, 8 + payload.length)
      view.setUint16(40, sum(pseudo))
    }
    frame.set(payload, 42)
    return frame
  }

  #hostMac(): number[] {
    const text = execFileSync('ip', ['-o', 'link', 'show', this.#hostSide], { encoding: 'utf8' })
    const mac = /link\/ether ([\da-f:]+)/.exec(text)?.[1] ?? ''
    return mac.split(':').map((byte) => Number.parseInt(byte, 16))
  }
}

/** The Internet checksum's sum, not inverted. */
function sum(bytes: Uint8Array): number {
  let total = 0
  for (let i = 0; i < bytes.length; i++) total += i % 2 ? bytes[i]! : bytes[i]! << 8
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16)
  return total
}

/** The payload of a UDP datagram in an Ethernet frame; undefined for other frames. */
export function udpPayload(frame: Uint8Array): Uint8Array | undefined {
  const isUdp = frame[12] === 0x08 && frame[13] === 0 && frame[23] === 17
  return isUdp ? frame.subarray(42) : undefined
}
