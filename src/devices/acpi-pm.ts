// The fixed hardware of ACPI: power button, power-off, the events behind the system control
// interrupt (SCI), and the power-management timer (ACPI 6.5 §4.8). There is no firmware beside the
// guest, so the machine is always in ACPI mode.

import { ACPI_PM_BASE, ACPI_PM_BLOCK, ACPI_PM_LENGTH, ACPI_S5_SLEEP_TYPE } from './acpi-ports.js'
import type { Bus } from './bus.js'
import type { BusDevice } from './bus-device.js'
import { outOfRange } from './errors.js'
import { type InterruptLine, unconnectedLine } from './interrupt-line.js'
import { PmTimer } from './pm-timer.js'
import { READS, type RegisterShadow, URGENT, WRITES } from './register-shadow.js'
import { nodeTimers, type TimerSource } from './timer-source.js'

/** Options of {@link AcpiPm}. */
export interface AcpiPmOptions {
  /** The system control interrupt; level-triggered, active high. */
  readonly sci?: InterruptLine
  /** Called when the guest enters sleep state S5. */
  readonly onPowerOff?: () => void
  /** Default a 32-bit timer on Node's clock. */
  readonly timer?: PmTimer
  /** For the timer's interrupt, which hardly any guest asks for. */
  readonly timers?: TimerSource
  /** Kept up to date with the {@link ACPI_PM_PORTS} ports of the block, once one of its registers was asked for. */
  readonly shadow?: RegisterShadow
}

/** General-purpose events that {@link AcpiPm.raiseEvent} can raise. */
export const ACPI_GPE_COUNT = 16

// Bits of PM1 status and enable (ACPI 6.5 §4.8.3.1).
const TMR = 0x0001
const PWRBTN = 0x0100
/** TMR_EN, GBL_EN and PWRBTN_EN; the tables tell that there are no other events. */
// RTC_EN (bit 10) never causes anything, but Linux complains when it does not read back.
const ENABLE_IMPLEMENTED = 0x0521

// Bits of PM1 control (§4.8.3.2.1).
const SCI_EN = 0x0001
const SLP_TYP_SHIFT = 10
const SLP_TYP = 7 << SLP_TYP_SHIFT
const SLP_EN = 0x2000
/** BM_RLD and SLP_TYP keep what is written; GBL_RLS and SLP_EN read 0. */
const CONTROL_KEPT = 0x0002 | SLP_TYP

const PM1_STATUS = ACPI_PM_BLOCK.pm1Event
const PM1_ENABLE = PM1_STATUS + ACPI_PM_LENGTH.pm1Event / 2
const PM1_CONTROL = ACPI_PM_BLOCK.pm1Control
const GPE0_STATUS = ACPI_PM_BLOCK.gpe0
const GPE0_ENABLE = GPE0_STATUS + ACPI_PM_LENGTH.gpe0 / 2
const REGISTERS = [PM1_STATUS, PM1_ENABLE, PM1_CONTROL, GPE0_STATUS, GPE0_ENABLE]

const withByte = (word: number, shift: number, value: number): number =>
  (word & ~(0xff << shift)) | (value << shift)

/**
 * PM1a event and control registers and general-purpose event block 0. It serves bytes, the bus cuts
 * wider accesses; the bits that act stand in the last byte of their register, so a cut changes
 * nothing.
 */
export class AcpiPm implements BusDevice {
  readonly name = 'acpi-pm'
  readonly width = 1
  /** The power-management timer; {@link AcpiPm.attach} puts it on the bus. */
  readonly timer: PmTimer
  readonly #sci: InterruptLine
  readonly #onPowerOff: (() => void) | undefined
  readonly #timers: TimerSource
  readonly #shadow: RegisterShadow | undefined
  #status = 0
  #enable = 0
  #control = 0
  #gpeStatus = 0
  #gpeEnable = 0
  #seenCarries: bigint
  #level = false
  #cancelTimer: (() => void) | undefined

  constructor(options: AcpiPmOptions = {}) {
    this.#sci = options.sci ?? unconnectedLine
    this.#onPowerOff = options.onPowerOff
    this.timer = options.timer ?? new PmTimer()
    this.#timers = options.timers ?? nodeTimers
    this.#shadow = options.shadow
    this.#seenCarries = this.timer.carries
  }

  /** Adds the register blocks and the timer to a port bus. */
  attach(bus: Bus, base: number = ACPI_PM_BASE): void {
    const { pm1Event, pm1Control, timer, gpe0 } = ACPI_PM_BLOCK
    bus.add(base + pm1Event, ACPI_PM_LENGTH.pm1Event, this, pm1Event)
    bus.add(base + pm1Control, ACPI_PM_LENGTH.pm1Control, this, pm1Control)
    bus.add(base + timer, ACPI_PM_LENGTH.timer, this.timer)
    bus.add(base + gpe0, ACPI_PM_LENGTH.gpe0, this, gpe0)
  }

  /**
   * Presses the power button for a moment: sets PWRBTN_STS. The guest hears of it if it has enabled
   * the button; what it does then, usually an orderly power-off, is its own choice.
   */
  pressPowerButton(): void {
    this.#shadow?.settle?.()
    this.#status |= PWRBTN
    this.#update()
  }

  /** Whether the guest listens to the power button. */
  get isPowerButtonEnabled(): boolean {
    return (this.#enable & PWRBTN) !== 0
  }

  /**
   * Raises general-purpose event `index`, whose method `\_GPE._Lxx` or `_Exx` the tables must have.
   *
   * @throws RangeError `ERR_OUT_OF_RANGE` unless `index` is 0 to 15
   */
  raiseEvent(index: number): void {
    if (!Number.isInteger(index) || index < 0 || index >= ACPI_GPE_COUNT) {
      throw outOfRange(`general-purpose events are 0 to ${ACPI_GPE_COUNT - 1}, not ${index}`)
    }
    this.#shadow?.settle?.()
    this.#gpeStatus |= 1 << index
    this.#update()
  }

  reset(): void {
    this.#status = 0
    this.#enable = 0
    this.#control = 0
    this.#gpeStatus = 0
    this.#gpeEnable = 0
    this.#seenCarries = this.timer.carries
    this.#update()
  }

  read(offset: number): number {
    this.#pollTimer()
    this.#publish()
    return (this.#register(offset & ~1) >>> ((offset & 1) * 8)) & 0xff
  }

  write(offset: number, _size: number, value: number): void {
    this.#pollTimer()
    const shift = (offset & 1) * 8
    switch (offset & ~1) {
      case PM1_STATUS:
        this.#status &= ~(value << shift)
        break
      case PM1_ENABLE:
        this.#enable = withByte(this.#enable, shift, value) & ENABLE_IMPLEMENTED
        break
      case PM1_CONTROL:
        this.#writeControl(shift, value)
        break
      case GPE0_STATUS:
        this.#gpeStatus &= ~(value << shift)
        break
      case GPE0_ENABLE:
        this.#gpeEnable = withByte(this.#gpeEnable, shift, value)
        break
    }
    this.#update()
  }

  #register(offset: number): number {
    switch (offset) {
      case PM1_STATUS:
        return this.#status
      case PM1_ENABLE:
        return this.#enable
      case PM1_CONTROL:
        return this.#control | SCI_EN
      case GPE0_STATUS:
        return this.#gpeStatus
      case GPE0_ENABLE:
        return this.#gpeEnable
      default:
        return 0
    }
  }

  #writeControl(shift: number, value: number): void {
    const written = withByte(this.#control, shift, value)
    this.#control = written & CONTROL_KEPT
    if ((written & SLP_EN) === 0) return
    // The tables offer no other sleep state, so another type is a guest's guess without effect.
    if ((written & SLP_TYP) >> SLP_TYP_SHIFT === ACPI_S5_SLEEP_TYPE) this.#onPowerOff?.()
  }

  #pollTimer(): void {
    const carries = this.timer.carries
    if (carries === this.#seenCarries) return
    this.#seenCarries = carries
    this.#status |= TMR
    this.#update()
  }

  // An interrupt that a write ends has to be gone when the write returns, so only where there is none may one be late.
  #publish(): void {
    if (this.#shadow === undefined) return
    const { registers, gate, until } = this.#shadow
    const writes = this.#level ? 0 : WRITES | URGENT
    for (const register of REGISTERS) {
      const value = this.#register(register)
      registers[register] = value
      registers[register + 1] = value >>> 8
      gate.fill(READS | (register === PM1_CONTROL ? 0 : writes), register, register + 2)
    }
    if (until !== undefined) until[0] = this.timer.carryNs(this.#seenCarries + 1n)
  }

  // ORDER: the shadow before the line: another processor takes the interrupt at once.
  #update(): void {
    this.#scheduleTimer()
    const level = (this.#status & this.#enable) !== 0 || (this.#gpeStatus & this.#gpeEnable) !== 0
    const changes = level !== this.#level
    this.#level = level
    this.#publish()
    if (changes) this.#sci.set(level)
  }

  /** A timer runs only while the guest waits for the next carry. */
  #scheduleTimer(): void {
    const waits = (this.#enable & ~this.#status & TMR) !== 0
    if (!waits) {
      this.#cancelTimer?.()
      this.#cancelTimer = undefined
      return
    }
    this.#cancelTimer ??= this.#timers.start(() => {
      this.#cancelTimer = undefined
      this.#pollTimer()
      this.#update()
    }, this.timer.msToCarry)
  }
}
