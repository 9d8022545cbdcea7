// Which devices are answered in C++ on the vCPU's thread, and how: by memory that they keep up to date,
// by the host's clock, and by a ring for what the guest prints. Writes of the clock's index do not even leave the
// kernel.

import { WriteSink } from '../core/exits/write-sink.js'
import { GuestMemory } from '../core/memory.js'
import { oneOf } from '../core/validate.js'
import type { Vm } from '../core/vm.js'
import {
  ACPI_PM_BASE,
  ACPI_PM_BLOCK,
  ACPI_PM_LENGTH,
  type BusDevice,
  DEBUG_CONSOLE_PORTS,
  DEBUG_CONSOLE_SIGNATURE,
  PCI_CONFIG_PORT,
  PCI_SHADOW_SIZE,
  type PciConfigShadow,
  PM_TIMER_HZ,
  POST_CODE_PORT,
  type RegisterShadow,
  RTC_PORT,
  SERIAL_PORTS,
} from '../devices/index.js'
import { KVM_CAP_COALESCED_PIO } from '../uapi/index.js'

/**
 * Where a device answers the guest: `'vcpu'`, in C++ on the thread of the vCPU, as far as an access needs
 * no decision; or `'js'`, always in JavaScript on the machine's thread.
 */
export type DevicePlace = 'vcpu' | 'js'

/** The devices that can be at either place. Interrupt controllers and PIT are always in the kernel. */
export interface DevicePlaces {
  /** The serial port: what the guest prints, and registers that it reads without effect. */
  serial?: DevicePlace
  /** The debug console. */
  debugConsole?: DevicePlace
  /** The ACPI power-management timer. */
  pmTimer?: DevicePlace
  /** Reads of PCI configuration space by the ports. */
  pciConfig?: DevicePlace
  /** Writes to the index port of clock and CMOS RAM, which stay in the kernel until the clock is asked. */
  rtc?: DevicePlace
  /** Port 0x80, which guests write to in order to pass the time. */
  postCode?: DevicePlace
}

// Where things are in the memory that is shared with the vCPUs' threads.
const PCI_REGISTERS = 0
const PCI_GATE = PCI_REGISTERS + PCI_SHADOW_SIZE
const PCI_ADDRESS = PCI_GATE + PCI_SHADOW_SIZE
const SERIAL_REGISTERS = PCI_ADDRESS + 8
const SERIAL_GATE = SERIAL_REGISTERS + 8
const RTC_INDEX = SERIAL_GATE + 8
const SIZE = PCI_ADDRESS + 0x1000

// Of a configuration address: enabled and on bus 0, then function and register.
const PCI_VALID = 0x80ff_0000
const PCI_ENABLED = 0x8000_0000
const PCI_SELECT = 0xfffc

/** What native code answers for the devices of one machine. */
export class NativeDevices {
  readonly #vm: Vm
  readonly #places: DevicePlaces
  readonly #memory = GuestMemory.create(SIZE)
  #sink: WriteSink | undefined

  constructor(vm: Vm, places: DevicePlaces) {
    this.#vm = vm
    this.#places = places
  }

  /** What the serial port is to keep up to date. */
  readonly serialShadow: RegisterShadow = {
    registers: this.#memory.view(SERIAL_REGISTERS, 8),
    gate: this.#memory.view(SERIAL_GATE, 8),
  }

  /** Where the clock is to keep its index. */
  readonly rtcIndex = this.#memory.view(RTC_INDEX, 1)

  /** What the PCI bridge is to keep up to date. */
  get pciShadow(): PciConfigShadow {
    const { buffer, byteOffset } = this.#memory.view(PCI_ADDRESS, 4)
    return {
      address: new Uint32Array(buffer, byteOffset, 1),
      registers: this.#memory.view(PCI_REGISTERS, PCI_SHADOW_SIZE),
      gate: this.#memory.view(PCI_GATE, PCI_SHADOW_SIZE),
    }
  }

  /** Begins to answer. What is printed goes to the devices in order, before they see anything else. */
  start(serial: BusDevice, debug: BusDevice): void {
    const { port } = SERIAL_PORTS.com1
    const sink = new WriteSink(({ address, value }) =>
      (address === port ? serial : debug).write(0, 1, value),
    )
    this.#sink = sink
    if (this.#isNative('serial')) this.#answerSerial(port, sink)
    if (this.#isNative('debugConsole')) {
      for (const port of Object.values(DEBUG_CONSOLE_PORTS)) {
        this.#vm.answerPio(port, 1, { read: DEBUG_CONSOLE_SIGNATURE, write: sink })
      }
    }
    if (this.#isNative('pmTimer')) this.#answerTimer()
    if (this.#isNative('pciConfig')) this.#answerPciConfig()
    if (this.#isNative('rtc')) this.#coalesceIndex()
    if (this.#isNative('postCode')) this.#vm.answerPio(POST_CODE_PORT, 1, { write: 'ignore' })
  }

  /** Hands over what was printed. */
  drain(): void {
    this.#sink?.drain()
  }

  close(): void {
    this.drain()
    this.#memory.close()
  }

  #isNative(device: keyof DevicePlaces): boolean {
    return (
      oneOf(this.#places[device] ?? 'vcpu', `devicePlaces.${device}`, ['vcpu', 'js']) === 'vcpu'
    )
  }

  #answerSerial(port: number, write: WriteSink): void {
    const read = { memory: this.#memory, address: SERIAL_REGISTERS }
    const gate = { memory: this.#memory, address: SERIAL_GATE }
    this.#vm.answerPio(port, 8, { size: 1, read, write, gate })
  }

  /** Kept by KVM until the clock is asked. */
  #coalesceIndex(): void {
    if (!this.#vm.checkExtension(KVM_CAP_COALESCED_PIO)) return
    this.#vm.coalesce({ address: RTC_PORT, size: 1, pio: true }, ({ data }) => {
      this.rtcIndex[0] = data[0]!
    })
    this.#vm.answerPio(RTC_PORT, 1, { read: 0xff })
  }

  #answerTimer(): void {
    const port = ACPI_PM_BASE + ACPI_PM_BLOCK.timer
    this.#vm.answerPio(port, ACPI_PM_LENGTH.timer, { read: { hz: PM_TIMER_HZ } })
  }

  #answerPciConfig(): void {
    const memory = this.#memory
    const address = { memory, address: PCI_ADDRESS }
    this.#vm.answerPio(PCI_CONFIG_PORT, 4, { size: 4, read: address, write: address })
    this.#vm.answerPio(PCI_CONFIG_PORT + 4, 4, {
      read: {
        memory,
        address: PCI_REGISTERS,
        index: PCI_ADDRESS,
        select: PCI_SELECT,
        mask: PCI_VALID,
        match: PCI_ENABLED,
      },
      gate: { memory, address: PCI_GATE },
    })
  }
}
