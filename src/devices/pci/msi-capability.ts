// MSI: one message for up to 32 interrupts, which differ in the low bits of its data.

import { outOfRange } from '../errors.js'
import { type MessageInterruptFactory, MessageVectors } from './message-interrupt.js'
import type { PciCapability } from './pci-capability.js'

/** Options of {@link MsiCapability}. */
export interface MsiOptions {
  /** How many interrupts: 1, 2, 4, 8, 16 or 32. */
  readonly vectors: number
  /** What makes interrupts. */
  readonly create: MessageInterruptFactory
}

const MAX_VECTORS = 32
const ENABLE = 0x01
const IS_64_BIT = 0x80
const MASKABLE = 0x01
/** Offsets behind id and link, in the form with 64-bit addresses and masks. */
const AT = { control: 0, addressLow: 2, addressHigh: 6, data: 10, mask: 14, pending: 18 }
const LENGTH = 22

/** The capability (PCI Local Bus Specification 3.0 §6.8.1), with 64-bit addresses and masks. */
export class MsiCapability implements PciCapability {
  readonly id = 0x05
  readonly initial = new Uint8Array(LENGTH)
  readonly writable = new Uint8Array(LENGTH)
  readonly #vectors: MessageVectors
  #enabled = 0

  /** @throws RangeError `ERR_OUT_OF_RANGE` for other numbers of vectors */
  constructor({ vectors, create }: MsiOptions) {
    const capable = Math.log2(vectors)
    if (!Number.isInteger(capable) || capable < 0 || vectors > MAX_VECTORS) {
      throw outOfRange(`MSI has 1, 2, 4, 8, 16 or 32 vectors, not ${vectors}`)
    }
    this.#vectors = new MessageVectors(vectors, create)
    this.initial.set([(capable << 1) | IS_64_BIT, MASKABLE], AT.control)
    const writable = new DataView(this.writable.buffer)
    writable.setUint8(AT.control, 0x71)
    writable.setUint32(AT.addressLow, 0xffff_fffc, true)
    writable.setUint32(AT.addressHigh, 0xffff_ffff, true)
    writable.setUint16(AT.data, 0xffff, true)
    writable.setUint32(AT.mask, 2 ** vectors - 1, true)
  }

  /** How many vectors the guest has granted; 0 while MSI is off. */
  get enabled(): number {
    return this.#enabled
  }

  /** Raises an interrupt; the last granted one where the guest granted fewer. */
  signal(index: number): void {
    if (!(index >= 0 && index < this.#vectors.count)) {
      throw outOfRange(`there is no MSI vector ${index}`)
    }
    if (this.#enabled > 0) this.#vectors.signal(Math.min(index, this.#enabled - 1))
  }

  onRead(bytes: Uint8Array): void {
    for (let i = 0; i < 4; i++) bytes[AT.pending + i] = 0
    for (let index = 0; index < this.#vectors.count; index++) {
      if (this.#vectors.isPending(index)) bytes[AT.pending + (index >> 3)]! |= 1 << (index & 7)
    }
  }

  onWrite(bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const control = view.getUint8(AT.control)
    const wasEnabled = this.#enabled > 0
    const granted = Math.min(2 ** ((control >> 4) & 7), this.#vectors.count)
    this.#enabled = (control & ENABLE) === 0 ? 0 : granted
    if (this.#enabled === 0) {
      if (wasEnabled) this.#vectors.clear()
      return
    }
    const address_lo = view.getUint32(AT.addressLow, true)
    const address_hi = view.getUint32(AT.addressHigh, true)
    const data = view.getUint16(AT.data, true)
    const mask = view.getUint32(AT.mask, true)
    for (let index = 0; index < this.#vectors.count; index++) {
      const masked = index >= granted || ((mask >>> index) & 1) === 1
      const message = { address_lo, address_hi, data: data - (data % granted) + index }
      this.#vectors.connect(index, masked ? undefined : message)
    }
  }
}
