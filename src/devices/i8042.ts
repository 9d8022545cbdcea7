// The PC's keyboard controller with no keyboard and no mouse at it: what boot code uses it for is
// A20 and the reset line. Its answers are chosen so that a driver which probes for devices gets a
// prompt "nobody there" instead of running into its time-outs.

import type { A20Gate } from './a20-gate.js'
import type { Bus } from './bus.js'
import type { BusDevice } from './bus-device.js'
import { type InterruptLine, unconnectedLine } from './interrupt-line.js'

/** Ports and ISA interrupt of a PC's keyboard controller. */
export const I8042_PORTS = { data: 0x60, command: 0x64, irq: 1 } as const

/** Options of {@link I8042}. */
export interface I8042Options {
  /** Asserted while the output buffer is full and the command byte enables it. */
  readonly irq?: InterruptLine
  /** Called when the guest pulses the reset line: the usual way to reboot a PC. */
  readonly onReset?: () => void
  /** Give system control port A the same object. */
  readonly a20?: A20Gate
}

const STATUS_OUTPUT_FULL = 0x01
const STATUS_SYSTEM = 0x04
const STATUS_COMMAND = 0x08
const STATUS_UNLOCKED = 0x10
const STATUS_AUX = 0x20
const STATUS_TIMEOUT = 0x40

const CTR_INTERRUPT = 0x01
const CTR_SYSTEM = 0x04
const CTR_KEYBOARD_OFF = 0x10
const CTR_AUX_OFF = 0x20
const CTR_TRANSLATE = 0x40
/** As firmware leaves it: keyboard interrupt on, scan codes translated, no second port. */
const CTR_DEFAULT = CTR_INTERRUPT | CTR_SYSTEM | CTR_AUX_OFF | CTR_TRANSLATE

const OUTPUT_RESET = 0x01
const OUTPUT_A20 = 0x02
const OUTPUT_FULL = 0x10

const SELF_TEST_OK = 0x55
const PORT_OK = 0x00
const PORT_CLOCK_STUCK = 0x01
const RESEND = 0xfe
const INPUT_PORT = 0x80
const RAM_SIZE = 32
const COMMAND_NONE = 0

/**
 * 8042 keyboard controller at ports 0x60 and 0x64. Bytes for the keyboard or a mouse are answered
 * with "resend" and the time-out bit, as the real controller does when nothing is plugged in.
 */
export class I8042 implements BusDevice {
  readonly name = 'i8042'
  readonly width = 1
  readonly #irq: InterruptLine
  readonly #onReset: (() => void) | undefined
  readonly #a20: A20Gate
  readonly #ram = new Uint8Array(RAM_SIZE)
  #status = STATUS_UNLOCKED
  #output = 0
  #pendingCommand = COMMAND_NONE
  #level = false

  constructor(options: I8042Options = {}) {
    this.#irq = options.irq ?? unconnectedLine
    this.#onReset = options.onReset
    this.#a20 = options.a20 ?? { enabled: true }
    this.#ram[0] = CTR_DEFAULT
  }

  /** Adds the controller to a port bus: data port at offset 0, command port at offset 4. */
  attach(bus: Bus): void {
    bus.add(I8042_PORTS.data, 1, this)
    bus.add(I8042_PORTS.command, 1, this, 4)
  }

  reset(): void {
    this.#ram.fill(0)
    this.#ram[0] = CTR_DEFAULT
    this.#status = STATUS_UNLOCKED
    this.#pendingCommand = COMMAND_NONE
    this.#a20.enabled = true
    this.#updateInterrupt()
  }

  read(offset: number): number {
    return offset === 0 ? this.#readData() : this.#readStatus()
  }

  write(offset: number, _size: number, value: number): void {
    if (offset === 0) this.#writeData(value)
    else this.#writeCommand(value)
  }

  get #commandByte(): number {
    return this.#ram[0]!
  }

  #readStatus(): number {
    return this.#status | ((this.#commandByte & CTR_SYSTEM) !== 0 ? STATUS_SYSTEM : 0)
  }

  #readData(): number {
    this.#status &= ~(STATUS_OUTPUT_FULL | STATUS_AUX | STATUS_TIMEOUT)
    this.#updateInterrupt()
    return this.#output
  }

  #writeCommand(command: number): void {
    this.#status |= STATUS_COMMAND
    this.#pendingCommand = COMMAND_NONE
    if (command >= 0x20 && command <= 0x3f) this.#answer(this.#ram[command - 0x20]!)
    else if (command >= 0xf0) this.#pulse(command)
    else this.#execute(command)
  }

  #execute(command: number): void {
    switch (command) {
      case 0xa7:
        this.#setCommandByte(this.#commandByte | CTR_AUX_OFF)
        break
      case 0xa8:
        this.#setCommandByte(this.#commandByte & ~CTR_AUX_OFF)
        break
      case 0xa9:
        this.#answer(PORT_CLOCK_STUCK)
        break
      case 0xaa:
        this.#answer(SELF_TEST_OK)
        break
      case 0xab:
        this.#answer(PORT_OK)
        break
      case 0xad:
        this.#setCommandByte(this.#commandByte | CTR_KEYBOARD_OFF)
        break
      case 0xae:
        this.#setCommandByte(this.#commandByte & ~CTR_KEYBOARD_OFF)
        break
      case 0xc0:
        this.#answer(INPUT_PORT)
        break
      case 0xd0:
        this.#answer(this.#outputPort())
        break
      case 0xdd:
        this.#a20.enabled = false
        break
      case 0xdf:
        this.#a20.enabled = true
        break
      default:
        if (takesParameter(command)) this.#pendingCommand = command
    }
  }

  #writeData(value: number): void {
    const command = this.#pendingCommand
    this.#pendingCommand = COMMAND_NONE
    this.#status &= ~STATUS_COMMAND
    switch (command) {
      case COMMAND_NONE:
        this.#answer(RESEND, STATUS_TIMEOUT)
        break
      case 0xd1:
        this.#writeOutputPort(value)
        break
      case 0xd2:
      case 0xd3:
        // 0xd3 is a mouse port's loop test; without the AUX bit it tells that there is none.
        this.#answer(value)
        break
      case 0xd4:
        this.#answer(RESEND, STATUS_TIMEOUT | STATUS_AUX)
        break
      case 0x60:
        this.#setCommandByte(value)
        break
      default:
        this.#ram[command - 0x60] = value
    }
  }

  #setCommandByte(value: number): void {
    this.#ram[0] = value
    this.#updateInterrupt()
  }

  #outputPort(): number {
    const full = (this.#status & STATUS_OUTPUT_FULL) !== 0 ? OUTPUT_FULL : 0
    return OUTPUT_RESET | (this.#a20.enabled ? OUTPUT_A20 : 0) | full
  }

  #writeOutputPort(value: number): void {
    this.#a20.enabled = (value & OUTPUT_A20) !== 0
    if ((value & OUTPUT_RESET) === 0) this.#onReset?.()
  }

  // Pulls the lines whose bits are 0 low for a moment; line 0 is the processor's reset.
  #pulse(command: number): void {
    if ((command & OUTPUT_RESET) === 0) this.#onReset?.()
  }

  #answer(byte: number, flags = 0): void {
    this.#output = byte
    this.#status &= ~(STATUS_AUX | STATUS_TIMEOUT)
    this.#status |= STATUS_OUTPUT_FULL | flags
    this.#updateInterrupt()
  }

  #updateInterrupt(): void {
    const ready = (this.#status & (STATUS_OUTPUT_FULL | STATUS_AUX)) === STATUS_OUTPUT_FULL
    const level = ready && (this.#commandByte & CTR_INTERRUPT) !== 0
    if (level === this.#level) return
    this.#level = level
    this.#irq.set(level)
  }
}

const takesParameter = (command: number): boolean =>
  (command >= 0x60 && command <= 0x7f) || (command >= 0xd1 && command <= 0xd4)
