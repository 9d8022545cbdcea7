// One conventional PCI function: 256 bytes of configuration space that mostly store, and the few registers
// that act.

import type { Bus } from '../bus.js'
import { outOfRange } from '../errors.js'
import { type InterruptLine, unconnectedLine } from '../interrupt-line.js'
import { READS, type RegisterShadow } from '../register-shadow.js'
import { BarSlot, PCI_BARS, type PciBar } from './pci-bar.js'
import type { PciCapability } from './pci-capability.js'
import { PCI_COMMAND, PCI_CONFIG_SIZE, PCI_REGISTER, PCI_STATUS } from './pci-registers.js'

/** What a {@link PciFunction} is. */
export interface PciFunctionOptions {
  /** For messages. */
  readonly name: string
  readonly vendorId: number
  readonly deviceId: number
  /** Base class, sub-class and interface: 24 bits, as in `0x020000` for Ethernet. */
  readonly classCode: number
  readonly revisionId?: number
  readonly subsystemVendorId?: number
  readonly subsystemId?: number
  /** By register; a `memory64` takes two, so nothing may stand behind it. */
  readonly bars?: readonly (PciBar | undefined)[]
  /** In the order in which the guest finds them. */
  readonly capabilities?: readonly PciCapability[]
  /** Has the interrupt pin INTA. Default false. */
  readonly hasInterruptPin?: boolean
}

const WRITABLE_COMMAND = Object.values(PCI_COMMAND).reduce((all, bit) => all | bit, 0)
const FIRST_CAPABILITY = 0x40
const LAST_CAPABILITY = 0xff

interface PlacedCapability {
  readonly capability: PciCapability
  readonly at: number
  readonly end: number
}

/** A function of a PCI device. The host it is added to connects it with the buses and interrupts. */
export class PciFunction {
  readonly name: string
  /** Base address registers that are in use. */
  readonly bars: readonly BarSlot[]
  readonly #bytes = new Uint8Array(PCI_CONFIG_SIZE)
  readonly #view = new DataView(this.#bytes.buffer)
  readonly #writable = new Uint8Array(PCI_CONFIG_SIZE)
  readonly #initial: Uint8Array
  readonly #capabilities: readonly PlacedCapability[]
  #line: InterruptLine = unconnectedLine
  #shadow: RegisterShadow | undefined
  #level = false
  #onMoved: (() => void) | undefined

  /** @throws RangeError `ERR_OUT_OF_RANGE` for BARs or capabilities that do not fit */
  constructor(options: PciFunctionOptions) {
    this.name = options.name
    const { hasInterruptPin = false } = options
    const view = this.#view
    view.setUint16(PCI_REGISTER.vendorId, options.vendorId, true)
    view.setUint16(PCI_REGISTER.deviceId, options.deviceId, true)
    view.setUint32(
      PCI_REGISTER.revisionId,
      options.classCode * 256 + (options.revisionId ?? 0),
      true,
    )
    view.setUint16(PCI_REGISTER.subsystemVendorId, options.subsystemVendorId ?? 0, true)
    view.setUint16(PCI_REGISTER.subsystemId, options.subsystemId ?? 0, true)
    view.setUint8(PCI_REGISTER.interruptPin, hasInterruptPin ? 1 : 0)
    const writable = new DataView(this.#writable.buffer)
    writable.setUint16(PCI_REGISTER.command, WRITABLE_COMMAND, true)
    writable.setUint8(PCI_REGISTER.cacheLineSize, 0xff)
    writable.setUint8(PCI_REGISTER.interruptLine, 0xff)
    this.bars = this.#placeBars(options.bars ?? [], writable)
    this.#capabilities = this.#placeCapabilities(options.capabilities ?? [])
    this.#initial = this.#bytes.slice()
  }

  /** Reads 1, 2 or 4 bytes of configuration space. Behind its end are all ones: no extended capabilities. */
  readConfig(offset: number, size: number): number {
    for (const { capability, at, end } of this.#touched(offset, size)) {
      capability.onRead?.(
        this.#bytes.subarray(at + 2, end),
        offset - at - 2,
        offset - at - 2 + size,
      )
    }
    let value = 0
    for (let i = size - 1; i >= 0; i--) value = value * 256 + (this.#bytes[offset + i] ?? 0xff)
    return value
  }

  /** Writes 1, 2 or 4 bytes, as far as they are writable. */
  writeConfig(offset: number, size: number, value: number): void {
    const bytes = this.#bytes
    for (let i = 0; i < size && offset + i < PCI_CONFIG_SIZE; i++) {
      const mask = this.#writable[offset + i]!
      const byte = (value >>> (8 * i)) & mask
      bytes[offset + i] = (bytes[offset + i]! & ~mask) | byte
    }
    for (const { capability, at, end } of this.#touched(offset, size)) {
      capability.onWrite?.(bytes.subarray(at + 2, end), offset - at - 2, offset - at - 2 + size)
    }
    this.publish()
    const isHeader = offset < PCI_REGISTER.bar0 + PCI_BARS * 4
    if (!isHeader) return
    this.#driveLine()
    this.#onMoved?.()
  }

  /** The level of the function's interrupt pin; what it drives unless the guest disabled INTx. */
  readonly interrupt: InterruptLine = {
    set: (level) => {
      this.#level = level
      this.#driveLine()
    },
  }

  /** The state after power-on: no addresses, nothing enabled. */
  reset(): void {
    this.#bytes.set(this.#initial)
    for (const { capability, at, end } of this.#capabilities) {
      capability.onWrite?.(this.#bytes.subarray(at + 2, end))
    }
    for (const device of new Set(this.bars.map(({ bar }) => bar.device))) device.reset?.()
    this.#level = false
    this.#driveLine()
    this.publish()
    this.#onMoved?.()
  }

  /** Where the guest wants a BAR; undefined while it does not let it answer. */
  wantedAddress({ bar, address }: BarSlot): number | undefined {
    const enable = bar.kind === 'io' ? PCI_COMMAND.io : PCI_COMMAND.memory
    return (this.#command & enable) === 0 ? undefined : address
  }

  /** For the host: where the pin leads, and what to do when a BAR may have moved. */
  connect(line: InterruptLine, onMoved: () => void): void {
    this.#line = line
    this.#onMoved = onMoved
  }

  /** For the host: keeps a shadow of the first of its registers from now on. */
  keepShadow(shadow: RegisterShadow): void {
    this.#shadow = shadow
    shadow.gate.fill(READS)
    for (const { capability, at, end } of this.#capabilities) {
      if (capability.onRead !== undefined) shadow.gate.fill(0, at, end)
    }
    this.publish()
  }

  /** For the host: brings the shadow up to date. */
  publish(): void {
    const { registers } = this.#shadow ?? {}
    registers?.set(this.#bytes.subarray(0, registers.length))
  }

  /** For the host: the bit of the header type that says so. */
  setMultiFunction(bit: number): void {
    this.#bytes[PCI_REGISTER.headerType] = bit
    this.#initial[PCI_REGISTER.headerType] = bit
    this.publish()
  }

  get #command(): number {
    return this.#view.getUint16(PCI_REGISTER.command, true)
  }

  #driveLine(): void {
    const status = this.#bytes[PCI_REGISTER.status]! & ~PCI_STATUS.interrupt
    this.#bytes[PCI_REGISTER.status] = status | (this.#level ? PCI_STATUS.interrupt : 0)
    if (this.#shadow !== undefined) {
      this.#shadow.registers[PCI_REGISTER.status] = this.#bytes[PCI_REGISTER.status]!
    }
    this.#line.set(this.#level && (this.#command & PCI_COMMAND.interruptDisable) === 0)
  }

  #touched(offset: number, size: number): readonly PlacedCapability[] {
    if (offset < FIRST_CAPABILITY || this.#capabilities.length === 0) return []
    return this.#capabilities.filter(({ at, end }) => offset < end && offset + size > at)
  }

  #placeBars(bars: readonly (PciBar | undefined)[], writable: DataView): BarSlot[] {
    const slots: BarSlot[] = []
    bars.forEach((bar, index) => {
      if (bar === undefined) return
      const at = PCI_REGISTER.bar0 + index * 4
      const slot = new BarSlot(bar, this.#view, at)
      const last = bar.kind === 'memory64' ? index + 1 : index
      if (last >= PCI_BARS || (last > index && bars[last] !== undefined)) {
        throw outOfRange(`${this.name}: BAR ${index} of kind ${bar.kind} does not fit`)
      }
      const [low, high] = slot.writable
      slot.address = 0
      writable.setUint32(at, low, true)
      if (last > index) writable.setUint32(at + 4, high, true)
      slots.push(slot)
    })
    return slots
  }

  #placeCapabilities(capabilities: readonly PciCapability[]): PlacedCapability[] {
    let link = PCI_REGISTER.capabilities as number
    let next = FIRST_CAPABILITY
    return capabilities.map((capability) => {
      const at = next
      const end = at + 2 + capability.initial.length
      if (end > LAST_CAPABILITY) throw outOfRange(`${this.name}: too many capabilities`)
      this.#bytes[link] = at
      this.#bytes[PCI_REGISTER.status] = PCI_STATUS.capabilities
      this.#bytes[at] = capability.id
      this.#bytes.set(capability.initial, at + 2)
      this.#writable.set(capability.writable ?? [], at + 2)
      link = at + 1
      next = Math.ceil(end / 4) * 4
      return { capability, at, end }
    })
  }
}

/** Brings BARs to where the guest wants them: first all that leave, then all that come. */
export function moveBars(functions: readonly PciFunction[], ports: Bus, mmio: Bus): void {
  for (const step of ['leave', 'enter'] as const) {
    for (const each of functions) {
      for (const slot of each.bars) {
        slot[step](slot.bar.kind === 'io' ? ports : mmio, each.wantedAddress(slot))
      }
    }
  }
}
