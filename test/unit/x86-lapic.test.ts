// The local APIC's register file and fields, and interrupt messages.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type BitFields,
  decodeBits,
  describeBits,
  encodeBits,
  knownBits,
} from '../../src/x86/bitfields.js'
import { encodeIpi, startupVector } from '../../src/x86/ipi.js'
import * as fields from '../../src/x86/lapic-fields.js'
import {
  LAPIC_REGISTERS,
  type LapicRegisterName,
  lapicMsr,
  lapicRegisterAt,
  lapicRegisterOfMsr,
} from '../../src/x86/lapic-registers.js'
import { LapicState } from '../../src/x86/lapic-state.js'
import { decodeMsi, encodeMsi, type Msi, type MsiFormat, toKvmMsi } from '../../src/x86/msi.js'

const outOfRange = expect.objectContaining({ name: 'RangeError', code: 'ERR_OUT_OF_RANGE' })
const names = Object.keys(LAPIC_REGISTERS) as LapicRegisterName[]

describe('register file', () => {
  it('has each register at its own place', () => {
    for (const name of names) {
      const { offset } = LAPIC_REGISTERS[name]
      expect(lapicRegisterAt(offset)).toBe(name)
      expect(offset % 16).toBe(0)
    }
    expect(lapicRegisterAt(0x10)).toBeUndefined()
    expect(lapicRegisterOfMsr(0x80f)).toBe('SIVR')
    expect(lapicRegisterOfMsr(0x831)).toBeUndefined()
    expect(lapicRegisterOfMsr(0x83f)).toBe('SELF_IPI')
    expect(lapicMsr(0x3e0)).toBe(0x83e)
    expect(() => lapicMsr(8)).toThrow(outOfRange)
  })

  it('keeps every register apart in kvm_lapic_state', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom(...names), fc.integer({ min: 0, max: 0xffffffff }))),
        (writes) => {
          const state = new LapicState()
          for (const [name, value] of writes) state.set(name, value)
          const last = new Map(writes)
          for (const name of names) expect(state.get(name)).toBe(last.get(name) ?? 0)
        },
      ),
    )
  })

  it('reads a state at any place of a buffer', () => {
    const state = new LapicState(new Uint8Array(2048).subarray(512, 1536))
    state.set('SIVR', 0x1ff)
    expect(new Uint8Array(state.bytes.buffer)[512 + 0xf0]).toBe(0xff)
    expect(() => new LapicState(new Uint8Array(1023))).toThrow(outOfRange)
    expect(() => state.set('TPR', 2 ** 32)).toThrow(outOfRange)
  })

  it('keeps identifiers in both formats', () => {
    const state = new LapicState()
    state.setId(0x12, 'xapic')
    expect(state.get('APICID')).toBe(0x12000000)
    expect(state.id('xapic')).toBe(0x12)
    state.setId(0xabcdef01, 'x2apic')
    expect(state.id('x2apic')).toBe(0xabcdef01)
    expect(() => state.setId(0x100, 'xapic')).toThrow(outOfRange)
  })

  it('keeps sets of vectors', () => {
    const vector = fc.integer({ min: 0, max: 255 })
    fc.assert(
      fc.property(fc.uniqueArray(vector), fc.uniqueArray(vector), (on, off) => {
        const state = new LapicState()
        for (const v of on) state.setVector('IRR', v)
        for (const v of off) state.setVector('IRR', v, false)
        const expected = on.filter((v) => !off.includes(v)).sort((a, b) => a - b)
        expect(state.vectors('IRR')).toEqual(expected)
        expect(state.vectors('ISR')).toEqual([])
      }),
    )
    const state = new LapicState()
    state.setVector('ISR', 0x31)
    expect(state.get('ISR1')).toBe(1 << 17)
    expect(() => state.setVector('ISR', 256)).toThrow(outOfRange)
  })

  it('joins the halves of the interrupt command', () => {
    const state = new LapicState()
    state.set('ICR', 0xc4500)
    state.set('ICR2', 0x03000000)
    expect(decodeBits(fields.LAPIC_XAPIC_ICR, state.icr())).toMatchObject({
      delivery: 'init',
      level: 'assert',
      shorthand: 'allExcludingSelf',
      destination: 3,
    })
  })
})

describe('fields', () => {
  const exported: Record<string, unknown> = fields
  const tables = Object.entries(exported).filter(
    (entry): entry is [string, BitFields] => typeof entry[1] === 'object',
  )

  it.each(tables)('%s names no bit twice and survives a round trip', (_name, table) => {
    const total = Object.values(table).reduce((sum, f) => sum + f.width, 0)
    expect(knownBits(table).toString(2).replaceAll('0', '').length).toBe(total)
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (value) => {
        expect(encodeBits(table, decodeBits(table, value))).toBe(value & knownBits(table))
      }),
    )
  })

  it('encode the commands that start processors', () => {
    const sipi = { delivery: 'startup', vector: 0x8, level: 'assert' } as const
    expect(encodeBits(fields.LAPIC_X2APIC_ICR, { ...sipi, destination: 1 })).toBe(0x1_0000_4608n)
    expect(encodeBits(fields.LAPIC_XAPIC_ICR, { ...sipi, destination: 1 })).toBe(
      0x0100_0000_0000_4608n,
    )
    const broadcast = { delivery: 'init', level: 'assert', shorthand: 'allExcludingSelf' } as const
    expect(encodeBits(fields.LAPIC_X2APIC_ICR, broadcast)).toBe(0xc4500n)
  })

  it('describe a programmed timer', () => {
    expect(describeBits(fields.LAPIC_LVT_TIMER, 0x200ecn)).toBe('vector=0xec mode=periodic')
    expect(describeBits(fields.LAPIC_SIVR, 0x1ff)).toBe('vector=0xff enable')
  })

  it('know the timer’s divisors', () => {
    // SDM figure 11-10: bits 3, 1 and 0.
    const codes = { 2: 0, 4: 1, 8: 2, 16: 3, 32: 8, 64: 9, 128: 10, 1: 11 }
    for (const [divisor, code] of Object.entries(codes)) {
      expect(fields.encodeTimerDivide(Number(divisor))).toBe(code)
      expect(fields.decodeTimerDivide(code)).toBe(Number(divisor))
    }
    expect(fields.encodeTimerDivide(3)).toBeUndefined()
  })
})

describe('interrupt messages', () => {
  const formats: [MsiFormat, number][] = [
    ['plain', 0xff],
    ['extended', 0x7fff],
    ['x2apic', 0xffffffff],
  ]

  function message(max: number): fc.Arbitrary<Msi> {
    return fc.record({
      destination: fc.integer({ min: 0, max }),
      destinationMode: fc.constantFrom('physical', 'logical'),
      redirectionHint: fc.boolean(),
      vector: fc.integer({ min: 0, max: 255 }),
      delivery: fc.constantFrom('fixed', 'lowestPriority', 'smi', 'nmi', 'init', 'extint'),
      level: fc.constantFrom('assert', 'deassert'),
      trigger: fc.constantFrom('edge', 'level'),
    })
  }

  it.each(formats)('come back as they went in, %s', (format, max) => {
    fc.assert(
      fc.property(message(max), (msi) => {
        expect(decodeMsi(encodeMsi(msi, format), format)).toEqual(msi)
      }),
    )
    expect(() => encodeMsi({ destination: max + 1, vector: 0x30 }, format)).toThrow(outOfRange)
  })

  it('have the usual bytes', () => {
    expect(encodeMsi({ destination: 2, vector: 0x41 })).toEqual({
      address_lo: 0xfee02000,
      address_hi: 0,
      data: 0x41,
    })
    expect(encodeMsi({ destination: 0x1234, vector: 0x41 }, 'extended').address_lo).toBe(0xfee34240)
    expect(encodeMsi({ destination: 0x12345, vector: 0x41 }, 'x2apic')).toMatchObject({
      address_lo: 0xfee45000,
      address_hi: 0x12300,
    })
  })

  it('are rewritten for KVM', () => {
    fc.assert(
      fc.property(message(0x7fff), (msi) => {
        expect(toKvmMsi(encodeMsi(msi, 'extended'))).toEqual(encodeMsi(msi, 'x2apic'))
      }),
    )
    const odd = { address_lo: 0x12345fff, address_hi: 5, data: 0xffffffff }
    expect(toKvmMsi(odd)).toEqual({ address_lo: 0x1234501f, address_hi: 0x7f00, data: 0xffffffff })
  })

  it('are refused when they are none', () => {
    expect(() => decodeMsi({ address_lo: 0xfed00000, address_hi: 0, data: 0 })).toThrow(outOfRange)
    expect(() => decodeMsi({ address_lo: 0xfee00000, address_hi: 0, data: 0x300 })).toThrow(
      outOfRange,
    )
  })
})

describe('interprocessor interrupts', () => {
  it('have the values of the manuals', () => {
    const others = { shorthand: 'allExcludingSelf' } as const
    expect(encodeIpi({ ...others, delivery: 'init' })).toBe(0xc_4500n)
    const vector = startupVector(0x9_f000)
    expect(encodeIpi({ ...others, delivery: 'startup', vector }, 'xapic')).toBe(0xc_469fn)
    expect(encodeIpi({ destination: 300, vector: 0x91 })).toBe(0x12c_0000_4091n)
    expect(encodeIpi({ destination: 5, vector: 0x91 }, 'xapic')).toBe(0x0500_0000_0000_4091n)
  })

  it('are refused when they are none', () => {
    expect(() => encodeIpi({ vector: 0x91 })).toThrow(outOfRange)
    expect(() => encodeIpi({ destination: 256, vector: 0x91 }, 'xapic')).toThrow(outOfRange)
    expect(() => encodeIpi({ destination: 0, vector: 256 })).toThrow(outOfRange)
    expect(() => startupVector(0x10_0000)).toThrow(outOfRange)
    expect(() => startupVector(0x800)).toThrow(outOfRange)
  })
})
