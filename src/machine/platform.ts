// The board around the vCPUs: what answers at which port, and how its interrupts reach the guest.

import { E820_ENTRY_SIZE, E820_TYPE } from '../boot/index.js'
import type { GuestMemory, MemoryRange } from '../core/memory.js'
import type { Vm } from '../core/vm.js'
import {
  ACPI_SCI_IRQ,
  AcpiPm,
  DEBUG_CONSOLE_PORTS,
  DEBUG_EXIT_PORT,
  DebugConsole,
  DebugExit,
  FW_CFG_ITEM,
  FW_CFG_PORT,
  FW_CFG_PORTS,
  FwCfg,
  I8042,
  type InterruptLine,
  MmioBus,
  type PanicEvent,
  PciHost,
  PmTimer,
  POST_CODE_PORT,
  PortBus,
  PostCodePort,
  PVPANIC_PORT,
  Pvpanic,
  ResetControl,
  RTC_IRQ,
  RTC_PORT,
  RtcCmos,
  SERIAL_PORTS,
  Serial16550,
  SYSTEM_CONTROL_PORT,
  SystemControlPort,
} from '../devices/index.js'
import { ECAM_GPA, PCI_GSIS, PCI_IO, PCI_MEMORY_32, pciMemory64 } from './address-map.js'
import { MessageInterrupts } from './message-interrupts.js'
import { type DevicePlaces, NativeDevices } from './native-devices.js'

const GPA_4G = 2 ** 32

/** What the devices need of the machine. */
export interface PlatformOptions {
  readonly memory: GuestMemory
  /** APIC ids. */
  readonly cpus: readonly number[]
  /** Whether piped input may wait until the guest has set up its serial port. */
  readonly holdSerialInput: boolean
  /** The guest asked for a reset. */
  readonly onReset: () => void
  /** The guest switched the machine off. */
  readonly onPowerOff: () => void
  /** The guest left by the debug exit, with this status. */
  readonly onExit: (status: number) => void
  /** The guest's kernel panicked. */
  readonly onPanic: (event: PanicEvent) => void
  readonly places: DevicePlaces
  /** Sees what the guest prints. */
  readonly onByte: (byte: number) => void
  /** Is told of the ports of writes that came without an exit. */
  readonly onPort: (port: number) => void
}

/** The devices that every machine has, and the PCI bus for more. */
export class Platform {
  readonly ports = new PortBus()
  readonly mmio = new MmioBus()
  readonly serial: Serial16550
  readonly debug = new DebugConsole()
  readonly fwCfg: FwCfg
  readonly power: AcpiPm
  readonly pci: PciHost
  readonly messages: MessageInterrupts
  readonly #rtc: RtcCmos
  readonly #native: NativeDevices

  constructor(vm: Vm, options: PlatformOptions) {
    const a20 = { enabled: true }
    const { onReset, onPowerOff } = options
    this.#native = new NativeDevices(vm, options.places)
    this.serial = new Serial16550({
      shadow: this.#native.serialShadow,
      onByte: options.onByte,
      irq: interruptLine(vm, SERIAL_PORTS.com1.irq),
      holdInput: options.holdSerialInput,
    })
    this.#rtc = new RtcCmos({ irq: interruptLine(vm, RTC_IRQ), shadow: this.#native.rtcShadow })
    this.#rtc.setMemorySize(sizesAround4G(options.memory.ranges))
    this.ports.add(SERIAL_PORTS.com1.port, 8, this.serial)
    this.ports.add(RTC_PORT, 2, this.#rtc)
    for (const port of Object.values(DEBUG_CONSOLE_PORTS)) this.ports.add(port, 1, this.debug)
    this.ports.add(DEBUG_EXIT_PORT, 4, new DebugExit(options.onExit))
    this.ports.add(PVPANIC_PORT, 1, new Pvpanic(options.onPanic))
    this.fwCfg = createFwCfg(options)
    this.ports.add(FW_CFG_PORT, FW_CFG_PORTS, this.fwCfg)
    this.ports.add(POST_CODE_PORT, 1, new PostCodePort())
    this.ports.add(SYSTEM_CONTROL_PORT, 1, new SystemControlPort({ onReset, a20 }))
    this.power = new AcpiPm({
      sci: interruptLine(vm, ACPI_SCI_IRQ),
      onPowerOff,
      // As native code counts.
      timer: new PmTimer({ startNs: 0n }),
      shadow: this.#native.pmShadow,
    })
    this.power.attach(this.ports)
    this.messages = new MessageInterrupts(vm)
    this.pci = new PciHost({
      ports: this.ports,
      mmio: this.mmio,
      ecamGpa: ECAM_GPA,
      io: PCI_IO,
      memory32: window(PCI_MEMORY_32),
      memory64: window(pciMemory64(options.memory.ranges)),
      lines: PCI_GSIS.map((gsi) => interruptLine(vm, gsi)),
      resetControl: new ResetControl(onReset),
      shadow: this.#native.pciShadow,
    })
    this.#native.start(this, options.onPort)
    new I8042({ irq: interruptLine(vm, 1), onReset, a20 }).attach(this.ports)
  }

  /** Everything as after power-on. */
  reset(): void {
    this.pci.reset()
    this.ports.reset()
    this.mmio.reset()
  }

  /** Hands over what the guest has written. */
  drain(): void {
    this.#native.drain()
  }

  /** Before the VM is closed: no device may raise an interrupt after it. */
  close(): void {
    this.#native.close()
    this.serial.close()
    this.debug.close()
    this.#rtc.close()
    this.power.reset()
    this.messages.close()
  }
}

/** An input of the in-kernel interrupt controllers as devices see it. */
export function interruptLine(vm: Vm, gsi: number): InterruptLine {
  return {
    // A device's timer may outlive the VM, if that is closed behind the machine's back.
    set: (level) => {
      if (!vm.closed) vm.irqLine(gsi, level)
    },
  }
}

function createFwCfg({ memory, cpus }: PlatformOptions): FwCfg {
  const fwCfg = new FwCfg(memory)
  const size = memory.ranges.reduce((sum, range) => sum + range.size, 0)
  fwCfg.setNumber(FW_CFG_ITEM.ramSize, size, 8)
  fwCfg.setNumber(FW_CFG_ITEM.noGraphic, 1, 2)
  fwCfg.setNumber(FW_CFG_ITEM.cpus, cpus.length, 2)
  // Firmware waits for the number above and sizes its tables by the highest id.
  fwCfg.setNumber(FW_CFG_ITEM.maxCpus, cpus.at(-1)! + 1, 2)
  fwCfg.setFile('etc/e820', encodeE820(memory.ranges))
  return fwCfg
}

/** RAM in the format of the BIOS memory map, as firmware expects it. */
function encodeE820(ranges: readonly MemoryRange[]): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(ranges.length * E820_ENTRY_SIZE))
  ranges.forEach(({ gpa, size }, index) => {
    bytes.setBigUint64(index * E820_ENTRY_SIZE, BigInt(gpa), true)
    bytes.setBigUint64(index * E820_ENTRY_SIZE + 8, BigInt(size), true)
    bytes.setUint32(index * E820_ENTRY_SIZE + 16, E820_TYPE.RAM, true)
  })
  return new Uint8Array(bytes.buffer)
}

const window = ({ gpa, size }: MemoryRange) => ({ base: gpa, size })

function sizesAround4G(ram: readonly MemoryRange[]): { below4g: number; above4g: number } {
  const sum = (ranges: readonly MemoryRange[]) => ranges.reduce((all, { size }) => all + size, 0)
  return {
    below4g: sum(ram.filter(({ gpa }) => gpa < GPA_4G)),
    above4g: sum(ram.filter(({ gpa }) => gpa >= GPA_4G)),
  }
}
