// The ACPI fixed hardware behind a port bus, used as an operating system's ACPI core uses it.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  ACPI_PM_BASE,
  AcpiPm,
  PM_TIMER_HZ,
  PmTimer,
  PortBus,
  RESET_CONTROL_PORT,
  ResetControl,
  type TimerSource,
} from '../../src/devices/index.js'

const STATUS = ACPI_PM_BASE
const ENABLE = ACPI_PM_BASE + 2
const CONTROL = ACPI_PM_BASE + 4
const TIMER = ACPI_PM_BASE + 8
const GPE_STATUS = ACPI_PM_BASE + 0x20
const GPE_ENABLE = ACPI_PM_BASE + 0x22
const TMR = 0x0001
const PWRBTN = 0x0100

/** A clock in nanoseconds, and timers on it, that move only when told to. */
class FakeClock implements TimerSource {
  ns = 1_000n
  #timers = new Set<{ atNs: bigint; callback: () => void }>()

  get pending(): number {
    return this.#timers.size
  }

  start(callback: () => void, delayMs: number): () => void {
    const timer = { atNs: this.ns + BigInt(delayMs) * 1_000_000n, callback }
    this.#timers.add(timer)
    return () => this.#timers.delete(timer)
  }

  advance(ns: bigint): void {
    const end = this.ns + ns
    for (;;) {
      const due = [...this.#timers].filter(({ atNs }) => atNs <= end)
      const next = due.sort((a, b) => Number(a.atNs - b.atNs))[0]
      if (!next) break
      this.#timers.delete(next)
      this.ns = next.atNs
      next.callback()
    }
    this.ns = end
  }
}

const SECOND = 1_000_000_000n

const createPm = (bits: 24 | 32 = 32) => {
  const clock = new FakeClock()
  const sci = { level: false, changes: 0 }
  let powerOffs = 0
  const pm = new AcpiPm({
    sci: {
      set: (level) => {
        sci.level = level
        sci.changes++
      },
    },
    onPowerOff: () => powerOffs++,
    timer: new PmTimer({ bits, clockNs: () => clock.ns }),
    timers: clock,
  })
  const bus = new PortBus()
  pm.attach(bus)
  return { pm, bus, clock, sci, powerOffs: () => powerOffs }
}

describe('power button', () => {
  it('holds the interrupt until the guest has cleared its status', () => {
    const { pm, bus, sci } = createPm()
    expect(pm.isPowerButtonEnabled).toBe(false)
    bus.write(ENABLE, 2, PWRBTN)
    expect(pm.isPowerButtonEnabled).toBe(true)
    pm.pressPowerButton()
    expect(sci.level).toBe(true)
    expect(bus.read(STATUS, 2)).toBe(PWRBTN)
    bus.write(STATUS, 2, TMR)
    expect(sci.level).toBe(true)
    bus.write(STATUS, 2, PWRBTN)
    expect(sci.level).toBe(false)
    expect(bus.read(STATUS, 2)).toBe(0)
  })

  it('is remembered while nobody listens', () => {
    const { pm, bus, sci } = createPm()
    pm.pressPowerButton()
    expect(sci.level).toBe(false)
    bus.write(ENABLE, 2, PWRBTN)
    expect(sci.level).toBe(true)
    bus.write(ENABLE, 2, 0)
    expect(sci.level).toBe(false)
    expect(bus.read(STATUS, 2)).toBe(PWRBTN)
  })

  it('works by single bytes and by one double word as well', () => {
    const { pm, bus, sci } = createPm()
    bus.write(ENABLE + 1, 1, PWRBTN >> 8)
    pm.pressPowerButton()
    expect(sci.level).toBe(true)
    expect(bus.read(STATUS, 4)).toBe(PWRBTN * 0x1_0001)
    bus.write(STATUS + 1, 1, PWRBTN >> 8)
    expect(sci.level).toBe(false)
    bus.write(STATUS, 4, 0)
    expect(pm.isPowerButtonEnabled).toBe(false)
  })
})

describe('PM1 control', () => {
  it('is in ACPI mode, whatever is written', () => {
    const { bus } = createPm()
    expect(bus.read(CONTROL, 2)).toBe(0x0001)
    bus.write(CONTROL, 2, 0)
    expect(bus.read(CONTROL, 2)).toBe(0x0001)
    bus.write(CONTROL, 2, 0xffff & ~0x2000)
    expect(bus.read(CONTROL, 2)).toBe(0x1c03)
  })

  it('powers off as ACPICA does it: the sleep type first, then the enable bit', () => {
    const { bus, powerOffs } = createPm()
    bus.write(CONTROL, 2, 0x0001)
    expect(powerOffs()).toBe(0)
    bus.write(CONTROL, 2, 0x2001)
    expect(powerOffs()).toBe(1)
    expect(bus.read(CONTROL, 2)).toBe(0x0001)
  })

  it('powers off for the write that small kernels use on QEMU', () => {
    const { bus, powerOffs } = createPm()
    bus.write(0x604, 2, 0x2000)
    expect(powerOffs()).toBe(1)
  })

  it.each([1, 2, 3, 4, 5, 6, 7])('ignores sleep type %i', (type) => {
    const { bus, powerOffs } = createPm()
    bus.write(CONTROL, 2, (type << 10) | 0x2000)
    expect(powerOffs()).toBe(0)
  })
})

describe('general-purpose events', () => {
  it('interrupt while status and enable agree', () => {
    const { pm, bus, sci } = createPm()
    pm.raiseEvent(9)
    expect([bus.read(GPE_STATUS, 2), sci.level]).toEqual([0x200, false])
    bus.write(GPE_ENABLE, 2, 0x300)
    expect(sci.level).toBe(true)
    bus.write(GPE_STATUS, 2, 0x100)
    expect(sci.level).toBe(true)
    bus.write(GPE_STATUS, 2, 0x200)
    expect(sci.level).toBe(false)
    expect(bus.read(GPE_ENABLE, 2)).toBe(0x300)
  })

  it('are sixteen', () => {
    const { pm } = createPm()
    for (const index of [-1, 16, 1.5, Number.NaN]) {
      expect(() => pm.raiseEvent(index)).toThrow(
        expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }),
      )
    }
    pm.raiseEvent(15)
  })
})

describe('power-management timer', () => {
  it('counts 3.579545 MHz exactly and wraps at its width', () => {
    const { bus, clock } = createPm()
    expect(bus.read(TIMER, 4)).toBe(0)
    clock.advance(SECOND)
    expect(bus.read(TIMER, 4)).toBe(PM_TIMER_HZ)
    clock.advance(1200n * SECOND)
    expect(bus.read(TIMER, 4)).toBe((PM_TIMER_HZ * 1201) % 2 ** 32)
    const narrow = createPm(24)
    narrow.clock.advance(5n * SECOND)
    expect(narrow.bus.read(TIMER, 4)).toBe((PM_TIMER_HZ * 5) % 2 ** 24)
  })

  it('can be read in parts, cannot be written, and runs on through a reset', () => {
    const { bus, clock, pm } = createPm()
    clock.advance(60n * SECOND)
    const count = bus.read(TIMER, 4)
    expect(bus.read(TIMER + 2, 2)).toBe(count >>> 16)
    expect(bus.read(TIMER + 1, 1)).toBe((count >>> 8) & 0xff)
    bus.write(TIMER, 4, 0)
    bus.reset()
    pm.reset()
    expect(bus.read(TIMER, 4)).toBe(count)
  })

  it('never goes back between two wraps', () => {
    const steps = fc.array(fc.bigInt({ min: 0n, max: SECOND }), { maxLength: 50 })
    fc.assert(
      fc.property(steps, (list) => {
        const { bus, clock } = createPm()
        let last = 0
        for (const step of list) {
          clock.advance(step)
          const count = bus.read(TIMER, 4)
          expect(count).toBeGreaterThanOrEqual(last)
          last = count
        }
      }),
    )
  })

  it('refuses other widths', () => {
    // @ts-expect-error: the type says so too
    expect(() => new PmTimer({ bits: 16 })).toThrow(RangeError)
  })

  it('on the real clock, advances', () => {
    const timer = new PmTimer()
    const first = timer.count
    const start = process.hrtime.bigint()
    while (process.hrtime.bigint() - start < 1_000_000n);
    expect(timer.count).toBeGreaterThan(first)
  })

  // The highest bit of 24 changes every 2.343 s (2^23 ticks).
  it('sets its status when the highest bit changes', () => {
    const { bus, clock, sci } = createPm(24)
    clock.advance(2_343_000_000n)
    expect(bus.read(STATUS, 2)).toBe(0)
    clock.advance(1_000_000n)
    expect(bus.read(STATUS, 2)).toBe(TMR)
    bus.write(STATUS, 2, TMR)
    expect(bus.read(STATUS, 2)).toBe(0)
    clock.advance(2_344_000_000n)
    expect(bus.read(STATUS, 2)).toBe(TMR)
    expect(sci.changes).toBe(0)
  })

  it('interrupts only guests that ask, and keeps a timer only for those', () => {
    const { bus, clock, sci } = createPm(24)
    expect(clock.pending).toBe(0)
    bus.write(ENABLE, 2, TMR)
    expect(clock.pending).toBe(1)
    clock.advance(2_342_000_000n)
    expect(sci.level).toBe(false)
    clock.advance(3_000_000n)
    expect(sci.level).toBe(true)
    expect(clock.pending).toBe(0)
    bus.write(STATUS, 2, TMR)
    expect([sci.level, clock.pending]).toEqual([false, 1])
    clock.advance(2_345_000_000n)
    expect(sci.level).toBe(true)
    bus.write(ENABLE, 2, 0)
    expect([sci.level, clock.pending]).toEqual([false, 0])
  })

  it('catches up with a change that nobody had looked at when the guest asks', () => {
    const { bus, clock, sci } = createPm(24)
    clock.advance(3n * SECOND)
    bus.write(ENABLE, 2, TMR)
    expect(sci.level).toBe(true)
  })
})

describe('reset and hostile guests', () => {
  it('reset clears everything and lowers the line', () => {
    const { pm, bus, clock, sci } = createPm(24)
    bus.write(ENABLE, 2, PWRBTN | TMR)
    bus.write(GPE_ENABLE, 2, 0xffff)
    bus.write(CONTROL, 2, 0x1c02)
    pm.pressPowerButton()
    pm.raiseEvent(0)
    bus.reset()
    expect([STATUS, ENABLE, GPE_STATUS, GPE_ENABLE].map((port) => bus.read(port, 2))).toEqual([
      0, 0, 0, 0,
    ])
    expect(bus.read(CONTROL, 2)).toBe(1)
    expect([sci.level, clock.pending]).toEqual([false, 0])
  })

  it('keeps the interrupt line equal to the registers under any accesses', () => {
    const port = fc.integer({ min: ACPI_PM_BASE, max: ACPI_PM_BASE + 0x24 })
    const size = fc.constantFrom(1, 2, 4)
    const step = fc.oneof(
      fc.record({ port, size, value: fc.option(fc.nat(0xffff_ffff)) }),
      fc.record({ ms: fc.nat(5000) }),
      fc.record({ gpe: fc.nat(15) }),
      fc.constant({ press: true }),
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
        const { pm, bus, clock, sci } = createPm(24)
        for (const action of steps) {
          if ('port' in action) {
            if (action.value === null) bus.read(action.port, action.size)
            else bus.write(action.port, action.size, action.value)
          } else if ('ms' in action) clock.advance(BigInt(action.ms) * 1_000_000n)
          else if ('gpe' in action) pm.raiseEvent(action.gpe)
          else pm.pressPowerButton()
          const fixed = bus.read(STATUS, 2) & bus.read(ENABLE, 2)
          const general = bus.read(GPE_STATUS, 2) & bus.read(GPE_ENABLE, 2)
          expect(sci.level).toBe(fixed !== 0 || general !== 0)
        }
      }),
    )
  })
})

describe('reset control', () => {
  const createReset = () => {
    let resets = 0
    const bus = new PortBus()
    bus.add(RESET_CONTROL_PORT, 1, new ResetControl(() => resets++))
    return { bus, resets: () => resets }
  }

  it.each([0x06, 0x0e])('resets by writing %i', (value) => {
    const { bus, resets } = createReset()
    bus.write(RESET_CONTROL_PORT, 1, value)
    expect(resets()).toBe(1)
  })

  it('resets when bit 2 rises, as Linux does it without ACPI', () => {
    const { bus, resets } = createReset()
    bus.write(RESET_CONTROL_PORT, 1, 0x02)
    expect([bus.read(RESET_CONTROL_PORT, 1), resets()]).toEqual([0x02, 0])
    bus.write(RESET_CONTROL_PORT, 1, 0x06)
    bus.write(RESET_CONTROL_PORT, 1, 0x06)
    expect([bus.read(RESET_CONTROL_PORT, 1), resets()]).toEqual([0x06, 1])
    bus.reset()
    expect(bus.read(RESET_CONTROL_PORT, 1)).toBe(0)
    bus.write(RESET_CONTROL_PORT, 1, 0x0e)
    expect(resets()).toBe(2)
  })
})
