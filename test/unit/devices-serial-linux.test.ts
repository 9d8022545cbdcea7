// What Linux's 8250 driver does to find out what sits at a port (drivers/tty/serial/8250), step by
// step on our UART: it has to end with "16550A", a 16-byte FIFO and no workaround switched on.

import { describe, expect, it } from 'vitest'
import { type BusDevice, PortBus, SERIAL_PORTS, Serial16550 } from '../../src/devices/index.js'

const RX = 0
const TX = 0
const IER = 1
const IIR = 2
const FCR = 2
const EFR = 2
const LCR = 3
const MCR = 4
const LSR = 5
const MSR = 6
const SCR = 7

const IER_RDI = 0x01
const IER_THRI = 0x02
const IER_RLSI = 0x04
const IER_UUE = 0x40
const IIR_NO_INT = 0x01
const LSR_DR = 0x01
const LSR_TEMT = 0x40
const MCR_LOOP = 0x10
const CONF_MODE_A = 0x80
const CONF_MODE_B = 0xbf

const { port: COM1 } = SERIAL_PORTS.com1

const createMachine = (uart: BusDevice) => {
  const bus = new PortBus()
  bus.add(COM1, 8, uart)
  return {
    inb: (register: number): number => bus.read(COM1 + register, 1),
    outb: (register: number, value: number): void => bus.write(COM1 + register, 1, value),
    delay: (): void => bus.write(0x80, 1, 0),
  }
}

type Machine = ReturnType<typeof createMachine>

const hasInterruptEnableRegister = ({ inb, outb, delay }: Machine): boolean => {
  const saved = inb(IER)
  outb(IER, 0)
  delay()
  const cleared = inb(IER) & 0x0f
  outb(IER, 0x0f)
  delay()
  const set = inb(IER) & 0x0f
  outb(IER, saved)
  return cleared === 0 && set === 0x0f
}

const hasLoopback = ({ inb, outb }: Machine): boolean => {
  const saved = inb(MCR)
  outb(MCR, MCR_LOOP | 0x0a)
  const lines = inb(MSR) & 0xf0
  outb(MCR, saved)
  return lines === 0x90
}

const isHighSpeedNational = ({ inb, outb }: Machine): boolean => {
  outb(LCR, 0)
  const mcr = inb(MCR)
  outb(LCR, 0xe0)
  const before = inb(0x02)
  if (((before ^ mcr) & MCR_LOOP) !== 0) return false
  outb(LCR, 0)
  outb(MCR, mcr ^ MCR_LOOP)
  outb(LCR, 0xe0)
  const after = inb(0x02)
  outb(LCR, 0)
  outb(MCR, mcr)
  return ((after ^ mcr) & MCR_LOOP) !== 0
}

const is16750 = ({ inb, outb }: Machine): boolean => {
  outb(LCR, 0)
  outb(FCR, 0x21)
  const first = inb(IIR) >> 5
  outb(FCR, 0x01)
  outb(LCR, CONF_MODE_A)
  outb(FCR, 0x21)
  const second = inb(IIR) >> 5
  outb(FCR, 0x01)
  outb(LCR, 0)
  return first === 6 && second === 7
}

const isXscale = ({ inb, outb }: Machine): boolean => {
  const saved = inb(IER)
  outb(IER, saved & ~IER_UUE)
  if ((inb(IER) & IER_UUE) !== 0) return false
  outb(IER, saved | IER_UUE)
  const sticks = (inb(IER) & IER_UUE) !== 0
  outb(IER, saved)
  return sticks
}

const fifoSize = ({ inb, outb }: Machine): number => {
  const lcr = inb(LCR)
  outb(LCR, 0)
  const mcr = inb(MCR)
  outb(FCR, 0x07)
  outb(MCR, MCR_LOOP)
  outb(LCR, CONF_MODE_A)
  const divisor = inb(0) | (inb(1) << 8)
  outb(0, 1)
  outb(1, 0)
  outb(LCR, 0x03)
  for (let count = 0; count < 256; count++) outb(TX, count)
  let size = 0
  while ((inb(LSR) & LSR_DR) !== 0 && size < 256) {
    expect(inb(RX)).toBe(size)
    size++
  }
  outb(MCR, mcr)
  outb(LCR, CONF_MODE_A)
  outb(0, divisor & 0xff)
  outb(1, divisor >> 8)
  outb(LCR, lcr)
  return size
}

const classify16550a = (machine: Machine): string => {
  const { inb, outb } = machine
  outb(LCR, CONF_MODE_A)
  if (inb(EFR) === 0) return '16650'
  outb(LCR, CONF_MODE_B)
  if (inb(EFR) === 0) return '16650V2'
  if (isHighSpeedNational(machine)) return 'NS16550A'
  if (is16750(machine)) return '16750'
  if (isXscale(machine)) return 'XScale'
  return fifoSize(machine) === 64 ? 'U6 16550A' : '16550A'
}

const classify = (machine: Machine): string => {
  const { inb, outb } = machine
  outb(LCR, CONF_MODE_B)
  const lcr = inb(LCR)
  outb(LCR, 0)
  if (lcr !== CONF_MODE_B) return 'unknown'
  outb(FCR, 0x01)
  switch (inb(IIR) >> 6) {
    case 0: {
      outb(SCR, 0xa5)
      const first = inb(SCR)
      outb(SCR, 0x5a)
      return first === 0xa5 && inb(SCR) === 0x5a ? '16450' : '8250'
    }
    case 1:
      return 'unknown'
    case 2:
      return '16550'
    default:
      return classify16550a(machine)
  }
}

const autoconfigure = (machine: Machine): string => {
  if (!hasInterruptEnableRegister(machine)) return 'none'
  if (!hasLoopback(machine)) return 'none'
  return classify(machine)
}

describe('Linux 8250 driver', () => {
  it('detects a 16550A with sixteen bytes of FIFO', () => {
    const sent: number[] = []
    const machine = createMachine(new Serial16550({ onByte: (byte) => sent.push(byte) }))
    expect(autoconfigure(machine)).toBe('16550A')
    expect(fifoSize(machine)).toBe(16)
    expect(sent).toEqual([])
  })

  it('finds nothing where no device is', () => {
    const bus = new PortBus()
    expect(
      autoconfigure({
        inb: (register) => bus.read(0x2f8 + register, 1),
        outb: (register, value) => bus.write(0x2f8 + register, 1, value),
        delay: () => {},
      }),
    ).toBe('none')
  })

  it('starts the port without switching a workaround on', () => {
    const { inb, outb } = createMachine(new Serial16550())
    outb(FCR, 0x01)
    outb(FCR, 0x07)
    outb(FCR, 0)
    for (const register of [LSR, RX, IIR, MSR]) inb(register)
    expect(inb(LSR)).not.toBe(0xff)
    outb(LCR, 0x03)

    // Does the THR-empty interrupt come back when it is enabled anew?
    outb(IER, IER_THRI)
    const first = inb(IIR)
    outb(IER, 0)
    outb(IER, IER_THRI)
    const second = inb(IIR)
    outb(IER, 0)
    expect(first & IIR_NO_INT).toBe(0)
    expect(second & IIR_NO_INT).toBe(0)

    // Does the transmitter's interrupt come when the transmitter is idle?
    outb(MCR, 0x0b)
    outb(IER, IER_THRI)
    const status = inb(LSR)
    const cause = inb(IIR)
    outb(IER, 0)
    expect(status & LSR_TEMT).toBe(LSR_TEMT)
    expect(cause & IIR_NO_INT).toBe(0)

    outb(IER, IER_RLSI | IER_RDI)
    expect(inb(IIR) & IIR_NO_INT).toBe(IIR_NO_INT)
  })

  it('prints through earlycon before any of that', () => {
    const sent: number[] = []
    const { inb, outb } = createMachine(new Serial16550({ onByte: (byte) => sent.push(byte) }))
    outb(LCR, 0x03)
    outb(IER, 0)
    outb(FCR, 0)
    outb(MCR, 0x03)
    const lcr = inb(LCR)
    outb(LCR, lcr | CONF_MODE_A)
    outb(0, 1)
    outb(1, 0)
    outb(LCR, lcr & ~CONF_MODE_A)
    for (const byte of Buffer.from('early\r\n')) {
      expect(inb(LSR) & 0x60).toBe(0x60)
      outb(TX, byte)
    }
    expect(Buffer.from(sent).toString()).toBe('early\r\n')
  })
})
