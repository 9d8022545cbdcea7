// Registers that others answer in a device's stead: at every moment they are what the device would say.

import fc from 'fast-check'
import { expect, it } from 'vitest'
import {
  MmioBus,
  MsiCapability,
  MsixCapability,
  PCI_SHADOW_SIZE,
  PciFunction,
  PciHost,
  PortBus,
  READS,
  Serial16550,
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

it('serial port: a write that passes the gate sends a byte and moves no line', () => {
  fc.assert(
    fc.property(fc.array(serialStep, { maxLength: 40 }), byte, (steps, value) => {
      const { serial, shadow, levels, sent } = makeSerial()
      for (const step of steps) perform(serial, step as Step)
      expect(shadow.gate.slice(1).every((bits) => (bits & WRITES) === 0)).toBe(true)
      if ((shadow.gate[0]! & WRITES) === 0) return
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
  expect([...gate]).toEqual([WRITES, READS, READS, READS, READS, READS, READS, READS])
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
