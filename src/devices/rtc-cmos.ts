// The MC146818 real-time clock and the CMOS RAM around it (ports 0x70 and 0x71). Time is computed
// when somebody looks, from a clock and an offset that the guest sets; a timer runs only while the
// guest waits for an interrupt.

import type { BusDevice } from './bus-device.js'
import { outOfRange } from './errors.js'
import { type InterruptLine, unconnectedLine } from './interrupt-line.js'
import { READS, type RegisterShadow } from './register-shadow.js'
import { decodeRtcTime, encodeRtcTime, nextRtcAlarm, RTC_TIME } from './rtc-calendar.js'
import { nodeTimers, type TimerSource } from './timer-source.js'

/** First of the two ports of a PC's CMOS (index, data). */
export const RTC_PORT = 0x70
/** ISA interrupt of a PC's clock. */
export const RTC_IRQ = 8

/** Options of {@link RtcCmos}. */
export interface RtcCmosOptions {
  /** Milliseconds since the epoch; `Date.now` when absent. The guest sees UTC. */
  readonly clock?: () => number
  /** For the alarm, periodic and update interrupts. Asserted until the guest reads register C. */
  readonly irq?: InterruptLine
  /** Node's timers, not keeping the process alive, when absent. */
  readonly timers?: TimerSource
  /** Others may write the index and read registers in the guest's stead. */
  readonly shadow?: RtcShadow
}

/** Where the clock keeps its index, one byte, and its registers, {@link RTC_REGISTERS}. */
export interface RtcShadow extends Required<Omit<RegisterShadow, 'settle'>> {
  readonly index: Uint8Array
}

/** Registers and bytes of RAM behind the index. */
export const RTC_REGISTERS = 128

/** How much RAM a guest has, in bytes, on either side of the 32-bit hole. */
export interface CmosMemorySize {
  readonly below4g: number
  readonly above4g: number
}

const INDEX = 0x7f
const NMI_DISABLED = 0x80
const REGISTER_A = 0x0a
const REGISTER_B = 0x0b
const REGISTER_C = 0x0c
const REGISTER_D = 0x0d

const A_UPDATE_IN_PROGRESS = 0x80
const A_DIVIDER = 0x70
const A_DIVIDER_32768_HZ = 0x20
const A_RATE = 0x0f
const A_DEFAULT = 0x26

const B_SET = 0x80
const B_UPDATE_INTERRUPT = 0x10
const B_ALARM_INTERRUPT = 0x20
const B_PERIODIC_INTERRUPT = 0x40
const B_INTERRUPTS = 0x70
const B_SQUARE_WAVE = 0x08
const B_24_HOURS = 0x02

const C_INTERRUPT = 0x80
const D_VALID = 0x80

// The chip announces an update 244 us ahead and takes 1984 us for it (MC146818A, table 6).
const UPDATE_MS = 2.228
// A clock of milliseconds may be so much behind.
const CLOCK_STEP_MS = 1
const NS_PER_MS = 1e6
const MAX_NS = 2n ** 64n - 1n

const TIME_REGISTERS = new Set<number>(Object.values(RTC_TIME))

const KIB = 1024
const MIB = 1024 * KIB
const UNIT_64K = 64 * KIB

const checkBytes = (name: string, value: number): void => {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw outOfRange(`${name} is a size in bytes, not ${value}`)
  }
}

/**
 * MC146818A clock with 128 bytes of CMOS RAM; two byte-wide ports, index and data.
 *
 * Simplifications: the weekday follows from the date, whatever is written to it; stopping the
 * divider does not stop the time; daylight saving and the square wave do nothing. Interrupts come
 * from millisecond timers, so periodic rates above 1 kHz are slower than asked for.
 */
export class RtcCmos implements BusDevice {
  readonly name = 'rtc-cmos'
  readonly width = 1
  readonly #clock: () => number
  readonly #irq: InterruptLine
  readonly #timers: TimerSource
  readonly #ram: Uint8Array
  readonly #index: Uint8Array
  readonly #until: BigUint64Array | undefined
  #offsetMs = 0
  #flags = 0
  // Up to when events have been turned into flags: guest seconds, and periods of the rate.
  #seenSecond = 0
  #seenPeriod = 0
  #level = false
  #cancelTimer: (() => void) | undefined

  constructor(options: RtcCmosOptions = {}) {
    this.#clock = options.clock ?? Date.now
    this.#irq = options.irq ?? unconnectedLine
    this.#timers = options.timers ?? nodeTimers
    const { shadow } = options
    this.#index = shadow?.index ?? new Uint8Array(1)
    this.#ram = shadow?.registers ?? new Uint8Array(RTC_REGISTERS)
    this.#until = shadow?.until
    shadow?.gate.fill(READS, 0, RTC_REGISTERS).fill(0, REGISTER_C, REGISTER_C + 1)
    this.#ram[REGISTER_A] = A_DEFAULT
    this.#ram[REGISTER_B] = B_24_HOURS
    this.#ram[REGISTER_D] = D_VALID
    this.#restart()
  }

  /** Whether the guest has set bit 7 of the index port, which masks NMI on a PC. */
  get nmiDisabled(): boolean {
    return (this.#index[0]! & NMI_DISABLED) !== 0
  }

  /** The time the guest's clock shows, in milliseconds since the epoch. */
  get timeMs(): number {
    return this.#clock() + this.#offsetMs
  }

  /** Sets a byte of CMOS RAM as firmware would. Offsets 0x0e to 0x7f but the century. */
  setByte(offset: number, value: number): void {
    if (!(offset > REGISTER_D && offset < RTC_REGISTERS) || offset === RTC_TIME.century) {
      throw outOfRange(`CMOS byte ${offset} is not RAM`)
    }
    this.#ram[offset] = value
  }

  /**
   * Fills in the bytes that tell a PC's memory size: 0x15-0x16 conventional (KiB), 0x17-0x18 and
   * 0x30-0x31 above 1 MiB (KiB, at most 65535), 0x34-0x35 above 16 MiB (64 KiB), 0x5b-0x5d above
   * 4 GiB (64 KiB).
   */
  setMemorySize({ below4g, above4g }: CmosMemorySize): void {
    checkBytes('below4g', below4g)
    checkBytes('above4g', above4g)
    const units = (bytes: number, unit: number, limit: number): number =>
      Math.min(limit, Math.max(0, Math.floor(bytes / unit)))
    this.#setLittleEndian(0x15, 2, units(below4g, KIB, 640))
    this.#setLittleEndian(0x17, 2, units(below4g - MIB, KIB, 0xffff))
    this.#setLittleEndian(0x30, 2, units(below4g - MIB, KIB, 0xffff))
    this.#setLittleEndian(0x34, 2, units(below4g - 16 * MIB, UNIT_64K, 0xffff))
    this.#setLittleEndian(0x5b, 3, units(above4g, UNIT_64K, 0xff_ffff))
  }

  /** Stops the timer. The registers stay readable. */
  close(): void {
    this.#cancelTimer?.()
    this.#cancelTimer = undefined
  }

  /** The RESET pin: interrupts off, flags cleared; time and RAM stay (a battery feeds them). */
  reset(): void {
    this.#withdraw()
    this.#ram[REGISTER_B]! &= ~(B_INTERRUPTS | B_SQUARE_WAVE)
    this.#flags = 0
    this.#index[0] = 0
    this.#restart()
    this.#update()
  }

  read(offset: number): number {
    // The index port is write-only.
    if (offset === 0) return 0xff
    const value = this.#readRegister(this.#index[0]! & INDEX)
    this.#publish()
    return value
  }

  write(offset: number, _size: number, value: number): void {
    this.#withdraw()
    if (offset === 0) this.#index[0] = value
    else this.#writeRegister(this.#index[0]! & INDEX, value)
  }

  #readRegister(register: number): number {
    if (register === REGISTER_A) {
      return this.#ram[REGISTER_A]! | (this.#isUpdating ? A_UPDATE_IN_PROGRESS : 0)
    }
    if (register === REGISTER_C) return this.#readFlags()
    if (TIME_REGISTERS.has(register) && !this.#isSetting) encodeRtcTime(this.timeMs, this.#ram)
    return this.#ram[register]!
  }

  #writeRegister(register: number, value: number): void {
    if (register === REGISTER_C || register === REGISTER_D) return
    this.#collect()
    if (register === REGISTER_A) this.#writeRegisterA(value)
    else if (register === REGISTER_B) this.#writeRegisterB(value)
    else if (TIME_REGISTERS.has(register)) this.#writeTime(register, value)
    else this.#ram[register] = value
    this.#update()
  }

  // The registers hold what is read until the next update is announced.
  #publish(): void {
    if (this.#until === undefined) return
    if (this.#isSetting) {
      this.#until[0] = MAX_NS
      return
    }
    const left = this.#untilNextSecondMs() - UPDATE_MS - CLOCK_STEP_MS
    if (left <= 0) return
    encodeRtcTime(this.timeMs, this.#ram)
    this.#until[0] = process.hrtime.bigint() + BigInt(Math.floor(left * NS_PER_MS))
  }

  #withdraw(): void {
    if (this.#until !== undefined) this.#until[0] = 0n
  }

  get #isSetting(): boolean {
    return (this.#ram[REGISTER_B]! & B_SET) !== 0
  }

  get #isUpdating(): boolean {
    const runs = (this.#ram[REGISTER_A]! & A_DIVIDER) === A_DIVIDER_32768_HZ && !this.#isSetting
    return runs && this.#untilNextSecondMs() <= UPDATE_MS
  }

  #readFlags(): number {
    this.#collect()
    const flags = this.#flags | (this.#hasInterrupt ? C_INTERRUPT : 0)
    this.#flags = 0
    this.#update()
    return flags
  }

  #writeRegisterA(value: number): void {
    this.#ram[REGISTER_A] = value & ~A_UPDATE_IN_PROGRESS
    this.#seenPeriod = this.#currentPeriod()
  }

  #writeRegisterB(value: number): void {
    const wasSetting = this.#isSetting
    const isSetting = (value & B_SET) !== 0
    // While SET is on, the time bytes are plain RAM that starts with the time as it was.
    if (isSetting && !wasSetting) encodeRtcTime(this.timeMs, this.#ram)
    this.#ram[REGISTER_B] = isSetting ? value & ~B_UPDATE_INTERRUPT : value
    if (wasSetting && !isSetting) this.#applyTime()
  }

  #writeTime(register: number, value: number): void {
    if (!this.#isSetting) encodeRtcTime(this.timeMs, this.#ram)
    this.#ram[register] = value
    if (!this.#isSetting) this.#applyTime()
  }

  #applyTime(): void {
    this.#offsetMs = decodeRtcTime(this.#ram) - this.#clock()
    this.#restart()
  }

  // Events before now are no business of the guest's.
  #restart(): void {
    this.#seenSecond = this.#currentSecond()
    this.#seenPeriod = this.#currentPeriod()
  }

  #currentSecond(): number {
    return Math.floor(this.timeMs / 1000)
  }

  #untilNextSecondMs(): number {
    return (this.#currentSecond() + 1) * 1000 - this.timeMs
  }

  // 0 when the rate selection is off. The two fastest selections repeat slower ones (table 5).
  #periodMs(): number {
    const rate = this.#ram[REGISTER_A]! & A_RATE
    if (rate === 0) return 0
    return 2 ** ((rate < 3 ? rate + 7 : rate) - 1) / 32.768
  }

  #currentPeriod(): number {
    const period = this.#periodMs()
    return period === 0 ? 0 : Math.floor(this.#clock() / period)
  }

  // Turns what has happened since the last look into flags.
  #collect(): void {
    const period = this.#currentPeriod()
    if (period > this.#seenPeriod) this.#flags |= B_PERIODIC_INTERRUPT
    this.#seenPeriod = period
    if (this.#isSetting) return
    const second = this.#currentSecond()
    if (second > this.#seenSecond) {
      this.#flags |= B_UPDATE_INTERRUPT
      const alarm = nextRtcAlarm(this.#ram, this.#seenSecond)
      if (alarm !== undefined && alarm <= second) this.#flags |= B_ALARM_INTERRUPT
    }
    this.#seenSecond = second
  }

  // The flags of register C sit at the same bits as their enables in register B.
  get #hasInterrupt(): boolean {
    return (this.#flags & this.#ram[REGISTER_B]! & B_INTERRUPTS) !== 0
  }

  #update(): void {
    const level = this.#hasInterrupt
    if (level !== this.#level) {
      this.#level = level
      this.#irq.set(level)
    }
    this.#schedule()
  }

  #schedule(): void {
    this.close()
    // An interrupt that waits for the guest needs no successor: register C re-arms the timer.
    if (this.#level) return
    const delayMs = this.#untilNextEventMs()
    if (delayMs === Number.POSITIVE_INFINITY) return
    this.#cancelTimer = this.#timers.start(this.#onTimer, Math.max(1, Math.ceil(delayMs)))
  }

  readonly #onTimer = (): void => {
    this.#collect()
    this.#update()
  }

  #untilNextEventMs(): number {
    const enabled = this.#ram[REGISTER_B]!
    let delayMs = Number.POSITIVE_INFINITY
    const period = this.#periodMs()
    if ((enabled & B_PERIODIC_INTERRUPT) !== 0 && period > 0) {
      delayMs = (this.#seenPeriod + 1) * period - this.#clock()
    }
    if (this.#isSetting) return delayMs
    if ((enabled & B_UPDATE_INTERRUPT) !== 0) {
      delayMs = Math.min(delayMs, this.#untilNextSecondMs())
    }
    if ((enabled & B_ALARM_INTERRUPT) !== 0) {
      const alarm = nextRtcAlarm(this.#ram, this.#seenSecond)
      if (alarm !== undefined) delayMs = Math.min(delayMs, alarm * 1000 - this.timeMs)
    }
    return delayMs
  }

  #setLittleEndian(offset: number, length: number, value: number): void {
    for (let i = 0; i < length; i++) this.#ram[offset + i] = value >>> (8 * i)
  }
}
