// Which devices are answered in C++ on the vCPU's thread, and how: by memory that they keep up to date,
// by the host's clock, and by a ring for what they do not have to see at once.

import { WriteSink } from '../core/exits/write-sink.js'
import { GuestMemory } from '../core/memory.js'
import { oneOf } from '../core/validate.js'
import type { Vm } from '../core/vm.js'
import {
  ACPI_PM_BASE,
  ACPI_PM_BLOCK,
  ACPI_PM_LENGTH,
  ACPI_PM_PORTS,
  type AcpiPm,
  DEBUG_CONSOLE_PORTS,
  DEBUG_CONSOLE_SIGNATURE,
  type DebugConsole,
  PCI_CONFIG_PORT,
  PCI_SHADOW_SIZE,
  type PciConfigShadow,
  PM_TIMER_HZ,
  POST_CODE_PORT,
  PortBus,
  type RegisterShadow,
  RTC_PORT,
  RTC_REGISTERS,
  type RtcShadow,
  SERIAL_PORTS,
  type Serial16550,
} from '../devices/index.js'

/**
 * Where a device answers the guest: `'vcpu'`, in C++ on the thread of the vCPU, as far as an access needs
 * no decision; or `'js'`, always in JavaScript on the machine's thread.
 */
export type DevicePlace = 'vcpu' | 'js'

/** The devices that can be at either place. Interrupt controllers and PIT are always in the kernel. */
export interface DevicePlaces {
  /** The serial port: all that is written to it, and registers that are read without effect. */
  serial?: DevicePlace
  /** The debug console. */
  debugConsole?: DevicePlace
  /** The ACPI power-management timer. */
  pmTimer?: DevicePlace
  /** ACPI's event and control registers (PM1, GPE0): reads, and writes that end no interrupt. */
  acpiPm?: DevicePlace
  /** Reads of PCI configuration space by the ports. */
  pciConfig?: DevicePlace
  /** The index of clock and CMOS RAM, and reads of both until the second is over. */
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
const RTC_UNTIL = RTC_INDEX + 8
const RTC_RAM = RTC_UNTIL + 8
const RTC_GATE = RTC_RAM + RTC_REGISTERS
const PM_UNTIL = RTC_GATE + RTC_REGISTERS
const PM_RAM = PM_UNTIL + 8
const PM_GATE = PM_RAM + ACPI_PM_PORTS
const SIZE = PCI_ADDRESS + 0x1000

const SERIAL_LENGTH = 8

// Of a configuration address: enabled and on bus 0, then function and register.
const PCI_VALID = 0x80ff_0000
const PCI_ENABLED = 0x8000_0000
const PCI_SELECT = 0xfffc

/** The devices whose writes may be late. */
export interface AnsweredDevices {
  readonly serial: Serial16550
  readonly debug: DebugConsole
  readonly power: AcpiPm
}

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
    registers: this.#memory.view(SERIAL_REGISTERS, SERIAL_LENGTH),
    gate: this.#memory.view(SERIAL_GATE, SERIAL_LENGTH),
    settle: () => this.drain(),
  }

  /** What the clock is to keep up to date. */
  readonly rtcShadow: RtcShadow = {
    index: this.#memory.view(RTC_INDEX, 1),
    registers: this.#memory.view(RTC_RAM, RTC_REGISTERS),
    gate: this.#memory.view(RTC_GATE, RTC_REGISTERS),
    until: this.#word(RTC_UNTIL),
  }

  /** What the ACPI block is to keep up to date. */
  readonly pmShadow: RegisterShadow = {
    registers: this.#memory.view(PM_RAM, ACPI_PM_PORTS),
    gate: this.#memory.view(PM_GATE, ACPI_PM_PORTS),
    settle: () => this.drain(),
    until: this.#word(PM_UNTIL),
  }

  #word(address: number): BigUint64Array {
    const { buffer, byteOffset } = this.#memory.view(address, 8)
    return new BigUint64Array(buffer, byteOffset, 1)
  }

  /** What the PCI bridge is to keep up to date. */
  get pciShadow(): PciConfigShadow {
    const { buffer, byteOffset } = this.#memory.view(PCI_ADDRESS, 4)
    return {
      address: new Uint32Array(buffer, byteOffset, 1),
      registers: this.#memory.view(PCI_REGISTERS, PCI_SHADOW_SIZE),
      gate: this.#memory.view(PCI_GATE, PCI_SHADOW_SIZE),
    }
  }

  /**
   * Begins to answer. What is written goes to the devices in order, before they see anything else.
   *
   * @param onWrite Is told of the port of each such write.
   */
  start(devices: AnsweredDevices, onWrite: (port: number) => void): void {
    const writes = new PortBus()
    const { serial } = devices
    const onDrained = () => serial.uncork()
    const sink = new WriteSink(
      ({ address, size, value }) => {
        serial.cork()
        onWrite(address)
        writes.write(address, size, value)
      },
      { onDrained },
    )
    this.#sink = sink
    if (this.#isNative('serial')) this.#answerSerial(serial, writes, sink)
    if (this.#isNative('debugConsole')) this.#answerDebugConsole(devices.debug, writes, sink)
    if (this.#isNative('pmTimer')) this.#answerTimer()
    if (this.#isNative('acpiPm')) this.#answerPm(devices.power, writes, sink)
    if (this.#isNative('pciConfig')) this.#answerPciConfig()
    if (this.#isNative('rtc')) this.#answerRtc()
    if (this.#isNative('postCode')) this.#vm.answerPio(POST_CODE_PORT, 1, { write: 'ignore' })
  }

  /** Hands over what was written. */
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

  #answerSerial(serial: Serial16550, writes: PortBus, write: WriteSink): void {
    const { port } = SERIAL_PORTS.com1
    writes.add(port, SERIAL_LENGTH, serial)
    const read = { memory: this.#memory, address: SERIAL_REGISTERS }
    const gate = { memory: this.#memory, address: SERIAL_GATE }
    this.#vm.answerPio(port, SERIAL_LENGTH, { size: 1, read, write, gate })
  }

  #answerDebugConsole(debug: DebugConsole, writes: PortBus, write: WriteSink): void {
    for (const port of Object.values(DEBUG_CONSOLE_PORTS)) {
      writes.add(port, 1, debug)
      this.#vm.answerPio(port, 1, { read: DEBUG_CONSOLE_SIGNATURE, write })
    }
  }

  #answerPm(power: AcpiPm, writes: PortBus, write: WriteSink): void {
    power.attach(writes)
    const memory = this.#memory
    for (const block of ['pm1Event', 'pm1Control', 'gpe0'] as const) {
      const offset = ACPI_PM_BLOCK[block]
      this.#vm.answerPio(ACPI_PM_BASE + offset, ACPI_PM_LENGTH[block], {
        read: { memory, address: PM_RAM + offset },
        write,
        gate: { memory, address: PM_GATE + offset },
        until: { memory, address: PM_UNTIL },
      })
    }
  }

  #answerRtc(): void {
    const memory = this.#memory
    const index = { memory, address: RTC_INDEX }
    this.#vm.answerPio(RTC_PORT, 1, { read: 0xff, write: index })
    this.#vm.answerPio(RTC_PORT + 1, 1, {
      read: { memory, address: RTC_RAM, index: RTC_INDEX, select: RTC_REGISTERS - 1 },
      gate: { memory, address: RTC_GATE },
      until: { memory, address: RTC_UNTIL },
    })
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
