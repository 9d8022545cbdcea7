// Register-level behaviour of the 16550A, after the PC16550D datasheet.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type InterruptLine, Serial16550 } from '../../src/devices/index.js'

const DATA = 0
const IER = 1
const IIR = 2
const FCR = 2
const LCR = 3
const MCR = 4
const LSR = 5
const MSR = 6
const SCR = 7

class Line implements InterruptLine {
  level = false
  edges = 0

  set(level: boolean): void {
    if (level && !this.level) this.edges++
    this.level = level
  }
}

interface Port {
  readonly uart: Serial16550
  readonly line: Line
  readonly sent: number[]
  read(offset: number): number
  write(offset: number, value: number): void
}

const createPort = (options: { holdInput?: boolean } = {}): Port => {
  const line = new Line()
  const sent: number[] = []
  const uart = new Serial16550({ ...options, irq: line, onByte: (byte) => sent.push(byte) })
  return {
    uart,
    line,
    sent,
    read: (offset) => uart.read(offset),
    write: (offset, value) => uart.write(offset, 1, value),
  }
}

/** Everything the guest can take now, polling as a driver would. */
const drain = (port: Port): number[] => {
  const bytes: number[] = []
  while (port.read(LSR) & 1) bytes.push(port.read(DATA))
  return bytes
}

describe('after reset', () => {
  it('has the master-reset values', () => {
    const { read, line } = createPort()
    expect([IER, IIR, LCR, MCR, LSR, MSR].map(read)).toEqual([0, 0x01, 0, 0, 0x60, 0xb0])
    expect(line.level).toBe(false)
  })

  it('forgets everything again', () => {
    const port = createPort()
    port.write(IER, 0x0f)
    port.write(FCR, 0xc1)
    port.write(MCR, 0x1b)
    port.write(SCR, 0x77)
    port.write(DATA, 0x41)
    port.write(LCR, 0x83)
    port.write(DATA, 0x34)
    expect(port.line.level).toBe(true)
    port.uart.reset()
    expect(port.line.level).toBe(false)
    expect([IER, IIR, LCR, MCR, LSR, MSR, SCR].map(port.read)).toEqual([
      0, 0x01, 0, 0, 0x60, 0xb0, 0,
    ])
  })
})

describe('registers', () => {
  it('keeps what can be kept and nothing else', () => {
    const { read, write } = createPort()
    for (const [register, mask] of [
      [IER, 0x0f],
      [LCR, 0x7f],
      [MCR, 0x1f],
      [SCR, 0xff],
    ] as const) {
      for (const value of [0xff, 0x00, 0xa5, 0x5a]) {
        write(register, value & (register === LCR ? 0x7f : 0xff))
        expect(read(register)).toBe(value & mask)
      }
      write(register, 0)
    }
    write(LSR, 0xff)
    write(MSR, 0xff)
    expect(read(LSR)).toBe(0x60)
  })

  it('shows the divisor behind DLAB, apart from the data and interrupt registers', () => {
    const { read, write, sent } = createPort()
    write(IER, 0x05)
    write(LCR, 0x83)
    expect(read(DATA) | (read(IER) << 8)).toBe(12)
    write(DATA, 0x34)
    write(IER, 0x12)
    expect([read(DATA), read(IER)]).toEqual([0x34, 0x12])
    write(LCR, 0x03)
    expect(read(IER)).toBe(0x05)
    expect(sent).toEqual([])
  })
})

describe('transmitting', () => {
  it('passes bytes on at once and is always ready', () => {
    const { read, write, sent } = createPort()
    for (const byte of [0x48, 0x69, 0xff, 0x00]) {
      expect(read(LSR) & 0x60).toBe(0x60)
      write(DATA, byte)
    }
    expect(sent).toEqual([0x48, 0x69, 0xff, 0x00])
  })

  it('raises THR empty when it is enabled, and reading IIR retires it', () => {
    const { read, write, line } = createPort()
    write(IER, 0x02)
    expect(line.level).toBe(true)
    expect(read(IIR)).toBe(0x02)
    expect(line.level).toBe(false)
    expect(read(IIR)).toBe(0x01)
    expect(read(LSR)).toBe(0x60)
    write(IER, 0x02)
    expect(read(IIR)).toBe(0x01)
    write(IER, 0x00)
    write(IER, 0x02)
    expect(read(IIR)).toBe(0x02)
  })

  it('raises THR empty with a new edge for every byte, even when IIR is never read', () => {
    const { write, line } = createPort()
    write(IER, 0x02)
    expect(line.edges).toBe(1)
    write(DATA, 1)
    write(DATA, 2)
    expect(line.edges).toBe(3)
    expect(line.level).toBe(true)
  })

  it('drops the line when the source is masked', () => {
    const { read, write, line } = createPort()
    write(IER, 0x02)
    write(IER, 0x00)
    expect(line.level).toBe(false)
    expect(read(IIR)).toBe(0x01)
  })
})

describe('receiving', () => {
  it('gives bytes in order and one at a time without the FIFO', () => {
    const port = createPort()
    port.uart.input.write(Buffer.from('ab'))
    expect(port.read(LSR)).toBe(0x61)
    expect(port.read(DATA)).toBe(0x61)
    expect(drain(port)).toEqual([0x62])
    expect(port.read(LSR)).toBe(0x60)
    expect(port.read(DATA)).toBe(0)
  })

  it.each([
    [0x01, 1],
    [0x41, 4],
    [0x81, 8],
    [0xc1, 14],
  ])('with FCR %i reports data from %i characters on and a time-out below', (fcr, trigger) => {
    const port = createPort()
    port.write(FCR, fcr)
    port.write(IER, 0x01)
    expect(port.read(IIR)).toBe(0xc1)
    port.uart.input.write(Buffer.alloc(trigger, 0x55))
    expect(port.line.level).toBe(true)
    expect(port.read(IIR)).toBe(0xc4)
    port.read(DATA)
    expect(port.read(IIR)).toBe(trigger === 1 ? 0xc1 : 0xcc)
    drain(port)
    expect(port.read(IIR)).toBe(0xc1)
    expect(port.line.level).toBe(false)
  })

  it('makes an edge for each character that stays after a read', () => {
    const { write, read, line, uart } = createPort()
    write(FCR, 0xc1)
    write(IER, 0x01)
    uart.input.write(Buffer.from('abc'))
    expect(line.edges).toBe(1)
    read(DATA)
    expect(line.edges).toBe(2)
    read(DATA)
    read(DATA)
    expect(line.edges).toBe(3)
    expect(line.level).toBe(false)
  })

  it('empties the FIFO on command and whenever it is switched on or off', () => {
    const port = createPort()
    port.write(FCR, 0x01)
    port.uart.input.write(Buffer.from('abc'))
    port.write(FCR, 0x02)
    expect(port.read(LSR)).toBe(0x60)
    port.write(FCR, 0x01)
    port.uart.input.write(Buffer.from('d'))
    port.write(FCR, 0xc1)
    expect(drain(port)).toEqual([])
  })

  it('keeps the FIFO when only the trigger changes', () => {
    const port = createPort()
    port.write(FCR, 0x01)
    port.write(MCR, 0x10)
    port.write(DATA, 0x11)
    port.write(DATA, 0x22)
    port.write(IER, 0x01)
    port.write(FCR, 0x81)
    expect(port.read(IIR)).toBe(0xcc)
    port.write(FCR, 0x83)
    expect(port.read(IIR)).toBe(0xc1)
  })

  it('ignores the other FIFO bits while bit 0 is clear', () => {
    const port = createPort()
    port.write(MCR, 0x10)
    port.write(DATA, 0x42)
    port.write(FCR, 0xc2)
    expect(port.read(IIR)).toBe(0x01)
    expect(drain(port)).toEqual([0x42])
  })

  it('keeps input back until the driver listens, when asked to', () => {
    const port = createPort({ holdInput: true })
    port.uart.input.write(Buffer.from('ls\n'))
    port.write(FCR, 0x01)
    port.write(FCR, 0x07)
    expect(drain(port)).toEqual([])
    port.write(IER, 0x05)
    expect(port.line.level).toBe(true)
    expect(Buffer.from(drain(port)).toString()).toBe('ls\n')
  })
})

describe('line status', () => {
  it('reports an overrun once; the FIFO keeps the old characters', () => {
    const port = createPort()
    port.write(FCR, 0x01)
    port.write(MCR, 0x10)
    port.write(IER, 0x04)
    for (let i = 0; i < 17; i++) port.write(DATA, i)
    expect(port.line.level).toBe(true)
    expect(port.read(IIR)).toBe(0xc6)
    expect(port.read(LSR)).toBe(0x63)
    expect(port.line.level).toBe(false)
    expect(port.read(LSR)).toBe(0x61)
    expect(drain(port)).toEqual(Array.from({ length: 16 }, (_, i) => i))
  })

  it('without the FIFO a newcomer replaces the character that waits', () => {
    const port = createPort()
    port.write(MCR, 0x10)
    port.write(DATA, 1)
    port.write(DATA, 2)
    expect(port.read(LSR)).toBe(0x63)
    expect(port.read(DATA)).toBe(2)
  })

  it('interrupts no more when the character is gone that had the error', () => {
    const port = createPort()
    port.write(IER, 0x04)
    port.uart.sendBreak()
    expect(port.line.level).toBe(true)
    expect(port.read(DATA)).toBe(0)
    expect(port.read(IIR)).toBe(0x01)
    expect(port.line.level).toBe(false)
  })

  it('shows a break when its character is the oldest, and bit 7 while it is in the FIFO', () => {
    const port = createPort()
    port.write(FCR, 0x01)
    port.write(IER, 0x05)
    port.uart.input.write(Buffer.from('x'))
    port.uart.sendBreak()
    expect(port.read(LSR)).toBe(0xe1)
    expect(port.read(DATA)).toBe(0x78)
    expect(port.read(IIR)).toBe(0xc6)
    expect(port.read(LSR)).toBe(0xf9)
    expect(port.read(LSR)).toBe(0x61)
    expect(port.read(DATA)).toBe(0)
    expect(port.read(LSR)).toBe(0x60)
  })
})

describe('modem status', () => {
  it('reports changes once and raises its interrupt', () => {
    const { uart, line, read, write } = createPort()
    write(IER, 0x08)
    uart.setModemInputs({ cts: false, dsr: true, ri: true, dcd: false })
    expect(line.level).toBe(true)
    expect(read(IIR)).toBe(0x00)
    expect(read(MSR)).toBe(0x69)
    expect(line.level).toBe(false)
    uart.setModemInputs({ cts: false, dsr: true, ri: false, dcd: false })
    expect(read(MSR)).toBe(0x24)
    expect(read(MSR)).toBe(0x20)
  })

  it('keeps a change that was undone before the read', () => {
    const { uart, read } = createPort()
    uart.setModemInputs({ cts: true, dsr: false, ri: false, dcd: true })
    uart.setModemInputs({ cts: true, dsr: true, ri: false, dcd: true })
    expect(read(MSR)).toBe(0xb2)
  })
})

describe('loopback', () => {
  it('turns the outputs into the inputs', () => {
    const { read, write } = createPort()
    for (const [mcr, lines] of [
      [0x10, 0x00],
      [0x11, 0x20],
      [0x12, 0x10],
      [0x14, 0x40],
      [0x18, 0x80],
      [0x1f, 0xf0],
    ] as const) {
      write(MCR, mcr)
      expect(read(MSR) & 0xf0).toBe(lines)
    }
    write(MCR, 0)
    expect(read(MSR) & 0xf0).toBe(0xb0)
  })

  it('raises delta bits from the outputs', () => {
    const { read, write } = createPort()
    write(MCR, 0x14)
    read(MSR)
    write(MCR, 0x13)
    expect(read(MSR)).toBe(0x37)
  })

  it('receives what it sends, sends nothing out and lets nothing in', () => {
    const port = createPort()
    port.write(FCR, 0x01)
    port.write(MCR, 0x10)
    port.uart.input.write(Buffer.from('outside'))
    port.uart.sendBreak()
    port.write(DATA, 0x5a)
    port.write(DATA, 0xa5)
    expect(drain(port)).toEqual([0x5a, 0xa5])
    expect(port.sent).toEqual([])
    port.write(MCR, 0)
    expect(Buffer.from(drain(port)).toString()).toBe('outside')
  })
})

describe('interrupt priority', () => {
  it('goes line status, data, THR empty, modem status', () => {
    const port = createPort()
    port.write(FCR, 0x01)
    port.write(MCR, 0x10)
    for (let i = 0; i < 17; i++) port.write(DATA, i)
    port.write(MCR, 0x11)
    port.write(IER, 0x0f)
    expect(port.read(IIR)).toBe(0xc6)
    port.read(LSR)
    expect(port.read(IIR)).toBe(0xc4)
    for (let i = 0; i < 16; i++) port.read(DATA)
    expect(port.read(IIR)).toBe(0xc2)
    expect(port.read(IIR)).toBe(0xc0)
    port.read(MSR)
    expect(port.read(IIR)).toBe(0xc1)
    expect(port.line.level).toBe(false)
  })
})

describe('the FIFO against a model', () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('send' as const), byte: fc.nat(255) }),
    fc.record({ kind: fc.constant('read' as const) }),
    fc.record({ kind: fc.constant('clear' as const) }),
  )

  it('never reorders, loses only what overruns, and says so', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), fc.boolean(), (steps, enabled) => {
        const { read, write } = createPort()
        write(FCR, enabled ? 0x81 : 0)
        write(MCR, 0x10)
        const model: number[] = []
        let overrun = false
        for (const next of steps) {
          if (next.kind === 'send') {
            write(DATA, next.byte)
            if (model.length < (enabled ? 16 : 1)) model.push(next.byte)
            else overrun = true
            if (!enabled) model[0] = next.byte
          } else if (next.kind === 'read') {
            expect(read(LSR)).toBe(0x60 | (model.length > 0 ? 1 : 0) | (overrun ? 2 : 0))
            overrun = false
            expect(read(DATA)).toBe(model.shift() ?? 0)
          } else if (enabled) {
            write(FCR, 0x83)
            model.length = 0
          }
        }
      }),
    )
  })
})
