// MSI-X: a table of messages in a BAR of the function, one for each of its up to 2048 interrupts.

import type { BusDevice } from '../bus-device.js'
import { outOfRange } from '../errors.js'
import { type MessageInterruptFactory, MessageVectors } from './message-interrupt.js'
import type { PciBar } from './pci-bar.js'
import type { PciCapability } from './pci-capability.js'

/** Options of {@link MsixCapability}. */
export interface MsixOptions {
  /** How many interrupts: 1 to 2048. */
  readonly vectors: number
  /** The register of {@link MsixCapability.bar} among the function's BARs. */
  readonly barIndex: number
  /** What makes interrupts. */
  readonly create: MessageInterruptFactory
}

const MAX_VECTORS = 2048
const ENTRY_SIZE = 16
const CONTROL = 12
const MASKED = 1
const ENABLE = 0x80
const FUNCTION_MASK = 0x40

/**
 * The capability (PCI Local Bus Specification 3.0 §6.8.2), and the BAR with its table and its pending
 * bits.
 */
export class MsixCapability implements PciCapability {
  readonly id = 0x11
  readonly initial: Uint8Array
  readonly writable = Uint8Array.of(0, ENABLE | FUNCTION_MASK, 0, 0, 0, 0, 0, 0, 0, 0)
  /** To be put among the function's BARs. */
  readonly bar: PciBar
  readonly #vectors: MessageVectors
  readonly #table: Uint8Array
  readonly #view: DataView
  readonly #pendingAt: number
  #enabled = false
  #masked = false

  /** @throws RangeError `ERR_OUT_OF_RANGE` for other numbers of vectors */
  constructor({ vectors, barIndex, create }: MsixOptions) {
    if (!Number.isInteger(vectors) || vectors < 1 || vectors > MAX_VECTORS) {
      throw outOfRange(`MSI-X has 1 to ${MAX_VECTORS} vectors, not ${vectors}`)
    }
    this.#vectors = new MessageVectors(vectors, create)
    this.#table = new Uint8Array(vectors * ENTRY_SIZE)
    this.#view = new DataView(this.#table.buffer)
    // Behind the largest part of a page that the table fills, so that small ones share a page with it.
    const size = Math.max(4096, 2 ** Math.ceil(Math.log2(vectors * ENTRY_SIZE * 2)))
    this.#pendingAt = size / 2
    const initial = new DataView(new ArrayBuffer(10))
    initial.setUint16(0, vectors - 1, true)
    initial.setUint32(2, barIndex, true)
    initial.setUint32(6, this.#pendingAt + barIndex, true)
    this.initial = new Uint8Array(initial.buffer)
    const device: BusDevice = {
      name: 'msi-x table',
      read: (offset, width) => this.#read(offset, width),
      write: (offset, width, value) => this.#write(offset, width, value),
      reset: () => this.#clearTable(),
    }
    this.bar = { kind: 'memory32', size, device }
    this.#clearTable()
  }

  /** Whether the guest has switched it on; a function uses its pin otherwise. */
  get isEnabled(): boolean {
    return this.#enabled
  }

  /** Raises an interrupt. Nothing happens while MSI-X is off. */
  signal(index: number): void {
    if (!(index >= 0 && index < this.#vectors.count)) {
      throw outOfRange(`there is no MSI-X vector ${index}`)
    }
    if (this.#enabled) this.#vectors.signal(index)
  }

  /**
   * The id of the `EventFd` that raises an interrupt from anywhere, if one does. It is another after the
   * guest has switched MSI-X off and on again.
   */
  eventId(index: number): number | undefined {
    return this.#vectors.eventId(index)
  }

  onWrite(bytes: Uint8Array): void {
    const control = bytes[1]!
    const wasEnabled = this.#enabled
    this.#enabled = (control & ENABLE) !== 0
    this.#masked = (control & FUNCTION_MASK) !== 0
    if (!this.#enabled) {
      if (wasEnabled) this.#vectors.clear()
      return
    }
    for (let index = 0; index < this.#vectors.count; index++) this.#connect(index)
  }

  // The function's own reset switches MSI-X off, so no vector hears of it.
  #clearTable(): void {
    this.#table.fill(0)
    for (let index = 0; index < this.#vectors.count; index++) {
      this.#table[index * ENTRY_SIZE + CONTROL] = MASKED
    }
  }

  #read(offset: number, width: number): number {
    let value = 0
    for (let i = width - 1; i >= 0; i--) value = value * 256 + this.#byte(offset + i)
    return value
  }

  #byte(offset: number): number {
    if (offset < this.#pendingAt) return this.#table[offset] ?? 0
    const first = (offset - this.#pendingAt) * 8
    let byte = 0
    for (let bit = 0; bit < 8; bit++) {
      if (this.#vectors.isPending(first + bit)) byte |= 1 << bit
    }
    return byte
  }

  #write(offset: number, width: number, value: number): void {
    for (let i = 0; i < width; i++) {
      const at = offset + i
      if (at >= this.#table.length) return
      const place = at % ENTRY_SIZE
      // Of the last double word only the mask exists.
      const mask = place < CONTROL ? 0xff : place === CONTROL ? MASKED : 0
      this.#table[at] = (value >>> (8 * i)) & mask
    }
    if (!this.#enabled) return
    const last = Math.floor((offset + width - 1) / ENTRY_SIZE)
    for (let index = Math.floor(offset / ENTRY_SIZE); index <= last; index++) {
      if (index < this.#vectors.count) this.#connect(index)
    }
  }

  #connect(index: number): void {
    const at = index * ENTRY_SIZE
    const masked = this.#masked || this.#table[at + CONTROL] === MASKED
    const word = (offset: number) => this.#view.getUint32(at + offset, true)
    const message = { address_lo: word(0), address_hi: word(4), data: word(8) }
    this.#vectors.connect(index, masked ? undefined : message)
  }
}
