// The PCI host bridge with its one bus: the two ways to configuration space, 32 slots, the windows
// from which addresses are given out, and the four interrupt lines that all slots share.

import type { Bus } from '../bus.js'
import type { BusDevice } from '../bus-device.js'
import { HotPlugError, outOfRange } from '../errors.js'
import { type InterruptLine, unconnectedLine } from '../interrupt-line.js'
import { READS, type RegisterShadow } from '../register-shadow.js'
import { SharedLine } from '../shared-line.js'
import { moveBars, PciFunction } from './pci-function.js'
import { PCI_MULTI_FUNCTION } from './pci-registers.js'

/** First of the eight ports of configuration mechanism 1 (PCI Local Bus Specification 3.0 §3.2.2.3). */
export const PCI_CONFIG_PORT = 0xcf8

/** Bytes of ECAM for the one bus. */
export const PCI_ECAM_SIZE = 0x10_0000

/** Addresses that the host may give out. */
export interface PciWindow {
  readonly base: number
  readonly size: number
}

/**
 * Configuration space as the ports show it, for those who answer them in the bridge's stead: two times
 * {@link PCI_SHADOW_SIZE} bytes, the place of each the low half of its address; all ones where there is no
 * function.
 */
export interface PciConfigShadow extends RegisterShadow {
  /** One word: what was last written to the address port. */
  readonly address: Uint32Array
}

/** Bytes of configuration space that the ports reach. */
export const PCI_SHADOW_SIZE = 0x1_0000

/** Options of {@link PciHost}. */
export interface PciHostOptions {
  readonly ports: Bus
  readonly mmio: Bus
  /** Where configuration space is in memory; only by the ports when absent. */
  readonly ecamGpa?: number
  readonly io: PciWindow
  readonly memory32: PciWindow
  readonly memory64: PciWindow
  /** Where INTA to INTD of slot 0 arrive; each further slot is turned by one. */
  readonly lines?: readonly InterruptLine[]
  /** Gets the byte accesses to port 0xcf9, which lies among the configuration ports. */
  readonly resetControl?: BusDevice
  /** Kept up to date with configuration space. */
  readonly shadow?: PciConfigShadow
}

const SLOTS = 32
const FUNCTIONS = 8
const PINS = 4
const ENABLE = 0x8000_0000
const CONFIG_SIZE_BY_PORTS = 256

const allOnes = (size: number): number => 2 ** (8 * size) - 1

/** The bridge. It is itself the function in slot 0. */
export class PciHost implements BusDevice {
  readonly name = 'pci-host'
  readonly #options: PciHostOptions
  readonly #functions: (PciFunction | undefined)[] = new Array(SLOTS * FUNCTIONS)
  readonly #lines: readonly SharedLine[]
  readonly #address: Uint32Array
  #sealed = false

  constructor(options: PciHostOptions) {
    this.#options = options
    const { lines = [], shadow } = options
    this.#address = shadow?.address ?? new Uint32Array(1)
    shadow?.registers.fill(0xff)
    shadow?.gate.fill(READS)
    this.#lines = Array.from(
      { length: PINS },
      (_, i) => new SharedLine(lines[i] ?? unconnectedLine),
    )
    this.add(0, hostBridge())
    options.ports.add(PCI_CONFIG_PORT, 8, this)
    if (options.ecamGpa !== undefined) options.mmio.add(options.ecamGpa, PCI_ECAM_SIZE, this.#ecam)
  }

  /** Every function, by slot. */
  get functions(): readonly PciFunction[] {
    return this.#functions.filter((each) => each !== undefined)
  }

  /** Whether there is anything beside the bridge. */
  get isEmpty(): boolean {
    return this.functions.length === 1
  }

  /** The guest looks for devices from now on: what comes later is refused. */
  seal(): void {
    this.#sealed = true
  }

  /**
   * Puts a function into a slot, where the guest finds it in every run.
   *
   * @param slot 1 to 31
   * @param number the function's number in the slot; 0 must be there for the guest to look at others
   * @throws RangeError `ERR_OUT_OF_RANGE` when the slot or function does not exist or is taken
   * @throws HotPlugError `ERR_KVM_NO_HOTPLUG` once the machine was run
   */
  add(slot: number, added: PciFunction, number = 0): void {
    if (this.#sealed) throw new HotPlugError(added.name)
    const index = slot * FUNCTIONS + number
    if (!(Number.isInteger(slot) && slot >= 0 && slot < SLOTS)) {
      throw outOfRange(`PCI slots are 0 to ${SLOTS - 1}, not ${slot}`)
    }
    if (!(Number.isInteger(number) && number >= 0 && number < FUNCTIONS)) {
      throw outOfRange(`functions of a slot are 0 to ${FUNCTIONS - 1}, not ${number}`)
    }
    const holder = this.#functions[index]
    if (holder) throw outOfRange(`PCI slot ${slot}.${number} is taken by ${holder.name}`)
    this.#functions[index] = added
    const { shadow } = this.#options
    const at = index * CONFIG_SIZE_BY_PORTS
    const part = (bytes: Uint8Array) => bytes.subarray(at, at + CONFIG_SIZE_BY_PORTS)
    if (shadow) added.keepShadow({ registers: part(shadow.registers), gate: part(shadow.gate) })
    const first = slot * FUNCTIONS
    const siblings = this.#functions.slice(first, first + FUNCTIONS)
    const isMulti = siblings.some((each, i) => i > 0 && each !== undefined)
    siblings.forEach((each, i) => {
      // Only what is new gets a line: the others hold theirs.
      each?.setMultiFunction(isMulti ? PCI_MULTI_FUNCTION : 0)
      if (i === number) each?.connect(this.#lines[slot % PINS]!.join(), () => this.#moveBars())
    })
  }

  /**
   * The first slot that nobody has taken.
   *
   * @throws RangeError `ERR_OUT_OF_RANGE` when there is none
   */
  freeSlot(): number {
    for (let slot = 1; slot < SLOTS; slot++) {
      if (this.#functions[slot * FUNCTIONS] === undefined) return slot
    }
    throw outOfRange(`all ${SLOTS} PCI slots are taken`)
  }

  /**
   * Gives every BAR an address, as firmware would, in the order of the slots: the same functions get
   * the same addresses in every run.
   *
   * @throws RangeError `ERR_OUT_OF_RANGE` when a window is too small
   */
  assignBars(): void {
    const { io, memory32, memory64 } = this.#options
    const next = { io: io.base, memory32: memory32.base, memory64: memory64.base }
    const windows = { io, memory32, memory64 }
    for (const each of this.functions) {
      for (const slot of each.bars) {
        const { kind, size } = slot.bar
        const address = Math.ceil(next[kind] / size) * size
        const { base, size: room } = windows[kind]
        if (address + size > base + room) {
          throw outOfRange(`${each.name}: no room for a BAR of ${size} bytes of kind ${kind}`)
        }
        next[kind] = address + size
        slot.address = address
      }
      each.publish()
    }
    this.#moveBars()
  }

  /** Resets the bridge and every function; BARs have no addresses then. */
  reset(): void {
    this.#address[0] = 0
    this.#options.resetControl?.reset?.()
    for (const each of this.functions) each.reset()
  }

  /** The ports: address at offset 0, data at 4. */
  read(offset: number, size: number): number {
    if (offset >= 4)
      return this.#selected?.readConfig(this.#register(offset), size) ?? allOnes(size)
    if (offset === 0 && size === 4) return this.#address[0]!
    if (offset === 1 && size === 1) return this.#options.resetControl?.read(0, 1) ?? 0xff
    return allOnes(size)
  }

  write(offset: number, size: number, value: number): void {
    if (offset >= 4) this.#selected?.writeConfig(this.#register(offset), size, value)
    else if (offset === 0 && size === 4) this.#address[0] = value
    else if (offset === 1 && size === 1) this.#options.resetControl?.write(0, 1, value)
  }

  /** The function that the address port names, if that is enabled and on bus 0. */
  get #selected(): PciFunction | undefined {
    const address = this.#address[0]!
    if (address < ENABLE || ((address >>> 16) & 0xff) !== 0) return undefined
    return this.#functions[(address >>> 8) & 0xff]
  }

  #register(offset: number): number {
    return (this.#address[0]! & 0xfc) + offset - 4
  }

  readonly #ecam: BusDevice = {
    name: 'pci-ecam',
    read: (offset, size) =>
      this.#functions[offset >>> 12]?.readConfig(offset & 0xfff, size) ?? allOnes(size),
    write: (offset, size, value) =>
      this.#functions[offset >>> 12]?.writeConfig(offset & 0xfff, size, value),
  }

  #moveBars(): void {
    moveBars(this.functions, this.#options.ports, this.#options.mmio)
  }
}

/** Ids by which QEMU's firmware knows that there is fw_cfg; no driver binds to the bridge itself. */
function hostBridge(): PciFunction {
  return new PciFunction({
    name: 'host bridge',
    vendorId: 0x1b36,
    deviceId: 0x0008,
    classCode: 0x06_0000,
    subsystemVendorId: 0x1af4,
    subsystemId: 0x1100,
  })
}
