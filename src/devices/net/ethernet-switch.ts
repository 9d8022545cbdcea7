// An Ethernet switch in this process: machines that are plugged into it reach each other. It learns who
// is behind which port, keeps VLANs apart (IEEE 802.1Q), and can show what passes.

import { outOfRange } from '../errors.js'
import {
  addVlanTag,
  ETHERNET_HEADER_SIZE,
  isGroup,
  macNumber,
  removeVlanTag,
  vlanOf,
} from './ethernet.js'
import { FrameCapture } from './frame-capture.js'
import type { NetBackend, NetPort } from './net-backend.js'

/** Of a port. */
export interface SwitchPortOptions {
  /** The VLAN of frames without a tag, 1 to 4094; 1 unless said. */
  readonly vlan?: number
  /** VLANs whose frames pass with a tag: the port is a trunk. None unless said. */
  readonly tagged?: readonly number[]
}

/** Options of {@link EthernetSwitch}. */
export interface EthernetSwitchOptions {
  /** Frames that wait at a port whose guest is slow; what comes then is dropped. 512 unless said. */
  readonly queueLength?: number
  /** Addresses that are remembered in each VLAN, the oldest being forgotten; 4096 unless said. */
  readonly tableSize?: number
}

/** Counters of a port. */
export interface SwitchPortStatistics {
  /** Frames from the machine. */
  readonly received: number
  /** Frames to the machine. */
  readonly sent: number
  /** Frames to the machine that found its queue full. */
  readonly dropped: number
  /** Frames from the machine that are none, or whose VLAN it may not send to. */
  readonly refused: number
}

/** A switch. Create ports by {@link EthernetSwitch.port} and give each to a network device. */
export class EthernetSwitch {
  readonly #queueLength: number
  readonly #tableSize: number
  readonly #ports = new Set<SwitchPort>()
  readonly #captures = new Set<FrameCapture>()
  /** Who is behind which port, by VLAN and address; in the order in which they were learned. */
  readonly #tables = new Map<number, Map<number, SwitchPort>>()

  constructor({ queueLength = 512, tableSize = 4096 }: EthernetSwitchOptions = {}) {
    this.#queueLength = Math.max(1, queueLength)
    this.#tableSize = Math.max(1, tableSize)
  }

  /**
   * A new port.
   *
   * @throws `ERR_OUT_OF_RANGE` for a VLAN that is none
   */
  port(options: SwitchPortOptions = {}): SwitchPort {
    const forward = (from: SwitchPort, frame: Uint8Array, vlan: number) =>
      this.#forward(from, frame, vlan)
    const port = new SwitchPort(options, this.#queueLength, forward, () => this.#remove(port))
    this.#ports.add(port)
    return port
  }

  /** A capture of every frame that is switched, with the tags that its sender gave it. */
  capture(limit?: number): FrameCapture {
    const capture = new FrameCapture(limit)
    this.#captures.add(capture)
    capture.once('close', () => this.#captures.delete(capture))
    return capture
  }

  #forward(from: SwitchPort, frame: Uint8Array, vlan: number): void {
    for (const capture of this.#captures) capture.add(frame)
    const table = this.#tableOf(vlan)
    if (!isGroup(frame, 6)) this.#learn(table, macNumber(frame, 6), from)
    const to = isGroup(frame) ? undefined : table.get(macNumber(frame, 0))
    if (to === from) return
    for (const port of to === undefined ? this.#ports : [to]) {
      if (port !== from) port.send(frame, vlan)
    }
  }

  #tableOf(vlan: number): Map<number, SwitchPort> {
    const known = this.#tables.get(vlan)
    if (known !== undefined) return known
    const table = new Map<number, SwitchPort>()
    this.#tables.set(vlan, table)
    return table
  }

  #learn(table: Map<number, SwitchPort>, mac: number, port: SwitchPort): void {
    if (table.get(mac) === port) return
    table.delete(mac)
    if (table.size >= this.#tableSize) table.delete(table.keys().next().value!)
    table.set(mac, port)
  }

  #remove(port: SwitchPort): void {
    this.#ports.delete(port)
    for (const table of this.#tables.values()) {
      for (const [mac, each] of table) if (each === port) table.delete(mac)
    }
  }
}

/** A port of an {@link EthernetSwitch}: the back end of one network device. */
export class SwitchPort implements NetBackend {
  readonly #vlan: number
  readonly #tagged: ReadonlySet<number>
  readonly #queueLength: number
  readonly #forward: (from: SwitchPort, frame: Uint8Array, vlan: number) => void
  readonly #onClose: () => void
  readonly #queue: Uint8Array[] = []
  readonly #counts = { received: 0, sent: 0, dropped: 0, refused: 0 }
  #port: NetPort | undefined

  /** @internal */
  constructor(
    { vlan = 1, tagged = [] }: SwitchPortOptions,
    queueLength: number,
    forward: (from: SwitchPort, frame: Uint8Array, vlan: number) => void,
    onClose: () => void,
  ) {
    for (const each of [vlan, ...tagged]) {
      if (Number.isInteger(each) && each >= 1 && each <= 4094) continue
      throw outOfRange(`a VLAN is a number from 1 to 4094: ${each}`)
    }
    this.#vlan = vlan
    this.#tagged = new Set(tagged)
    this.#queueLength = queueLength
    this.#forward = forward
    this.#onClose = onClose
  }

  /** What has passed. */
  get statistics(): SwitchPortStatistics {
    return { ...this.#counts }
  }

  /** For the device. */
  connect(port: NetPort): void {
    this.#port = port
  }

  /** For the device: never says no, since a switch drops what it cannot forward. */
  transmit(frame: Uint8Array): boolean {
    const tag = frame.length < ETHERNET_HEADER_SIZE ? undefined : (vlanOf(frame) ?? 0)
    const vlan = tag === 0 ? this.#vlan : tag
    if (vlan === undefined || (tag !== 0 && !this.#tagged.has(vlan))) {
      this.#counts.refused++
      return true
    }
    this.#counts.received++
    this.#forward(this, frame, vlan)
    return true
  }

  /** For the device. */
  resume(): void {
    while (this.#queue.length > 0 && this.#port?.receive(this.#queue[0]!)) {
      this.#queue.shift()
      this.#counts.sent++
    }
  }

  /** @internal Hands the machine a frame of a VLAN, if it is in it. */
  send(frame: Uint8Array, vlan: number): void {
    const tagged = this.#tagged.has(vlan)
    if (this.#port === undefined || !(tagged || vlan === this.#vlan)) return
    const bytes = retag(frame, tagged ? vlan : undefined)
    if (this.#queue.length === 0 && this.#port.receive(bytes)) {
      this.#counts.sent++
    } else if (this.#queue.length < this.#queueLength) {
      this.#queue.push(bytes)
    } else {
      this.#counts.dropped++
    }
  }

  /** Leaves the switch. */
  close(): void {
    this.#port = undefined
    this.#queue.length = 0
    this.#onClose()
  }
}

/** The frame with the tag of `vlan`, or without any. */
function retag(frame: Uint8Array, vlan: number | undefined): Uint8Array {
  const present = vlanOf(frame)
  if (present === vlan) return frame
  const plain = present === undefined ? frame : removeVlanTag(frame)
  return vlan === undefined ? plain : addVlanTag(plain, vlan)
}
