// The machine around virtio transports, without a machine: buses, doorbells that count, interrupts that
// are noted, and a driver's accesses as calls.

import { setImmediate } from 'node:timers/promises'
import {
  type DeviceMemory,
  type Doorbell,
  type DoorbellPlace,
  type MessageInterrupt,
  MmioBus,
  PciHost,
  PortBus,
  type VirtioDevice,
  type VirtioHost,
  VirtioMmioTransport,
  type VirtioOptions,
  VirtioPciTransport,
} from '../../src/devices/index.js'
import type { GuestAccess } from './puppet.js'

/** Where its buses have things, as in a machine. */
export const HOST_ECAM_GPA = 0xe800_0000
/** The first device outside of PCI; the others follow, a page each. */
export const HOST_MMIO_GPA = 0xea00_0000

class TestDoorbell implements Doorbell {
  readonly id: number
  where: DoorbellPlace | undefined
  #handler: (() => void) | undefined
  #rang = false
  readonly #onClose: (bell: TestDoorbell) => void

  constructor(id: number, onClose: (bell: TestDoorbell) => void) {
    this.id = id
    this.#onClose = onClose
  }

  place(place: DoorbellPlace | undefined): void {
    this.where = place
  }

  // As an eventfd's, the handler runs later.
  ring(): void {
    if (this.#rang) return
    this.#rang = true
    queueMicrotask(() => this.#deliver())
  }

  listen(handler: (() => void) | undefined): void {
    this.#handler = handler
    queueMicrotask(() => this.#deliver())
  }

  close(): void {
    this.#handler = undefined
    this.#onClose(this)
  }

  #deliver(): void {
    if (!this.#rang || this.#handler === undefined) return
    this.#rang = false
    this.#handler()
  }
}

/** A machine's buses with virtio devices on them. Accesses of a driver are calls. */
export class TestHost implements VirtioHost, GuestAccess {
  readonly memory: DeviceMemory
  readonly mmio = new MmioBus()
  readonly pci: PciHost
  /** What devices failed of. */
  readonly failures: { readonly device: string; readonly error: unknown }[] = []
  /** Message interrupts so far. */
  interrupts = 0
  /** Levels of the four lines of PCI, and behind them those of the devices outside of it. */
  readonly levels: boolean[] = [false, false, false, false]
  readonly #doorbells = new Set<TestDoorbell>()
  #held: Promise<unknown> = Promise.resolve()
  #mmioDevices = 0
  #nextId = 1

  constructor(memory: DeviceMemory) {
    this.memory = memory
    this.pci = new PciHost({
      ports: new PortBus(),
      mmio: this.mmio,
      ecamGpa: HOST_ECAM_GPA,
      io: { base: 0x1000, size: 0x1000 },
      memory32: { base: 0xc000_0000, size: 0x1000_0000 },
      memory64: { base: 0x1_0000_0000, size: 0x1000_0000 },
      lines: this.levels.map((_, i) => ({
        set: (level: boolean) => {
          this.levels[i] = level
        },
      })),
    })
  }

  /** Puts a device into a slot; `assignBars` of `pci` is to follow. */
  addPci(slot: number, device: VirtioDevice, options?: VirtioOptions): VirtioPciTransport {
    const transport = new VirtioPciTransport(device, this, options)
    this.pci.add(slot, transport.function)
    return transport
  }

  /** Puts a device outside of PCI, at the next place. */
  addMmio(device: VirtioDevice, options?: VirtioOptions): VirtioMmioTransport {
    const index = this.#mmioDevices++
    const gpa = HOST_MMIO_GPA + index * 0x1000
    const set = (level: boolean) => {
      this.levels[4 + index] = level
    }
    const transport = new VirtioMmioTransport(device, this, gpa, { set }, options)
    this.mmio.add(gpa, 0x1000, transport)
    return transport
  }

  readonly messageInterrupt = (): MessageInterrupt => ({
    isPending: false,
    connect: () => {},
    signal: () => {
      this.interrupts++
    },
    close: () => {},
  })

  createDoorbell(): Doorbell {
    const made = new TestDoorbell(this.#nextId++, (bell) => this.#doorbells.delete(bell))
    this.#doorbells.add(made)
    return made
  }

  /** How many there are: a device that is not active has none. */
  get doorbellCount(): number {
    return this.#doorbells.size
  }

  hold(until: Promise<void>): void {
    this.#held = Promise.all([this.#held, until])
  }

  onFailure({ name }: { readonly name: string }, error: unknown): void {
    this.failures.push({ device: name, error })
  }

  async read(gpa: number, size: 1 | 2 | 4): Promise<number> {
    const value = this.mmio.read(gpa, size)
    await this.#held
    return value
  }

  async write(gpa: number, size: 1 | 2 | 4, value: number): Promise<void> {
    const bells = [...this.#doorbells].filter(({ where }) => isRung(where, gpa, size, value))
    if (bells.length === 0) this.mmio.write(gpa, size, value >>> 0)
    for (const bell of bells) bell.ring()
    await this.#held
  }

  /** Lets devices work. */
  async until(what: string, isSo: () => boolean): Promise<void> {
    for (let i = 0; !isSo(); i++) {
      if (i > 10_000) throw new Error(`waited too long: ${what}`)
      await setImmediate()
    }
  }
}

function isRung(
  place: DoorbellPlace | undefined,
  gpa: number,
  size: number,
  value: number,
): boolean {
  if (place === undefined || place.gpa !== gpa) return false
  if (place.length !== 0 && place.length !== size) return false
  return place.value === undefined || place.value === value
}
