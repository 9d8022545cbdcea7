// Hostile guests: whatever they write, a device neither throws nor grows nor answers out of range.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type Bus,
  DebugConsole,
  DebugExit,
  I8042,
  type InterruptLine,
  PortBus,
  PostCodePort,
  RtcCmos,
  Serial16550,
  SystemControlPort,
} from '../../src/devices/index.js'

const LIMITS: Record<number, number> = { 1: 0xff, 2: 0xffff, 4: 0xffff_ffff }
const LIMIT = 4096

const PORTS = [
  0x60,
  0x61,
  0x64,
  0x70,
  0x71,
  0x80,
  0x92,
  0xe9,
  0xf4,
  0x402,
  0xcf8,
  0xcfc,
  0xffff,
  ...Array.from({ length: 10 }, (_, i) => 0x3f7 + i),
]

const access = fc.record({
  port: fc.constantFrom(...PORTS),
  size: fc.constantFrom(1, 2, 4),
  value: fc.option(fc.oneof(fc.nat(0xff), fc.integer({ min: 0, max: 0xffff_ffff }))),
})

interface Machine {
  readonly bus: Bus
  readonly serial: Serial16550
  readonly console: DebugConsole
  readonly rtc: RtcCmos
  readonly lines: { level: boolean }[]
  readonly timers: Set<unknown>
}

const createMachine = (): Machine => {
  const lines: { level: boolean }[] = []
  const createLine = (): InterruptLine => {
    const state = { level: false }
    lines.push(state)
    return {
      set(level) {
        // A device that repeats a level costs the machine an ioctl.
        expect(level).toBe(!state.level)
        state.level = level
      },
    }
  }
  const timers = new Set<unknown>()
  const bus = new PortBus()
  const serial = new Serial16550({ irq: createLine(), outputLimit: LIMIT })
  const console = new DebugConsole({ outputLimit: LIMIT })
  let now = 1.7e12
  const rtc = new RtcCmos({
    irq: createLine(),
    clock: () => {
      now += 13.7
      return now
    },
    timers: {
      start(callback) {
        timers.add(callback)
        return () => timers.delete(callback)
      },
    },
  })
  bus.add(0x3f8, 8, serial)
  bus.add(0x402, 1, console)
  bus.add(0xe9, 1, console)
  bus.add(0x70, 2, rtc)
  bus.add(0x80, 1, new PostCodePort())
  bus.add(0x92, 1, new SystemControlPort({ onReset: () => {} }))
  bus.add(0xf4, 4, new DebugExit(() => {}))
  new I8042({ irq: createLine(), onReset: () => {} }).attach(bus)
  return { bus, serial, console, rtc, lines, timers }
}

describe('random accesses', () => {
  it('never throw, never answer out of range and never pile anything up', () => {
    fc.assert(
      fc.property(fc.array(access, { maxLength: 400 }), (accesses) => {
        const { bus, lines, timers } = createMachine()
        for (const { port, size, value } of accesses) {
          if (value !== null) bus.write(port, size, value)
          const read = bus.read(port, size)
          expect(Number.isInteger(read) && read >= 0 && read <= LIMITS[size]!).toBe(true)
          expect(timers.size).toBeLessThanOrEqual(1)
        }
        bus.reset()
        expect(lines.map(({ level }) => level)).toEqual([false, false, false])
        expect(timers.size).toBe(0)
      }),
      { numRuns: 300 },
    )
  })

  it('leave input in order behind a guest that only misbehaves elsewhere', () => {
    fc.assert(
      fc.property(fc.array(access, { maxLength: 100 }), fc.uint8Array(), (accesses, input) => {
        const { bus, serial } = createMachine()
        serial.input.write(input)
        const received: number[] = []
        const receive = (): void => {
          while (bus.read(0x3fd, 1) & 1) received.push(bus.read(0x3f8, 1))
        }
        for (const { port, size, value } of accesses) {
          const touchesSerial = port + size > 0x3f8 && port < 0x400
          if (value !== null && !touchesSerial) bus.write(port, size, value)
          receive()
        }
        receive()
        expect(received).toEqual([...input])
      }),
    )
  })

  it('keep output bounded when nobody reads it', () => {
    const { bus, serial, console } = createMachine()
    for (let i = 0; i < 100_000; i++) {
      bus.write(0x3f8, 1, i)
      bus.write(0x402, 1, i)
    }
    for (const output of [serial.output, console.output]) {
      expect(output.dropped).toBeGreaterThanOrEqual(100_000 - LIMIT)
      expect(output.readableLength).toBeLessThanOrEqual(output.readableHighWaterMark)
    }
  })
})
