// The clock and CMOS RAM, after the MC146818A datasheet and the PC's conventions.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { RtcCmos, type TimerSource } from '../../src/devices/index.js'

const A = 0x0a
const B = 0x0b
const C = 0x0c
const D = 0x0d
const CENTURY = 0x32
const SET = 0x80
const BINARY_24 = 0x06

/** A clock and its timers that move only when told to. */
class FakeTime implements TimerSource {
  now: number
  started = 0
  #timers = new Set<{ at: number; callback: () => void }>()

  constructor(now: string) {
    this.now = Date.parse(now)
  }

  get pending(): number {
    return this.#timers.size
  }

  start(callback: () => void, delayMs: number): () => void {
    this.started++
    const timer = { at: this.now + delayMs, callback }
    this.#timers.add(timer)
    return () => this.#timers.delete(timer)
  }

  advance(ms: number): void {
    const end = this.now + ms
    for (;;) {
      const due = [...this.#timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0]
      if (!due) break
      this.#timers.delete(due)
      this.now = due.at
      due.callback()
    }
    this.now = end
  }
}

const createClock = (now = '2026-11-23T17:04:09.500Z') => {
  const time = new FakeTime(now)
  const levels: boolean[] = []
  const rtc = new RtcCmos({
    clock: () => time.now,
    timers: time,
    irq: { set: (level) => levels.push(level) },
  })
  const read = (register: number): number => {
    rtc.write(0, 1, register)
    return rtc.read(1)
  }
  const write = (register: number, value: number): void => {
    rtc.write(0, 1, register)
    rtc.write(1, 1, value)
  }
  const hex = (...registers: number[]): string =>
    registers.map((register) => read(register).toString(16).padStart(2, '0')).join(' ')
  return { rtc, time, levels, read, write, hex }
}

const ALL = [CENTURY, 9, 8, 7, 6, 4, 2, 0]

describe('index port', () => {
  it('selects with seven bits, masks NMI with the eighth and cannot be read', () => {
    const { rtc } = createClock()
    rtc.setByte(0x40, 0x12)
    rtc.write(0, 1, 0xc0)
    expect(rtc.nmiDisabled).toBe(true)
    expect(rtc.read(1)).toBe(0x12)
    expect(rtc.read(0)).toBe(0xff)
    rtc.write(0, 1, 0x40)
    expect(rtc.nmiDisabled).toBe(false)
  })
})

describe('time registers', () => {
  it('start in BCD and 24 hours, with UTC', () => {
    const { hex } = createClock()
    expect(hex(...ALL)).toBe('20 26 11 23 02 17 04 09')
  })

  it('follow register B', () => {
    const { write, hex } = createClock()
    write(B, BINARY_24)
    expect(hex(...ALL)).toBe('14 1a 0b 17 02 11 04 09')
    write(B, 0x04)
    expect(hex(4)).toBe('85')
    write(B, 0x00)
    expect(hex(4)).toBe('85')
  })

  it.each([
    ['00', '12'],
    ['01', '01'],
    ['11', '11'],
    ['12', '92'],
    ['13', '81'],
    ['23', '91'],
  ])('show %s hours as 0x%s on a 12-hour clock', (hours, shown) => {
    const { write, hex } = createClock(`2000-01-01T${hours}:00:00Z`)
    write(B, 0x00)
    expect(hex(4)).toBe(shown)
  })

  it('run with the clock', () => {
    const { time, hex } = createClock('1999-12-31T23:59:59.000Z')
    expect(hex(...ALL)).toBe('19 99 12 31 06 23 59 59')
    time.advance(1000)
    expect(hex(...ALL)).toBe('20 00 01 01 07 00 00 00')
  })

  it('are set between SET on and SET off, as Linux does it', () => {
    const { read, write, hex, time, rtc } = createClock()
    const b = read(B)
    write(B, b | SET)
    const a = read(A)
    write(A, a | 0x70)
    for (const [register, value] of [
      [9, 0x31],
      [8, 0x02],
      [7, 0x28],
      [4, 0x22],
      [2, 0x30],
      [0, 0x15],
    ] as const) {
      write(register, value)
      time.advance(700)
      expect(read(register)).toBe(value)
    }
    write(B, b)
    write(A, a)
    expect(hex(...ALL)).toBe('20 31 02 28 06 22 30 15')
    expect(new Date(rtc.timeMs).toISOString()).toBe('2031-02-28T22:30:15.000Z')
    time.advance(5_400_000)
    expect(hex(...ALL)).toBe('20 31 03 01 07 00 00 15')
  })

  it('stand still while SET is on', () => {
    const { write, hex, time } = createClock()
    write(B, SET | 0x02)
    time.advance(120_000)
    expect(hex(...ALL)).toBe('20 26 11 23 02 17 04 09')
    write(B, 0x02)
    expect(hex(2, 0)).toBe('04 09')
  })

  it('can be written without SET', () => {
    const { write, hex } = createClock()
    write(2, 0x59)
    expect(hex(4, 2, 0)).toBe('17 59 09')
  })

  it('take any time in any mode and give it back', () => {
    fc.assert(
      fc.property(
        fc.date({ min: new Date('0000-01-01'), max: new Date('9999-12-31'), noInvalidDate: true }),
        fc.constantFrom(0x00, 0x02, 0x04, 0x06),
        (date, mode) => {
          const source = createClock(date.toISOString())
          source.write(B, mode)
          const target = createClock()
          target.write(B, mode | SET)
          for (const register of ALL) target.write(register, source.read(register))
          target.write(B, mode)
          expect(target.rtc.timeMs).toBe(Math.floor(date.getTime() / 1000) * 1000)
        },
      ),
    )
  })
})

describe('control registers', () => {
  it('have a PC firmware’s values', () => {
    const { hex } = createClock()
    expect(hex(A, B, C, D)).toBe('26 02 00 80')
  })

  it('announce the update shortly before the second changes, unless SET is on', () => {
    const { read, write, time } = createClock('2026-01-01T00:00:00.000Z')
    const seen: number[] = []
    for (let ms = 0; ms < 1000; ms++) {
      if (read(A) & 0x80) seen.push(ms)
      time.advance(1)
    }
    expect(seen).toEqual([998, 999])
    write(B, SET | 0x02)
    time.advance(999)
    expect(read(A) & 0x80).toBe(0)
  })

  it('cannot have their read-only bits written', () => {
    const { read, write } = createClock()
    write(A, 0xff)
    expect(read(A)).toBe(0x7f)
    write(C, 0xff)
    write(D, 0x00)
    expect(read(C)).toBe(0)
    expect(read(D)).toBe(0x80)
  })

  it('clear the update enable with SET', () => {
    const { read, write } = createClock()
    write(B, SET | 0x72)
    expect(read(B)).toBe(SET | 0x62)
  })
})

describe('interrupts', () => {
  it('raise flags without enables too, but no line and no timer', () => {
    const { read, write, time, levels } = createClock()
    write(5, 0x17)
    write(3, 0x04)
    write(1, 0x10)
    time.advance(400)
    expect(read(C)).toBe(0x40)
    time.advance(200)
    expect(read(C)).toBe(0x70)
    expect(read(C)).toBe(0)
    expect(levels).toEqual([])
    expect(time.started).toBe(0)
  })

  it('come once a second with the update enable, each after register C was read', () => {
    const { read, write, time, levels } = createClock()
    write(A, 0x20)
    write(B, 0x12)
    time.advance(499)
    expect(levels).toEqual([])
    time.advance(1)
    expect(levels).toEqual([true])
    time.advance(10_000)
    expect(levels).toEqual([true])
    expect(time.pending).toBe(0)
    expect(read(C)).toBe(0x90)
    expect(levels).toEqual([true, false])
    time.advance(1000)
    expect(levels).toEqual([true, false, true])
  })

  it.each([
    [0x26, 1000 / 1024],
    [0x2f, 500],
    [0x2a, 1000 / 64],
    [0x21, 1000 / 256],
    [0x22, 1000 / 128],
  ])('come with the period of rate 0x%i', (a, period) => {
    const { read, write, time, levels } = createClock('2026-01-01T00:00:00.000Z')
    write(A, a)
    write(B, 0x42)
    read(C)
    time.advance(Math.ceil(period) - 1)
    expect(levels).toEqual([])
    time.advance(1)
    expect(levels).toEqual([true])
    expect(read(C)).toBe(0xc0)
    time.advance(Math.ceil(period))
    expect(levels).toEqual([true, false, true])
  })

  it('have no period with rate 0', () => {
    const { write, time, levels } = createClock()
    write(A, 0x20)
    write(B, 0x42)
    time.advance(10_000)
    expect(levels).toEqual([])
    expect(time.started).toBe(0)
  })

  it.each([
    ['an exact time tomorrow', [0x16, 0x00, 0x00], '2026-11-24T16:00:00Z'],
    ['the next second', [0xff, 0xff, 0xff], '2026-11-23T17:04:10Z'],
    ['the next full minute', [0xff, 0xff, 0x00], '2026-11-23T17:05:00Z'],
    ['half past any hour', [0xc0, 0x30, 0x00], '2026-11-23T17:30:00Z'],
    ['any second of a minute', [0xff, 0x07, 0xff], '2026-11-23T17:07:00Z'],
    ['any minute of an hour', [0x03, 0xff, 0x20], '2026-11-24T03:00:20Z'],
  ])('come at an alarm for %s', (_name, [hours, minutes, seconds], at) => {
    const { read, write, time, levels } = createClock()
    write(A, 0x20)
    write(5, hours!)
    write(3, minutes!)
    write(1, seconds!)
    write(B, 0x22)
    const wait = Date.parse(at) - time.now
    time.advance(wait - 1)
    expect(levels).toEqual([])
    time.advance(1)
    expect(levels).toEqual([true])
    expect(read(C) & 0xa0).toBe(0xa0)
  })

  it('never come from an alarm that is no time of day', () => {
    const { write, time, levels } = createClock()
    write(5, 0x29)
    write(B, 0x22)
    time.advance(3 * 86_400_000)
    expect(levels).toEqual([])
    expect(time.pending).toBe(0)
  })

  it('stop with reset and close', () => {
    const { rtc, read, write, time, levels } = createClock()
    write(B, 0x12)
    time.advance(1000)
    rtc.reset()
    expect(levels).toEqual([true, false])
    expect(read(B)).toBe(0x02)
    write(B, 0x12)
    expect(time.pending).toBe(1)
    rtc.close()
    expect(time.pending).toBe(0)
  })
})

describe('CMOS RAM', () => {
  it('keeps what the guest writes, over a reset too', () => {
    const { rtc, read, write } = createClock()
    const free = Array.from({ length: 128 }, (_, i) => i).filter((i) => i > D && i !== CENTURY)
    for (const i of free) write(i, i ^ 0x5a)
    rtc.reset()
    expect(free.map(read)).toEqual(free.map((i) => i ^ 0x5a))
  })

  it.each([
    [512 * 2 ** 20, 0, [0x80, 0x02, 0xff, 0xff, 0xff, 0xff, 0x00, 0x1f, 0, 0, 0]],
    [3 * 2 ** 30, 5 * 2 ** 30, [0x80, 0x02, 0xff, 0xff, 0xff, 0xff, 0x00, 0xbf, 0, 0x40, 0x01]],
    [8 * 2 ** 20, 0, [0x80, 0x02, 0x00, 0x1c, 0x00, 0x1c, 0, 0, 0, 0, 0]],
    [256 * 2 ** 10, 0, [0x00, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0]],
    [2 ** 32, 2 ** 41, [0x80, 0x02, 0xff, 0xff, 0xff, 0xff, 0x00, 0xff, 0xff, 0xff, 0xff]],
  ])('tells the memory size %#', (below4g, above4g, expected) => {
    const { rtc, read } = createClock()
    rtc.setMemorySize({ below4g, above4g })
    const registers = [0x15, 0x16, 0x17, 0x18, 0x30, 0x31, 0x34, 0x35, 0x5b, 0x5c, 0x5d]
    expect(registers.map(read)).toEqual(expected)
  })

  it('refuses sizes and bytes that are none', () => {
    const { rtc } = createClock()
    expect(() => rtc.setMemorySize({ below4g: -1, above4g: 0 })).toThrow(RangeError)
    expect(() => rtc.setMemorySize({ below4g: 0, above4g: 0.5 })).toThrow(RangeError)
    for (const offset of [0, D, CENTURY, 128, Number.NaN]) {
      expect(() => rtc.setByte(offset, 1)).toThrow(RangeError)
    }
  })
})
