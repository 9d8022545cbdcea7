// The AML writer against a decoder written from the grammar, and against bytes from the
// specification's own examples.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { nameString, pkgLength, withPkgLength } from '../../src/boot/acpi/aml-encoding.js'
import { aml, amlResources } from '../../src/boot/index.js'
import { type AmlTerm, decodeAml, decodePkgLength } from '../helpers/aml-decoder.js'

const MIB = 0x10_0000

describe('PkgLength', () => {
  it.each([
    [0, [0x00]],
    [63, [0x3f]],
    [64, [0x40, 0x04]],
    [4095, [0x4f, 0xff]],
    [4096, [0x80, 0x00, 0x01]],
    [MIB - 1, [0x8f, 0xff, 0xff]],
    [MIB, [0xc0, 0x00, 0x00, 0x01]],
    [2 ** 28 - 1, [0xcf, 0xff, 0xff, 0xff]],
  ])('encodes %i', (value, bytes) => {
    expect([...pkgLength(value)]).toEqual(bytes)
    expect(decodePkgLength(pkgLength(value))).toBe(value)
  })

  it('refuses what 28 bits cannot say', () => {
    const refusal = expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' })
    expect(() => pkgLength(2 ** 28)).toThrow(refusal)
    expect(() => pkgLength(-1)).toThrow(refusal)
    expect(() => withPkgLength(new Uint8Array(2 ** 28 - 4))).toThrow(refusal)
  })

  // The largest body of each form, and the first that needs one byte more.
  it.each([
    [62, 1],
    [63, 2],
    [4093, 2],
    [4094, 3],
    [MIB - 4, 3],
    [MIB - 3, 4],
  ])('counts itself: a body of %i bytes gets %i bytes of length', (size, lengthSize) => {
    const packaged = withPkgLength(new Uint8Array(size))
    expect(packaged.length).toBe(size + lengthSize)
    expect(decodePkgLength(packaged.subarray(0, lengthSize))).toBe(packaged.length)
  })

  it('is exact and shortest for any body', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 70_000 }), (size) => {
        const packaged = withPkgLength(new Uint8Array(size))
        const lengthSize = packaged.length - size
        expect(decodePkgLength(packaged.subarray(0, lengthSize))).toBe(packaged.length)
        if (lengthSize > 1) {
          const limit = [0, 63, 4095, MIB - 1][lengthSize - 1]!
          expect(size + lengthSize - 1).toBeGreaterThan(limit)
        }
      }),
    )
  })
})

describe('names', () => {
  const text = (path: string): string => Buffer.from(nameString(path)).toString('latin1')

  it('fills segments and marks how many there are', () => {
    expect(text('_HID')).toBe('_HID')
    expect(text('\\_S5')).toBe('\\_S5_')
    expect(text('^^A')).toBe('^^A___')
    expect(text('\\_SB.PCI0')).toBe('\\.'.concat('_SB_PCI0'))
    expect(text('A.B.C')).toBe('/\x03A___B___C___')
    expect(text('\\')).toBe('\\\0')
  })

  it.each(['', 'abcd', 'ABCDE', '1ABC', 'A..B', 'A.', '.A', '\\^A', 'A B', 'Ä'])(
    'refuses %j',
    (path) => {
      expect(() => nameString(path)).toThrow(expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }))
    },
  )
})

describe('constants', () => {
  it.each([
    [0, [0x00]],
    [1, [0x01]],
    [2, [0x0a, 0x02]],
    [0xff, [0x0a, 0xff]],
    [0x100, [0x0b, 0x00, 0x01]],
    [0xffff, [0x0b, 0xff, 0xff]],
    [0x1_0000, [0x0c, 0x00, 0x00, 0x01, 0x00]],
    [0xffff_ffff, [0x0c, 0xff, 0xff, 0xff, 0xff]],
    [0x1_0000_0000, [0x0e, 0, 0, 0, 0, 1, 0, 0, 0]],
    [2n ** 64n - 1n, [0x0e, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]],
  ])('encodes the integer %s shortest', (value, bytes) => {
    expect([...aml.integer(value)]).toEqual(bytes)
  })

  it('refuses integers of more than 64 bits and negative ones', () => {
    for (const value of [-1, -1n, 2n ** 64n, 2 ** 53]) {
      expect(() => aml.integer(value)).toThrow(
        expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }),
      )
    }
  })

  it('compresses device identifications', () => {
    expect([...aml.eisaId('PNP0501')]).toEqual([0x0c, 0x41, 0xd0, 0x05, 0x01])
    expect([...aml.eisaId('PNP0A08')]).toEqual([0x0c, 0x41, 0xd0, 0x0a, 0x08])
    expect([...aml.eisaId('ACPBEEF')]).toEqual([0x0c, 0x04, 0x70, 0xbe, 0xef])
    expect(() => aml.eisaId('QEMU0001')).toThrow(RangeError)
  })

  it('mixes the byte order of a UUID', () => {
    const [term] = decodeAml(aml.uuid('33221100-5544-7766-8899-aabbccddeeff'))
    expect(term).toEqual(['Buffer', Uint8Array.from({ length: 16 }, (_, i) => i * 0x11)])
    expect(() => aml.uuid('33221100554477668899aabbccddeeff')).toThrow(RangeError)
  })

  it('takes only ASCII strings', () => {
    expect(decodeAml(aml.string('node "kvm"'))).toEqual([['String', 'node "kvm"']])
    expect(() => aml.string('é')).toThrow(RangeError)
    expect(() => aml.string('\0')).toThrow(RangeError)
  })

  it('counts more than 255 elements with a VarPackage', () => {
    const zeros = (count: number) => Array.from({ length: count }, () => aml.integer(0))
    expect(decodeAml(aml.packageOf(zeros(255)))[0]?.[0]).toBe('Package')
    expect(decodeAml(aml.packageOf(zeros(256)))[0]?.[0]).toBe('VarPackage')
  })
})

/** A term in both forms: as the writer makes it, and as the decoder must read it. */
interface Both {
  readonly bytes: Uint8Array
  readonly term: AmlTerm
}

const segment = fc.stringMatching(/^[A-Z_][A-Z0-9_]{0,3}$/)
const path = fc
  .tuple(fc.constantFrom('', '\\', '^', '^^'), fc.array(segment, { minLength: 1, maxLength: 4 }))
  .map(([prefix, segments]) => ({
    written: prefix + segments.join('.'),
    read: prefix + segments.map((name) => name.padEnd(4, '_')).join('.'),
  }))

const { term: anyTerm } = fc.letrec<{ term: Both; value: Both }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc
      .bigInt({ min: 0n, max: 2n ** 64n - 1n })
      .map((value): Both => ({ bytes: aml.integer(value), term: ['Integer', value] })),
    fc
      .uint8Array({ maxLength: 100 })
      .map((bytes): Both => ({ bytes: aml.buffer(bytes), term: ['Buffer', bytes] })),
    fc
      .stringMatching(/^[ -~]{0,70}$/)
      .map((text): Both => ({ bytes: aml.string(text), term: ['String', text] })),
    fc.array(tie('value'), { maxLength: 20 }).map(
      (list): Both => ({
        bytes: aml.packageOf(list.map(({ bytes }) => bytes)),
        term: ['Package', list.map(({ term }) => term)],
      }),
    ),
  ),
  term: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.tuple(path, tie('value')).map(
      ([name, value]): Both => ({
        bytes: aml.name(name.written, value.bytes),
        term: ['Name', name.read, value.term],
      }),
    ),
    fc.tuple(path, fc.array(tie('term'), { maxLength: 8 })).chain(([name, body]) =>
      fc.constantFrom<Both>(
        {
          bytes: aml.scope(name.written, ...body.map(({ bytes }) => bytes)),
          term: ['Scope', name.read, body.map(({ term }) => term)],
        },
        {
          bytes: aml.device(name.written, ...body.map(({ bytes }) => bytes)),
          term: ['Device', name.read, body.map(({ term }) => term)],
        },
        {
          bytes: aml.ifThen(aml.argument(1), ...body.map(({ bytes }) => bytes)),
          term: ['If', ['Arg', 1], body.map(({ term }) => term)],
        },
        {
          bytes: aml.method(
            name.written,
            3,
            body.map(({ bytes }) => bytes),
            true,
          ),
          term: ['Method', name.read, 0x0b, body.map(({ term }) => term)],
        },
      ),
    ),
  ),
}))

describe('terms', () => {
  it('decode to what was written, however they nest', () => {
    fc.assert(
      fc.property(fc.array(anyTerm, { maxLength: 10 }), (list) => {
        const bytes = Buffer.concat(list.map((both) => both.bytes))
        expect(decodeAml(bytes)).toEqual(list.map(({ term }) => term))
      }),
    )
  })

  it('write methods as the grammar has them', () => {
    const counter = aml.local(0)
    const status = aml.reference('STAT')
    const bytes = aml.method('_STA', 2, [
      aml.ifThen(aml.not(aml.equal(aml.argument(0), aml.integer(7))), aml.returns(aml.integer(0))),
      aml.otherwise(aml.store(aml.integer(1), counter), aml.and(counter, status, counter)),
      aml.or(counter, aml.integer(2), counter),
      aml.notify(aml.reference('\\_SB.PWRB'), 0x80),
    ])
    const local = ['Local', 0]
    expect(decodeAml(bytes)).toEqual([
      [
        'Method',
        '_STA',
        2,
        [
          ['If', ['LNot', ['LEqual', ['Arg', 0], ['Integer', 7n]]], [['Return', ['Integer', 0n]]]],
          [
            'Else',
            [
              ['Store', ['Integer', 1n], local],
              ['And', local, ['Reference', 'STAT'], local],
            ],
          ],
          ['Or', local, ['Integer', 2n], local],
          ['Notify', ['Reference', '\\_SB_.PWRB'], ['Integer', 0x80n]],
        ],
      ],
    ])
  })

  it('write operation regions and fields', () => {
    const region = aml.operationRegion('REGS', 'systemIo', 0x620, 4)
    const fields = aml.field('REGS', 'byte', [
      ['A', 8],
      [null, 100],
      ['BUSY', 1],
    ])
    expect(decodeAml(Buffer.concat([region, fields]))).toEqual([
      ['OperationRegion', 'REGS', 1, ['Integer', 0x620n], ['Integer', 4n]],
      [
        'Field',
        'REGS',
        1,
        [
          ['A___', 8],
          [null, 100],
          ['BUSY', 1],
        ],
      ],
    ])
  })
})

describe('resource descriptors', () => {
  it('have the bytes of the specification', () => {
    const { ioPorts, irq, interrupt, memory32Fixed, wordBusNumber } = amlResources
    expect([...ioPorts(0x3f8, 8)]).toEqual([0x47, 1, 0xf8, 3, 0xf8, 3, 1, 8])
    expect([...irq(4)]).toEqual([0x22, 0x10, 0x00])
    expect([...irq(15)]).toEqual([0x22, 0x00, 0x80])
    const levelLow = interrupt(0x1_0010, { trigger: 'level', polarity: 'low', shared: true })
    expect([...levelLow]).toEqual([0x89, 6, 0, 0x0d, 1, 0x10, 0, 1, 0])
    const edgeHigh = interrupt(5, { trigger: 'edge', polarity: 'high' })
    expect([...edgeHigh]).toEqual([0x89, 6, 0, 0x03, 1, 5, 0, 0, 0])
    const ecam = memory32Fixed(0xe000_0000, 0x1000_0000)
    expect([...ecam]).toEqual([0x86, 9, 0, 1, 0, 0, 0, 0xe0, 0, 0, 0, 0x10])
    const bus = [0x88, 13, 0, 2, 12, 0, 0, 0, 0, 0, 255, 0, 0, 0, 0, 1]
    expect([...wordBusNumber(0, 255)]).toEqual(bus)
  })

  it('give address spaces their first, last and length in full width', () => {
    const size = fc.integer({ min: 1, max: 2 ** 30 })
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 51 }), size, (gpa, length) => {
        const wide = Buffer.from(amlResources.qwordMemory(gpa, length, true))
        expect(wide.readUInt16LE(1)).toBe(wide.length - 3)
        expect([wide[3], wide[4], wide[5]]).toEqual([0, 0x0c, 0x07])
        expect(Number(wide.readBigUInt64LE(14))).toBe(gpa)
        expect(Number(wide.readBigUInt64LE(22))).toBe(gpa + length - 1)
        expect(Number(wide.readBigUInt64LE(38))).toBe(length)
      }),
    )
    const dword = Buffer.from(amlResources.dwordMemory(0xc000_0000, 0x4000_0000))
    expect(dword.length).toBe(26)
    expect([dword.readUInt32LE(10), dword.readUInt32LE(14)]).toEqual([0xc000_0000, 0xffff_ffff])
    const io = Buffer.from(amlResources.wordIo(0xd00, 0xf300))
    expect([io.readUInt16LE(8), io.readUInt16LE(10), io.readUInt16LE(14)]).toEqual([
      0xd00, 0xffff, 0xf300,
    ])
  })

  it('refuse ranges that do not fit', () => {
    const refusal = expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' })
    expect(() => amlResources.dwordMemory(0xc000_0000, 0x4000_0001)).toThrow(refusal)
    expect(() => amlResources.dwordMemory(0, 0)).toThrow(refusal)
    expect(() => amlResources.wordIo(0xffff, 2)).toThrow(refusal)
    expect(() => amlResources.irq(16)).toThrow(refusal)
    expect(() => amlResources.ioPorts(0xfff0, 256)).toThrow(refusal)
    expect(() => amlResources.memory32Fixed(0x1_0000_0000, 1)).toThrow(refusal)
  })

  it('end in a template with the end tag', () => {
    const template = amlResources.resourceTemplate(amlResources.irq(1))
    expect(decodeAml(template)).toEqual([['Buffer', Uint8Array.of(0x22, 2, 0, 0x79, 0)]])
  })
})
