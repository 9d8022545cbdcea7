// Registers that others answer in a device's stead: at every moment they are what the device would say.

import fc from 'fast-check'
import { expect, it } from 'vitest'
import {
  ACPI_PM_BLOCK,
  ACPI_PM_PORTS,
  AcpiPm,
  MmioBus,
  MsiCapability,
  MsixCapability,
  PCI_SHADOW_SIZE,
  PciFunction,
  PciHost,
  PmTimer,
  PortBus,
  READS,
  RTC_REGISTERS,
  RtcCmos,
  Serial16550,
  URGENT,
  WRITES,
} from '../../src/devices/index.js'

const byte = fc.nat(255)
const serialStep = fc.oneof(
  fc.record({ write: fc.nat(7), value: byte }),
  fc.record({ read: fc.nat(7) }),
  fc.record({ input: byte }),
  fc.constant({ break: true }),
  fc.record({ modem: fc.nat(15) }),
)

/** What a driver of the port could notice. */
function makeSerial() {
  const shadow = { registers: new Uint8Array(8), gate: new Uint8Array(8) }
  const levels: boolean[] = []
  const sent: number[] = []
  const serial = new Serial16550({
    shadow,
    irq: { set: (level) => levels.push(level) },
    onByte: (value) => sent.push(value),
  })
  return { serial, shadow, levels, sent }
}

type Step = { write?: number; value?: number; read?: number; input?: number; modem?: number }

function perform(serial: Serial16550, step: Step): void {
  if (step.write !== undefined) serial.write(step.write, 1, step.value!)
  else if (step.read !== undefined) serial.read(step.read)
  else if (step.input !== undefined) serial.input.write(Uint8Array.of(step.input))
  else if (step.modem !== undefined) {
    const has = (bit: number) => (step.modem! & bit) !== 0
    serial.setModemInputs({ cts: has(1), dsr: has(2), ri: has(4), dcd: has(8) })
  } else serial.sendBreak()
}

it('serial port: whoever takes the interrupt finds its reason, however soon', () => {
  const INTERRUPT_ID = 2
  const NONE = 1
  fc.assert(
    fc.property(fc.array(serialStep, { maxLength: 40 }), (steps) => {
      const shadow = { registers: new Uint8Array(8), gate: new Uint8Array(8) }
      const set = (level: boolean) => {
        const isAnswered = (shadow.gate[INTERRUPT_ID]! & READS) !== 0
        if (level && isAnswered) expect(shadow.registers[INTERRUPT_ID]! & NONE).toBe(0)
      }
      const serial = new Serial16550({ shadow, irq: { set } })
      for (const step of steps) perform(serial, step as Step)
    }),
  )
})

it('serial port: a register that passes the gate reads as the shadow and stays as it is', () => {
  fc.assert(
    fc.property(fc.array(serialStep, { maxLength: 40 }), fc.nat(7), (steps, register) => {
      const { serial, shadow, levels } = makeSerial()
      for (const step of steps) perform(serial, step as Step)
      if ((shadow.gate[register]! & READS) === 0) return
      const before = [...shadow.registers, ...shadow.gate]
      const changes = levels.length
      expect(serial.read(register)).toBe(shadow.registers[register])
      expect([...shadow.registers, ...shadow.gate]).toEqual(before)
      expect(levels.length).toBe(changes)
    }),
    { numRuns: 2000 },
  )
})

it('serial port: every write passes the gate, and one that is not urgent sends a byte and moves no line', () => {
  fc.assert(
    fc.property(fc.array(serialStep, { maxLength: 40 }), byte, (steps, value) => {
      const { serial, shadow, levels, sent } = makeSerial()
      for (const step of steps) perform(serial, step as Step)
      expect(shadow.gate.every((bits) => (bits & WRITES) !== 0)).toBe(true)
      expect(shadow.gate.slice(1).every((bits) => (bits & URGENT) !== 0)).toBe(true)
      if ((shadow.gate[0]! & URGENT) !== 0) return
      const before = [...shadow.registers, ...shadow.gate]
      const changes = levels.length
      serial.write(0, 1, value)
      expect(sent.at(-1)).toBe(value)
      expect([...shadow.registers, ...shadow.gate]).toEqual(before)
      expect(levels.length).toBe(changes)
    }),
    { numRuns: 2000 },
  )
})

it('serial port: at the start bytes may be sent and every status read', () => {
  const { gate } = makeSerial().shadow
  const both = READS | WRITES | URGENT
  expect([...gate]).toEqual([WRITES, both, both, both, both, both, both, both])
})

it('serial port: writes that come together end as they do one by one, with an edge for all', () => {
  const together = fc.array(fc.record({ write: fc.nat(7), value: byte }), { maxLength: 20 })
  fc.assert(
    fc.property(fc.array(serialStep, { maxLength: 20 }), together, (before, writes) => {
      const [one, other] = [makeSerial(), makeSerial()]
      for (const { serial } of [one, other])
        for (const step of before) perform(serial, step as Step)
      const seen = [one, other].map(({ levels }) => levels.length)
      for (const step of writes) perform(one.serial, step)
      other.serial.cork()
      for (const step of writes) perform(other.serial, step)
      expect(other.levels.length).toBe(seen[1])
      other.serial.uncork()
      expect(other.sent).toEqual(one.sent)
      expect(other.shadow).toEqual(one.shadow)
      expect(other.levels.at(-1) ?? false).toBe(one.levels.at(-1) ?? false)
      const [edges, corked] = [one.levels.slice(seen[0]), other.levels.slice(seen[1])]
      expect(corked.length).toBeLessThanOrEqual(Math.min(edges.length, 2))
      // Where the line has risen and is up, it rises.
      if (edges.includes(true) && edges.at(-1)) expect(corked.at(-1)).toBe(true)
    }),
    { numRuns: 2000 },
  )
})

it('clock: a register that passes the gate in time reads as the shadow', () => {
  const step = fc.oneof(
    fc.record({ write: fc.nat(127), value: byte }),
    fc.record({ read: fc.nat(127) }),
    fc.record({ sleep: fc.nat(2500) }),
    fc.constant({ reset: true }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const shadow = {
        index: new Uint8Array(1),
        registers: new Uint8Array(RTC_REGISTERS),
        gate: new Uint8Array(RTC_REGISTERS),
        until: new BigUint64Array(1),
      }
      let now = Date.UTC(2024, 1, 29, 23, 59, 58)
      // Time passes between reads only as this says, and the shadow's by as much.
      let slept = 0n
      const timers = { start: () => () => {} }
      const rtc = new RtcCmos({ shadow, clock: () => now, timers })
      expect(shadow.until[0]).toBe(0n)
      for (const each of steps) {
        if ('sleep' in each) {
          now += each.sleep
          slept += BigInt(each.sleep) * 1_000_000n
        } else if ('reset' in each) rtc.reset()
        else {
          rtc.write(0, 1, 'write' in each ? each.write : each.read)
          if ('write' in each) rtc.write(1, 1, each.value)
          else {
            rtc.read(1)
            slept = 0n
          }
        }
        if (process.hrtime.bigint() + slept >= shadow.until[0]!) continue
        const copy = [...shadow.registers]
        for (let register = 0; register < RTC_REGISTERS; register++) {
          if ((shadow.gate[register]! & READS) === 0) continue
          rtc.write(0, 1, register)
          // The index is no register: what may be read still may.
          expect(rtc.read(1)).toBe(copy[register])
        }
        slept = 0n
      }
    }),
    { numRuns: 300 },
  )
})

it('ACPI: what passes the gate in time reads as the shadow, and a write is let through where it ends no interrupt', () => {
  const { pm1Event, pm1Control, gpe0 } = ACPI_PM_BLOCK
  const registers = [0, 1, 2, 3].flatMap((i) => [pm1Event + i, gpe0 + i])
  const control = [pm1Control, pm1Control + 1]
  const step = fc.oneof(
    fc.record({ write: fc.constantFrom(...registers, pm1Control), value: byte }),
    fc.record({ read: fc.constantFrom(...registers, ...control) }),
    fc.record({ event: fc.nat(15) }),
    fc.constant({ button: true }),
    fc.record({ sleepNs: fc.bigInt(0n, 700_000_000_000n) }),
    fc.constant({ reset: true }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const shadow = {
        registers: new Uint8Array(ACPI_PM_PORTS),
        gate: new Uint8Array(ACPI_PM_PORTS),
        until: new BigUint64Array(1),
      }
      let now = 5n
      let level = false
      const timer = new PmTimer({ clockNs: () => now })
      const timers = { start: () => () => {} }
      const set = (to: boolean) => {
        // Whoever takes the interrupt finds it in the shadow.
        if (to) expect(shadow.gate[pm1Event]! & WRITES).toBe(0)
        level = to
      }
      const power = new AcpiPm({ shadow, timer, timers, sci: { set } })
      for (const each of steps) {
        if ('write' in each) power.write(each.write, 1, each.value)
        else if ('read' in each) power.read(each.read)
        else if ('event' in each) power.raiseEvent(each.event)
        else if ('button' in each) power.pressPowerButton()
        else if ('sleepNs' in each) now += each.sleepNs
        else power.reset()
        if (now >= shadow.until[0]!) continue
        for (const register of [...registers, ...control]) {
          const { gate } = shadow
          const copy = shadow.registers[register]
          expect(gate[register]! & READS).toBe(READS)
          expect(gate[register]! & WRITES).toBe(level || control.includes(register) ? 0 : WRITES)
          expect(power.read(register)).toBe(copy)
        }
      }
    }),
    { numRuns: 1000 },
  )
})

it('what was written before something came from outside is handed over before it', () => {
  const late: (() => void)[] = []
  const settle = () => {
    for (const write of late.splice(0)) write()
  }
  const bytes = () => new Uint8Array(ACPI_PM_PORTS)
  const shadow = { registers: bytes(), gate: bytes(), settle }
  const serial = new Serial16550({ shadow })
  serial.write(2, 1, 1)
  // A FIFO that is emptied, and input after that.
  late.push(() => serial.write(2, 1, 3))
  serial.input.write(Uint8Array.of(0x41))
  expect(serial.read(0)).toBe(0x41)
  late.push(() => serial.write(2, 1, 3))
  serial.sendBreak()
  expect(serial.read(5) & 0x10).toBe(0x10)
  late.push(() => serial.read(6))
  serial.setModemInputs({ cts: false, dsr: true, ri: false, dcd: true })
  expect(serial.read(6)).toBe(0xa1)

  const power = new AcpiPm({ shadow })
  const { pm1Event, gpe0 } = ACPI_PM_BLOCK
  late.push(() => power.write(pm1Event + 1, 1, 0xff))
  power.pressPowerButton()
  expect(power.read(pm1Event + 1)).toBe(1)
  late.push(() => power.write(gpe0, 1, 0xff))
  power.raiseEvent(3)
  expect(power.read(gpe0)).toBe(8)
})

const configStep = fc.oneof(
  fc.record({
    slot: fc.nat(4),
    register: fc.nat(0xff),
    size: fc.constantFrom(1, 2, 4),
    value: fc.nat(2 ** 32 - 1),
  }),
  fc.record({ pin: fc.boolean() }),
  fc.constant({ reset: true }),
  fc.constant({ assign: true }),
)

/** A bridge with a function in slot 2 that has every kind of register. */
function makePci() {
  const shadow = {
    address: new Uint32Array(1),
    registers: new Uint8Array(PCI_SHADOW_SIZE),
    gate: new Uint8Array(PCI_SHADOW_SIZE),
  }
  const ports = new PortBus()
  const host = new PciHost({
    ports,
    mmio: new MmioBus(),
    io: { base: 0x1000, size: 0x1000 },
    memory32: { base: 0xc000_0000, size: 0x1000_0000 },
    memory64: { base: 2 ** 32, size: 2 ** 32 },
    shadow,
  })
  const create = () => ({ connect() {}, signal() {}, isPending: false, close() {} })
  const msix = new MsixCapability({ vectors: 2, barIndex: 0, create })
  const device = new PciFunction({
    name: 'all',
    vendorId: 0x1234,
    deviceId: 1,
    classCode: 0xff0000,
    hasInterruptPin: true,
    bars: [msix.bar],
    capabilities: [msix, new MsiCapability({ vectors: 1, create })],
  })
  host.add(2, device)
  return { ports, host, device, shadow }
}

it('PCI: every register that passes the gate reads as the shadow', () => {
  fc.assert(
    fc.property(fc.array(configStep, { maxLength: 20 }), (steps) => {
      const { ports, host, device, shadow } = makePci()
      for (const step of steps) {
        if ('slot' in step) {
          const { slot, register, size, value } = step
          ports.write(0xcf8, 4, 2 ** 31 + slot * 0x800 + (register & 0xfc))
          ports.write(0xcfc + (register & (4 - size)), size, value)
        } else if ('pin' in step) device.interrupt.set(step.pin)
        else if ('assign' in step) host.assignBars()
        else host.reset()
      }
      for (let at = 0; at < 5 * 0x800; at++) {
        if (shadow.gate[at] !== READS) continue
        ports.write(0xcf8, 4, 2 ** 31 + (at & 0xfffc))
        expect(ports.read(0xcfc + (at & 3), 1), `at ${at}`).toBe(shadow.registers[at])
      }
    }),
    { numRuns: 8 },
  )
})

it('PCI: pending bits, which change by themselves, do not pass the gate', () => {
  const { shadow } = makePci()
  const closed = Array.from(shadow.gate.entries()).filter(([, bits]) => bits === 0)
  const offsets = closed.map(([at]) => at - 2 * 0x800)
  // The MSI capability stands behind that of MSI-X, which ends at 0x4c.
  expect([offsets[0], offsets.at(-1)]).toEqual([0x4c, 0x4c + 23])
})
