// A 16550A serial port (National Semiconductor PC16550D) between the guest's eight registers and
// two Node streams. The wire is infinitely fast: a character written is gone before the next
// access, and a receive time-out, which on a wire takes four character times, has always passed.
// So no timer exists here, and a guest that polls never waits.

import { Duplex } from 'node:stream'
import type { BusDevice } from './bus-device.js'
import { ByteInput } from './byte-input.js'
import { ByteOutput } from './byte-output.js'
import { type InterruptLine, unconnectedLine } from './interrupt-line.js'
import { ReceiveFifo } from './receive-fifo.js'
import { READS, type RegisterShadow, URGENT, WRITES } from './register-shadow.js'

/** First port and ISA interrupt of a PC's four serial ports. Each has eight ports. */
export const SERIAL_PORTS = {
  com1: { port: 0x3f8, irq: 4 },
  com2: { port: 0x2f8, irq: 3 },
  com3: { port: 0x3e8, irq: 4 },
  com4: { port: 0x2e8, irq: 3 },
} as const

/** Options of {@link Serial16550}. */
export interface Serial16550Options {
  /** `com1` when absent. */
  readonly name?: string
  /**
   * Where INTR leads. It is not gated by OUT2, unlike on a PC's serial card: small guests written
   * against emulators forget that bit, and guests that set it notice no difference.
   */
  readonly irq?: InterruptLine
  /** Bytes of output kept while nobody reads `output`; see `ByteOutputOptions.limit`. */
  readonly outputLimit?: number
  /** Sees every byte the guest transmits, at once and beside `output`. */
  readonly onByte?: (byte: number) => void
  /**
   * Keeps `input` back until the guest has enabled the receive interrupt. A driver empties the
   * FIFO when it opens the port; with this, input written before boot survives that.
   */
  readonly holdInput?: boolean
  /** Kept up to date with the eight registers. It lets every write through. */
  readonly shadow?: RegisterShadow
}

/** The modem's side of the wire: what the guest sees in the modem status register. */
export interface ModemInputs {
  readonly cts: boolean
  readonly dsr: boolean
  readonly ri: boolean
  readonly dcd: boolean
}

const IER_DATA = 0x01
const IER_THR_EMPTY = 0x02
const IER_LINE_STATUS = 0x04
const IER_MODEM_STATUS = 0x08

const IIR_NONE = 0x01
const IIR_LINE_STATUS = 0x06
const IIR_DATA = 0x04
const IIR_TIMEOUT = 0x0c
const IIR_THR_EMPTY = 0x02
const IIR_MODEM_STATUS = 0x00
const IIR_FIFO_ENABLED = 0xc0

const FCR_ENABLE = 0x01
const FCR_CLEAR_RECEIVER = 0x02
const TRIGGER_LEVELS = [1, 4, 8, 14] as const

const LCR_DLAB = 0x80

const MCR_DTR = 0x01
const MCR_RTS = 0x02
const MCR_OUT1 = 0x04
const MCR_OUT2 = 0x08
const MCR_LOOP = 0x10
const MCR_WRITABLE = 0x1f

const LSR_DATA_READY = 0x01
const LSR_OVERRUN = 0x02
const LSR_FRAMING = 0x08
const LSR_BREAK = 0x10
const LSR_TRANSMITTER_EMPTY = 0x60
const LSR_FIFO_ERROR = 0x80

const MSR_CTS = 0x10
const MSR_DSR = 0x20
const MSR_RI = 0x40
const MSR_DCD = 0x80
const MSR_LINES = 0xf0
const MSR_DELTAS = 0x0f
const MSR_TERI = 0x04

const DIVISOR_9600 = 12

/**
 * A 16550A UART: eight byte-wide registers at offsets 0 to 7. The guest's output is the `output`
 * stream, its input the `input` stream; a chunk written to `input` counts as written when the guest
 * has taken its last byte into the 16-byte FIFO, so a fast source waits for the guest. The guest
 * never waits for the host: see {@link ByteOutput} for what happens to output nobody reads.
 *
 * Baud rate, word length and parity can be set and read back, and change nothing.
 */
export class Serial16550 implements BusDevice {
  readonly name: string
  readonly width = 1
  /** What the guest transmits. */
  readonly output: ByteOutput
  /** What the guest receives. */
  readonly input: ByteInput
  readonly #irq: InterruptLine
  readonly #onByte: ((byte: number) => void) | undefined
  readonly #holdInput: boolean
  readonly #shadow: RegisterShadow | undefined
  readonly #fifo = new ReceiveFifo()
  #duplex: Duplex | undefined
  #modem: number = MSR_CTS | MSR_DSR | MSR_DCD
  #ier = 0
  #lcr = 0
  #mcr = 0
  #msr = 0
  #scratch = 0
  #divisor = DIVISOR_9600
  #fifoEnabled = false
  #trigger = 1
  #overrun = false
  // The THR-empty source is an event, not a state: reading IIR retires it while THR stays empty.
  #thrEmptyPending = false
  #level = false
  #isCorked = false
  /** While corked: what the line is to be, and whether it was low meanwhile. */
  #wanted = false
  #fell = false

  constructor(options: Serial16550Options = {}) {
    this.name = options.name ?? 'com1'
    this.#irq = options.irq ?? unconnectedLine
    this.#onByte = options.onByte
    this.#holdInput = options.holdInput ?? false
    this.#shadow = options.shadow
    this.output = new ByteOutput(
      options.outputLimit === undefined ? {} : { limit: options.outputLimit },
    )
    this.input = new ByteInput(() => {
      this.#shadow?.settle?.()
      this.#receive()
    })
    this.reset()
  }

  /**
   * `output` and `input` as one stream, for `serial.duplex.pipe(process.stdout)` and the like. Use
   * either it or the two: they share the bytes.
   */
  get duplex(): Duplex {
    this.#duplex ??= Duplex.from({ readable: this.output, writable: this.input })
    return this.#duplex
  }

  /** Ends `output` after what was written so far, and swallows further `input`. */
  close(): void {
    this.output.finish()
    this.input.discard()
  }

  /** Sets the modem's lines; until then CTS, DSR and DCD are on, as with a null-modem cable. */
  setModemInputs({ cts, dsr, ri, dcd }: ModemInputs): void {
    this.#shadow?.settle?.()
    this.#modem =
      (cts ? MSR_CTS : 0) | (dsr ? MSR_DSR : 0) | (ri ? MSR_RI : 0) | (dcd ? MSR_DCD : 0)
    this.#updateModemStatus()
    this.#updateInterrupt()
  }

  /** Sends the guest a break: a zero character with the break and framing bits (Linux: SysRq). */
  sendBreak(): void {
    this.#shadow?.settle?.()
    if (this.#loopback) return
    this.#accept(0, LSR_BREAK | LSR_FRAMING)
    this.#updateInterrupt()
  }

  /** Master reset (PC16550D, table III). The streams and what waits in them stay. */
  reset(): void {
    this.#ier = 0
    this.#lcr = 0
    this.#mcr = 0
    this.#scratch = 0
    this.#divisor = DIVISOR_9600
    this.#msr = this.#modem
    this.#overrun = false
    this.#thrEmptyPending = false
    this.#configureFifo(0)
    this.#updateInterrupt()
  }

  read(offset: number): number {
    const value = this.#readRegister(offset)
    this.#publish()
    return value
  }

  write(offset: number, _size: number, value: number): void {
    this.#writeRegister(offset, value)
    this.#publish()
  }

  #readRegister(offset: number): number {
    switch (offset & 7) {
      case 0:
        return this.#dlab ? this.#divisor & 0xff : this.#readReceiver()
      case 1:
        return this.#dlab ? this.#divisor >>> 8 : this.#ier
      case 2:
        return this.#readInterruptId()
      case 3:
        return this.#lcr
      case 4:
        return this.#mcr
      case 5:
        return this.#readLineStatus()
      case 6:
        return this.#readModemStatus()
      default:
        return this.#scratch
    }
  }

  #writeRegister(offset: number, value: number): void {
    switch (offset & 7) {
      case 0:
        if (this.#dlab) this.#divisor = (this.#divisor & 0xff00) | value
        else this.#transmit(value)
        break
      case 1:
        if (this.#dlab) this.#divisor = (this.#divisor & 0xff) | (value << 8)
        else this.#writeInterruptEnable(value)
        break
      case 2:
        this.#writeFifoControl(value)
        break
      case 3:
        this.#lcr = value
        break
      case 4:
        this.#writeModemControl(value)
        break
      case 7:
        this.#scratch = value
        break
      default:
      // LSR and MSR: factory tests aside, writes do nothing.
    }
  }

  get #dlab(): boolean {
    return (this.#lcr & LCR_DLAB) !== 0
  }

  get #loopback(): boolean {
    return (this.#mcr & MCR_LOOP) !== 0
  }

  #readReceiver(): number {
    const byte = this.#fifo.shift()
    this.#receive()
    // The byte may have been one with an error, whose interrupt goes with it.
    if ((this.#ier & IER_DATA) !== 0) this.#restartInterrupt()
    else this.#updateInterrupt()
    return byte
  }

  #readInterruptId(): number {
    const register = this.#interruptIdRegister
    if (this.#interruptId() === IIR_THR_EMPTY) {
      this.#thrEmptyPending = false
      this.#updateInterrupt()
    }
    return register
  }

  get #interruptIdRegister(): number {
    return this.#interruptId() | (this.#fifoEnabled ? IIR_FIFO_ENABLED : 0)
  }

  get #lineStatus(): number {
    let status = LSR_TRANSMITTER_EMPTY | this.#fifo.frontErrors
    if (this.#fifo.length > 0) status |= LSR_DATA_READY
    if (this.#overrun) status |= LSR_OVERRUN
    if (this.#fifoEnabled && this.#fifo.hasErrors) status |= LSR_FIFO_ERROR
    return status
  }

  #readLineStatus(): number {
    const status = this.#lineStatus
    this.#overrun = false
    this.#fifo.clearFrontErrors()
    this.#updateInterrupt()
    return status
  }

  #readModemStatus(): number {
    const status = this.#msr
    this.#msr &= MSR_LINES
    this.#updateInterrupt()
    return status
  }

  #transmit(byte: number): void {
    if (this.#loopback) {
      this.#accept(byte)
    } else {
      this.output.writeByte(byte)
      this.#onByte?.(byte)
    }
    // ORDER: the write retires the old THR-empty event and its byte's departure makes a new one. An
    // edge-triggered controller must see both, or a driver that never reads IIR stops transmitting.
    this.#thrEmptyPending = true
    if ((this.#ier & IER_THR_EMPTY) !== 0) this.#restartInterrupt()
    else this.#updateInterrupt()
  }

  #writeInterruptEnable(value: number): void {
    const wasEnabled = (this.#ier & IER_THR_EMPTY) !== 0
    this.#ier = value & 0x0f
    const isEnabled = (this.#ier & IER_THR_EMPTY) !== 0
    // Enabling the source while THR is empty raises it anew; drivers probe for exactly that.
    if (isEnabled && !wasEnabled) this.#thrEmptyPending = true
    this.#receive()
    this.#updateInterrupt()
  }

  #writeFifoControl(value: number): void {
    const enable = (value & FCR_ENABLE) !== 0
    // Bits 7 to 1 count only together with bit 0, and changing bit 0 empties the FIFOs.
    if (enable !== this.#fifoEnabled || (enable && (value & FCR_CLEAR_RECEIVER) !== 0)) {
      this.#configureFifo(value)
    } else if (enable) {
      this.#trigger = TRIGGER_LEVELS[(value >>> 6) as 0 | 1 | 2 | 3]
    }
    this.#receive()
    this.#updateInterrupt()
  }

  #configureFifo(control: number): void {
    this.#fifoEnabled = (control & FCR_ENABLE) !== 0
    this.#trigger = this.#fifoEnabled ? TRIGGER_LEVELS[(control >>> 6) as 0 | 1 | 2 | 3] : 1
    this.#fifo.configure(this.#fifoEnabled)
  }

  #writeModemControl(value: number): void {
    this.#mcr = value & MCR_WRITABLE
    this.#updateModemStatus()
    this.#receive()
    this.#updateInterrupt()
  }

  // In loopback the four outputs drive the four inputs and the modem is disconnected.
  #modemLines(): number {
    if (!this.#loopback) return this.#modem
    const mcr = this.#mcr
    return (
      ((mcr & MCR_RTS) !== 0 ? MSR_CTS : 0) |
      ((mcr & MCR_DTR) !== 0 ? MSR_DSR : 0) |
      ((mcr & MCR_OUT1) !== 0 ? MSR_RI : 0) |
      ((mcr & MCR_OUT2) !== 0 ? MSR_DCD : 0)
    )
  }

  #updateModemStatus(): void {
    const before = this.#msr & MSR_LINES
    const lines = this.#modemLines()
    let deltas = (before ^ lines) >>> 4
    // Of the ring indicator only the end of a ring is an event.
    if ((lines & MSR_RI) !== 0) deltas &= ~MSR_TERI
    this.#msr = lines | (this.#msr & MSR_DELTAS) | deltas
  }

  #accept(byte: number, errors = 0): void {
    if (!this.#fifo.push(byte, errors)) this.#overrun = true
  }

  // Moves input into the FIFO as far as there is room.
  #receive(): void {
    if (this.#loopback) return
    if (this.#holdInput && (this.#ier & IER_DATA) === 0) return
    let moved = false
    while (this.#fifo.hasRoom) {
      const byte = this.input.next()
      if (byte < 0) break
      this.#accept(byte)
      moved = true
    }
    if (moved) this.#updateInterrupt()
  }

  // Highest priority first (PC16550D, table IV).
  #interruptId(): number {
    const ier = this.#ier
    const fifo = this.#fifo
    if ((ier & IER_LINE_STATUS) !== 0 && (this.#overrun || fifo.frontErrors !== 0)) {
      return IIR_LINE_STATUS
    }
    if ((ier & IER_DATA) !== 0 && fifo.length > 0) {
      return fifo.length >= this.#trigger ? IIR_DATA : IIR_TIMEOUT
    }
    if ((ier & IER_THR_EMPTY) !== 0 && this.#thrEmptyPending) return IIR_THR_EMPTY
    if ((ier & IER_MODEM_STATUS) !== 0 && (this.#msr & MSR_DELTAS) !== 0) return IIR_MODEM_STATUS
    return IIR_NONE
  }

  // ORDER: the shadow before the line: another processor takes the interrupt at once, and would find none
  // in a shadow of before. An edge is not repeated.
  #updateInterrupt(): void {
    this.#publish()
    this.#drive(this.#interruptId() !== IIR_NONE)
  }

  // A read passes the shadow's gate where it changes nothing. Every write does: none gives a driver an answer, and what
  // it reads next waits for it, unless a byte was only sent.
  #publish(): void {
    if (this.#shadow === undefined) return
    const { registers, gate } = this.#shadow
    const hasDivisor = this.#dlab
    const onlySends = (this.#ier & IER_THR_EMPTY) === 0 && !this.#loopback && !hasDivisor
    const writes = WRITES | URGENT
    registers[1] = this.#ier
    registers[2] = this.#interruptIdRegister
    registers[3] = this.#lcr
    registers[4] = this.#mcr
    registers[5] = this.#lineStatus
    registers[6] = this.#msr
    registers[7] = this.#scratch
    gate[0] = onlySends ? WRITES : writes
    gate[1] = writes | (hasDivisor ? 0 : READS)
    gate[2] = writes | (this.#interruptId() === IIR_THR_EMPTY ? 0 : READS)
    gate[3] = writes | READS
    gate[4] = writes | READS
    gate[5] = writes | (this.#overrun || this.#fifo.hasErrors ? 0 : READS)
    gate[6] = writes | ((this.#msr & MSR_DELTAS) === 0 ? READS : 0)
    gate[7] = writes | READS
  }

  // A source was retired and came back within one access: the controller must see an edge.
  #restartInterrupt(): void {
    this.#drive(false)
    this.#updateInterrupt()
  }

  /**
   * Holds the interrupt line still until {@link Serial16550.uncork}, for writes that come together: as with a FIFO that
   * is sent in one go there is an edge for all, not for each.
   */
  cork(): void {
    if (this.#isCorked) return
    this.#isCorked = true
    this.#wanted = this.#level
    this.#fell = false
  }

  /** Brings the interrupt line up to date. */
  uncork(): void {
    if (!this.#isCorked) return
    this.#isCorked = false
    if (this.#fell) this.#drive(false)
    this.#drive(this.#wanted)
  }

  #drive(level: boolean): void {
    if (this.#isCorked) {
      this.#wanted = level
      this.#fell ||= !level
      return
    }
    if (level === this.#level) return
    this.#level = level
    this.#irq.set(level)
  }
}
