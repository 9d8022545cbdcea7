// TAP and macvtap devices of the host: where frames leave for its network stack.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Binding, binding, type Handle } from '../binding.js'
import { kvmError } from '../core/errors.js'
import { filePath, integer, list, object } from '../core/validate.js'
import { formatMac } from '../devices/index.js'

// linux/if_tun.h, linux/sockios.h.
const TUNSETIFF = 0x4004_54ca
const TUNSETOFFLOAD = 0x4004_54d0
const TUNGETIFF = 0x8004_54d2
const TUNSETVNETHDRSZ = 0x4004_54d8
const TUNSETQUEUE = 0x4004_54d9
const SIOCGIFHWADDR = 0x8927
const REQUEST_NAMES: Readonly<Record<number, string>> = {
  [TUNSETIFF]: 'TUNSETIFF',
  [TUNSETOFFLOAD]: 'TUNSETOFFLOAD',
  [TUNGETIFF]: 'TUNGETIFF',
  [TUNSETVNETHDRSZ]: 'TUNSETVNETHDRSZ',
  [TUNSETQUEUE]: 'TUNSETQUEUE',
  [SIOCGIFHWADDR]: 'SIOCGIFHWADDR',
}
const IFF_TAP = 0x0002
const IFF_MULTI_QUEUE = 0x0100
const IFF_ATTACH_QUEUE = 0x0200
const IFF_DETACH_QUEUE = 0x0400
const IFF_NO_PI = 0x1000
const IFF_VNET_HDR = 0x4000

/** Offloads of a TAP, as masks for {@link Tap.setOffloads}: what it may hand over (TUN_F_*). */
export const TUN_F = {
  CSUM: 0x01,
  TSO4: 0x02,
  TSO6: 0x04,
  TSO_ECN: 0x08,
  UFO: 0x10,
  USO4: 0x20,
  USO6: 0x40,
} as const

const ALL_OFFLOADS = 0x7f
// Which kernels have what: no USO before 6.2, and some no UFO.
const OFFLOAD_CHOICES = [ALL_OFFLOADS, 0x1f, 0x6f, 0x0f]

// What TUNGETIFF says of a TAP, and of a macvtap, whose interface is gone.
const EBADFD = 77
const ENOLINK = 67

const IFREQ_SIZE = 40
const IFNAMSIZ = 16
const NET_HEADER_SIZE = 12

/** Options of {@link Tap.open}. */
export interface TapOptions {
  /** Queues, 1 to 16, each for a queue pair of the guest; 1 unless said. */
  readonly queues?: number
}

/** A TAP or macvtap device with one or several queues. */
export class Tap implements Disposable {
  readonly #native: Binding
  readonly #queues: readonly Handle[]
  /** Offloads that this kernel's TAPs have: bits of {@link TUN_F}. */
  readonly offloads: number
  #enabled: number
  #closed = false

  private constructor(native: Binding, queues: readonly Handle[]) {
    this.#native = native
    this.#queues = queues
    this.#enabled = queues.length
    for (const queue of queues) this.#request(queue, TUNSETVNETHDRSZ, u32(NET_HEADER_SIZE))
    this.offloads = OFFLOAD_CHOICES.find((each) => this.#tryOffloads(each)) ?? 0
    this.setOffloads(0)
  }

  /**
   * Opens the TAP or macvtap of this name; a TAP that does not exist is made and lives as long as it is
   * open. That needs CAP_NET_ADMIN, unless it exists and belongs to the user.
   *
   * @throws KvmError `EPERM`; `EBUSY` when somebody has it; `EINVAL` when it is no TAP, or one with a
   *   single queue and more are wanted
   */
  static open(name: string, options: TapOptions = {}): Tap {
    filePath(name, 'name')
    const { queues = 1 } = object(options, 'options')
    integer(queues, 'options.queues', 1, 16)
    const native = binding()
    const macvtap = macvtapPath(name)
    const path = macvtap ?? '/dev/net/tun'
    return Tap.#create(native, queues, () => {
      const handle = native.openFile(path, 1)
      if (typeof handle === 'number') throw kvmError(handle, { syscall: 'open', path })
      attach(native, handle, macvtap === undefined ? name : '', queues > 1)
      return handle
    })
  }

  /**
   * Takes TAP queues that another program has opened, with IFF_VNET_HDR. The descriptors stay the
   * caller's; this object has its own.
   *
   * @throws KvmError `EBADF`, `ENOTTY` or `EINVAL` for what is no such descriptor
   */
  static fromFds(fds: readonly number[]): Tap {
    const native = binding()
    const numbers = list(fds, 'fds').map((fd, i) => integer(fd, `fds[${i}]`, 0, 0x7fff_ffff))
    integer(numbers.length, 'fds.length', 1, 16)
    return Tap.#create(native, numbers.length, (i) => {
      const handle = native.duplicateFile(numbers[i]!)
      if (typeof handle === 'number') throw kvmError(handle, { syscall: 'fcntl' })
      const { flags } = interfaceOf(native, handle)
      if ((flags & (IFF_TAP | IFF_VNET_HDR)) === (IFF_TAP | IFF_VNET_HDR)) return handle
      native.close(handle)
      throw kvmError(-22, { ioctl: 'TUNGETIFF', reason: 'it is no TAP with IFF_VNET_HDR' })
    })
  }

  static #create(native: Binding, count: number, open: (index: number) => Handle): Tap {
    const queues: Handle[] = []
    try {
      for (let i = 0; i < count; i++) queues.push(open(i))
      return new Tap(native, queues)
    } catch (error) {
      for (const queue of queues) native.close(queue)
      throw error
    }
  }

  /** How many queues it has. */
  get queueCount(): number {
    return this.#queues.length
  }

  /** The name of the interface. */
  get name(): string {
    return interfaceOf(this.#native, this.#queues[0]!).name
  }

  /** The interface's MTU, in bytes. */
  get mtu(): number {
    const mtu = this.#native.interfaceMtu(this.name)
    if (mtu < 0) throw kvmError(mtu, { ioctl: 'SIOCGIFMTU' })
    return mtu
  }

  /** The interface's own address: on a macvtap that of the guest, on a TAP that of the host. */
  get mac(): string {
    const request = new Uint8Array(IFREQ_SIZE)
    this.#request(this.#queues[0]!, SIOCGIFHWADDR, request)
    return formatMac(request.subarray(IFNAMSIZ + 2, IFNAMSIZ + 8))
  }

  /** Whether the interface was removed while this has it open. */
  get isGone(): boolean {
    const result = this.#native.tapRequest(this.#queues[0]!, TUNGETIFF, new Uint8Array(IFREQ_SIZE))
    return result === -EBADFD || result === -ENOLINK
  }

  /** Whether it is a macvtap: only frames for its own address come there. */
  get isMacvtap(): boolean {
    return macvtapPath(this.name) !== undefined
  }

  /**
   * Says what it may hand over without doing it: checksums and segments.
   *
   * @throws KvmError `EINVAL` for what this kernel does not have, and for segments without checksums
   */
  setOffloads(offloads: number): void {
    // A property of the interface, but of a macvtap's queues.
    for (const queue of this.#queues) this.#request(queue, TUNSETOFFLOAD, u32(offloads))
  }

  #tryOffloads(offloads: number): boolean {
    return this.#native.tapRequest(this.#queues[0]!, TUNSETOFFLOAD, u32(offloads)) >= 0
  }

  /** Hands frames over by the first `count` queues only. */
  useQueues(count: number): void {
    integer(count, 'count', 1, this.#queues.length)
    this.#queues.forEach((queue, i) => {
      const on = i < count
      if (on === i < this.#enabled) return
      const request = ifreq('', on ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE)
      this.#request(queue, TUNSETQUEUE, request)
    })
    this.#enabled = count
  }

  /** @internal The file of a queue. */
  queue(index: number): Handle {
    return this.#queues[index]!
  }

  /** Whether {@link close} was called. */
  get closed(): boolean {
    return this.#closed
  }

  /** Closes it; a device that uses it goes on until it is reset. Idempotent. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    for (const queue of this.#queues) this.#native.close(queue)
  }

  /** Closes it at the end of a `using` scope. */
  [Symbol.dispose](): void {
    this.close()
  }

  #request(queue: Handle, request: number, data: Uint8Array): void {
    const result = this.#native.tapRequest(queue, request, data)
    if (result < 0) throw kvmError(result, { ioctl: REQUEST_NAMES[request]! })
  }
}

/** The file of the macvtap of this name, if there is one. */
function macvtapPath(name: string): string | undefined {
  const folder = join('/sys/class/net', name)
  if (!existsSync(folder)) return undefined
  const file = `tap${Number(readFileSync(join(folder, 'ifindex'), 'latin1'))}`
  return existsSync(join(folder, file)) ? `/dev/${file}` : undefined
}

function attach(native: Binding, handle: Handle, name: string, multi: boolean): void {
  const flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
  const set = (more: number) => native.tapRequest(handle, TUNSETIFF, ifreq(name, flags | more))
  let result = set(multi ? IFF_MULTI_QUEUE : 0)
  // One that was made for several queues takes nobody who wants only one.
  if (result === -22 && !multi) result = set(IFF_MULTI_QUEUE)
  if (result >= 0) return
  native.close(handle)
  throw kvmError(result, {
    ioctl: 'TUNSETIFF',
    reasons: {
      EPERM: 'it takes CAP_NET_ADMIN, or a TAP that belongs to the user (ip tuntap add ... user)',
      EBUSY: 'somebody has it open',
      EINVAL: `${name} is no TAP, or has one queue (ip tuntap add ... multi_queue)`,
    },
  })
}

function interfaceOf(native: Binding, handle: Handle): { name: string; flags: number } {
  const request = new Uint8Array(IFREQ_SIZE)
  const result = native.tapRequest(handle, TUNGETIFF, request)
  if (result < 0) throw kvmError(result, { ioctl: 'TUNGETIFF' })
  const name = Buffer.from(request.subarray(0, IFNAMSIZ)).toString('latin1').replace(/\0.*$/s, '')
  return { name, flags: new DataView(request.buffer).getUint16(IFNAMSIZ, true) }
}

function ifreq(name: string, flags: number): Uint8Array {
  const request = new Uint8Array(IFREQ_SIZE)
  const bytes = Buffer.from(name, 'latin1')
  if (bytes.length >= IFNAMSIZ) throw kvmError(-36, { ioctl: 'TUNSETIFF', reason: name })
  request.set(bytes)
  new DataView(request.buffer).setUint16(IFNAMSIZ, flags, true)
  return request
}

function u32(value: number): Uint8Array {
  return new Uint8Array(new Uint32Array([value]).buffer)
}
