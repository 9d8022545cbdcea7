// A TAP of the host with an address, made for one test.

import { execFileSync } from 'node:child_process'
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { macOf, udpFrame } from './frames.js'

let made = 0

// A sanitizer that is loaded first would report the leaks of other programs.
const env = { ...process.env, LD_PRELOAD: '' }

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'], env })
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
    const ends = {
      source: { mac: macOf(1), ip: this.guest, port: 7777 },
      target: { mac: this.#hostMac(), ip: this.host, port },
    }
    return udpFrame(ends, payload, checksum)
  }

  #hostMac(): Uint8Array {
    const text = execFileSync('ip', ['-o', 'link', 'show', this.#hostSide], {
      encoding: 'utf8',
      env,
    })
    const mac = /link\/ether ([\da-f:]+)/.exec(text)?.[1] ?? ''
    return new Uint8Array(Buffer.from(mac.replaceAll(':', ''), 'hex'))
  }
}
