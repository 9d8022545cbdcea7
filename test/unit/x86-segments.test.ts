// Selectors, descriptors, gates and segment registers.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeGate, encodeGate, type Gate, interruptGate64 } from '../../src/x86/gate.js'
import {
  flatCode32,
  flatCode64,
  flatData,
  localDescriptorTable,
  realModeSegment,
  resetCodeSegment,
  type Segment,
  taskStateSegment,
  unusableSegment,
} from '../../src/x86/segment.js'
import {
  decodeSegmentDescriptor,
  decodeSystemDescriptor64,
  descriptorTable,
  encodeSegmentDescriptor,
  encodeSystemDescriptor64,
  nullDescriptor,
} from '../../src/x86/segment-descriptor.js'
import { decodeSelector, selector } from '../../src/x86/selector.js'

const bit = fc.integer({ min: 0, max: 1 })
const uint = (bits: number) => fc.bigInt({ min: 0n, max: 2n ** BigInt(bits) - 1n })
const outOfRange = expect.objectContaining({ name: 'RangeError', code: 'ERR_OUT_OF_RANGE' })

// `present` is always set: the null descriptor is the one value with two meanings.
function segment(baseBits: number): fc.Arbitrary<Segment> {
  return fc
    .record({
      base: uint(baseBits),
      limit: fc.integer({ min: 0, max: 0xfffff }),
      selector: fc.integer({ min: 0, max: 0xffff }),
      type: fc.integer({ min: 0, max: 15 }),
      present: fc.constant(1),
      dpl: fc.integer({ min: 0, max: 3 }),
      db: bit,
      s: baseBits === 64 ? fc.constant(0) : bit,
      l: bit,
      g: bit,
      avl: bit,
      unusable: fc.constant(0),
    })
    .map((s) => (s.g === 1 ? { ...s, limit: s.limit * 4096 + 4095 } : s))
}

describe('segment descriptors', () => {
  it('come back as they went in', () => {
    fc.assert(
      fc.property(segment(32), (s) => {
        const bytes = encodeSegmentDescriptor(s)
        expect(decodeSegmentDescriptor(bytes, s.selector)).toEqual(s)
        expect(encodeSegmentDescriptor(decodeSegmentDescriptor(bytes))).toEqual(bytes)
      }),
    )
    fc.assert(
      fc.property(segment(64), (s) => {
        const bytes = encodeSystemDescriptor64(s)
        expect(bytes.length).toBe(16)
        expect(decodeSystemDescriptor64(bytes, s.selector)).toEqual(s)
      }),
    )
  })

  // The values every boot loader's GDT holds.
  it.each([
    ['64-bit code', flatCode64(), 0x00af9b000000ffffn],
    ['32-bit code', flatCode32(), 0x00cf9b000000ffffn],
    ['data', flatData(), 0x00cf93000000ffffn],
    ['user 64-bit code', flatCode64(0x33), 0x00affb000000ffffn],
    ['user data', flatData(0x2b), 0x00cff3000000ffffn],
    ['null', unusableSegment(), 0n],
  ])('%s has the usual bytes', (_name, s, expected) => {
    const bytes = encodeSegmentDescriptor(s)
    expect(new DataView(bytes.buffer).getBigUint64(0, true)).toBe(expected)
  })

  it('lays a GDT out', () => {
    const tss = taskStateSegment(0xffff_8000_0000_1000n)
    const gdt = descriptorTable([
      nullDescriptor(),
      encodeSegmentDescriptor(flatCode64()),
      encodeSystemDescriptor64(tss),
    ])
    expect(gdt.length).toBe(32)
    expect(decodeSystemDescriptor64(gdt.subarray(16))).toEqual(tss)
    expect(gdt[16 + 5]).toBe(0x8b)
    expect(decodeSegmentDescriptor(gdt).unusable).toBe(1)
  })

  it('keeps a descriptor that is not present', () => {
    const s = { ...flatData(), present: 0, selector: 0 }
    expect(decodeSegmentDescriptor(encodeSegmentDescriptor(s))).toEqual(s)
  })

  it('refuses what a descriptor cannot say', () => {
    expect(() => encodeSegmentDescriptor({ ...flatData(), base: 2n ** 32n })).toThrow(outOfRange)
    expect(() => encodeSegmentDescriptor({ ...flatData(), limit: 0x1000 })).toThrow(outOfRange)
    expect(() => encodeSegmentDescriptor({ ...flatData(), g: 0 })).toThrow(outOfRange)
    expect(() => encodeSegmentDescriptor({ ...flatData(), type: 16 })).toThrow(outOfRange)
    expect(() => encodeSystemDescriptor64(flatData())).toThrow(outOfRange)
    expect(() => decodeSegmentDescriptor(new Uint8Array(7))).toThrow(outOfRange)
    expect(() => decodeSystemDescriptor64(new Uint8Array(15))).toThrow(outOfRange)
  })
})

describe('segment registers', () => {
  it('have real-mode bases', () => {
    expect(realModeSegment(0xb800)).toMatchObject({ base: 0xb8000n, limit: 0xffff, g: 0, type: 3 })
    expect(realModeSegment(0x1000, 'code').type).toBe(0xb)
    expect(resetCodeSegment()).toMatchObject({ base: 0xffff0000n, selector: 0xf000 })
    expect(() => realModeSegment(0x10000)).toThrow(outOfRange)
  })

  it('take the privilege level from the selector', () => {
    expect(flatCode64(0x33)).toMatchObject({ selector: 0x33, dpl: 3, l: 1, db: 0 })
    expect(flatCode32(0x18)).toMatchObject({ dpl: 0, l: 0, db: 1 })
  })

  it('know system segments', () => {
    expect(taskStateSegment(0x1000n)).toMatchObject({ type: 0xb, present: 1, s: 0, unusable: 0 })
    expect(localDescriptorTable(0x2000n, 0xfff, 0x28)).toMatchObject({ type: 2, limit: 0xfff })
  })
})

describe('selectors', () => {
  it('come back as they went in', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffff }), (value) => {
        const s = decodeSelector(value)
        expect(selector(s.index, s.rpl, s.table)).toBe(value)
      }),
    )
    expect(selector(6, 3)).toBe(0x33)
    expect(selector(1, 0, 'ldt')).toBe(0xc)
    expect(() => selector(8192)).toThrow(outOfRange)
  })
})

describe('gates', () => {
  const shapes: Pick<Gate, 'kind' | 'bits'>[] = [
    { kind: 'interrupt', bits: 16 },
    { kind: 'interrupt', bits: 32 },
    { kind: 'interrupt', bits: 64 },
    { kind: 'trap', bits: 16 },
    { kind: 'trap', bits: 32 },
    { kind: 'trap', bits: 64 },
    { kind: 'call', bits: 16 },
    { kind: 'call', bits: 32 },
    { kind: 'call', bits: 64 },
    { kind: 'task', bits: 32 },
  ]

  it.each(shapes)('$kind gate of $bits bits comes back as it went in', ({ kind, bits }) => {
    const gate = fc.record({
      kind: fc.constant(kind),
      bits: fc.constant(bits),
      selector: fc.integer({ min: 0, max: 0xffff }),
      offset: kind === 'task' ? fc.constant(0n) : uint(bits),
      dpl: fc.integer({ min: 0, max: 3 }),
      present: fc.boolean(),
      ist: fc.integer({ min: 0, max: bits === 64 && kind !== 'call' ? 7 : 0 }),
      parameterCount: fc.integer({ min: 0, max: bits !== 64 && kind === 'call' ? 31 : 0 }),
    })
    fc.assert(
      fc.property(gate, (g) => {
        expect(decodeGate(encodeGate(g), bits === 64 ? 'long' : 'legacy')).toEqual(g)
      }),
    )
  })

  it('has the bytes that the manual draws', () => {
    const bytes = encodeGate(interruptGate64(0xffffffff81a00b10n, 0x10, 1))
    expect(Buffer.from(bytes).toString('hex')).toBe('100b1000018ea081ffffffff00000000')
    const legacy: Gate = { ...interruptGate64(0x1234_5678n), kind: 'trap', bits: 32, dpl: 3 }
    expect(Buffer.from(encodeGate(legacy)).toString('hex')).toBe('7856080000ef3412')
  })

  it('refuses what cannot be', () => {
    const gate = interruptGate64(0n)
    expect(() => encodeGate({ ...gate, kind: 'task' })).toThrow(outOfRange)
    expect(() => encodeGate({ ...gate, bits: 32, offset: 2n ** 32n })).toThrow(outOfRange)
    expect(() => encodeGate({ ...gate, bits: 32, ist: 1 })).toThrow(outOfRange)
    expect(() => encodeGate({ ...gate, parameterCount: 1 })).toThrow(outOfRange)
    expect(() => decodeGate(new Uint8Array(16), 'long')).toThrow(outOfRange)
    expect(() => decodeGate(new Uint8Array(7), 'legacy')).toThrow(outOfRange)
  })
})
