// Accessors that stand on others, against a model: the same bytes in one plain array.

import fc from 'fast-check'
import { afterEach, describe, expect, test } from 'vitest'
import { GuestMemory, type StructCodec } from '../../src/index.js'
import { codeOf } from '../helpers/thrown.js'

const PAGE = 0x1000
const FAULT = 'ERR_KVM_GUEST_FAULT'
const made: GuestMemory[] = []
function create(...args: Parameters<typeof GuestMemory.create>): GuestMemory {
  const memory = GuestMemory.create(...args)
  made.push(memory)
  return memory
}
afterEach(() => {
  for (const memory of made.splice(0)) memory.close()
})

/** Three adjacent regions: seams at 1 and 2 pages, RAM from 1 to 4 pages. */
const adjoining = () =>
  create([
    { gpa: PAGE, size: PAGE },
    { gpa: 2 * PAGE, size: PAGE, backing: 'anonymous' },
    { gpa: 3 * PAGE, size: PAGE },
  ])

test('signed integers', () => {
  const memory = adjoining()
  memory.write(2 * PAGE - 3, Uint8Array.of(0xff, 0xfe, 0x80, 0xff, 0xff, 0xff, 0xff, 0x80))
  expect(memory.readI8(2 * PAGE - 3)).toBe(-1)
  expect(memory.readI16(2 * PAGE - 3)).toBe(-257)
  expect(memory.readI32(2 * PAGE - 2)).toBe(-32514)
  expect(memory.readI64(2 * PAGE - 3)).toBe(BigInt.asIntN(64, 0x80ff_ffff_ff80_feffn))
})

describe('strings', () => {
  test('end at a NUL, at the limit, or are refused where RAM ends before', () => {
    const memory = adjoining()
    const written = memory.writeString(3 * PAGE - 4, 'grüße, guest')
    expect(written).toBe(15)
    expect(memory.readString(3 * PAGE - 4, 100)).toBe('grüße, guest')
    expect(memory.readString(3 * PAGE - 4, 2)).toBe('gr')
    memory.fill(4 * PAGE - 4, 4, 0x41)
    expect(memory.readString(4 * PAGE - 4, 4)).toBe('AAAA')
    expect(codeOf(() => memory.readString(4 * PAGE - 4, 5))).toBe(FAULT)
    expect(codeOf(() => memory.writeString(4 * PAGE - 4, 'AAAA'))).toBe(FAULT)
    memory.writeU8(4 * PAGE - 1, 0)
    expect(memory.readString(4 * PAGE - 4, 2 ** 40)).toBe('AAA')
  })
})

test('structs', () => {
  const dataOf = ({ u8 }: { u8: Uint8Array }) => new DataView(u8.buffer, u8.byteOffset)
  const codec: StructCodec<{ a: number; b: bigint }> = {
    size: 12,
    decode: (view, at) => ({ a: view.u32[at / 4]!, b: dataOf(view).getBigUint64(at + 4, true) }),
    encode: (view, at, { a, b }) => {
      view.u32[at / 4] = a
      dataOf(view).setBigUint64(at + 4, b, true)
    },
  }
  const memory = adjoining()
  memory.writeStruct(2 * PAGE - 6, codec, { a: 7, b: 1n << 63n })
  expect(memory.readStruct(2 * PAGE - 6, codec)).toEqual({ a: 7, b: 1n << 63n })
  expect(memory.readU8(2 * PAGE + 6)).toBe(0)
  expect(codeOf(() => memory.writeStruct(4 * PAGE - 11, codec, { a: 1, b: 1n }))).toBe(FAULT)
})

test('lists of parts gather and scatter like one array', () => {
  const memory = adjoining()
  const part = fc.record({
    gpa: fc.integer({ min: PAGE, max: 4 * PAGE - 64 }),
    length: fc.integer({ min: 0, max: 64 }),
  })
  fc.assert(
    fc.property(
      fc.array(part, { maxLength: 8 }),
      fc.uint8Array({ maxLength: 256 }),
      (parts, all) => {
        const length = parts.reduce((sum, p) => sum + p.length, 0)
        const bytes = all.subarray(0, length)
        const model = memory.read(PAGE, 3 * PAGE)
        memory.writeParts(parts, bytes)
        let done = 0
        for (const { gpa, length } of parts) {
          model.set(bytes.subarray(done, done + length), gpa - PAGE)
          done += length
        }
        expect(Buffer.compare(memory.read(PAGE, 3 * PAGE), model)).toBe(0)
        const gathered = Buffer.concat(
          parts.map(({ gpa, length }) => model.subarray(gpa - PAGE, gpa - PAGE + length)),
        )
        expect(Buffer.compare(memory.readParts(parts), gathered)).toBe(0)
      },
    ),
    { numRuns: 200 },
  )
})

test('a list with one part that is not RAM changes nothing', () => {
  const memory = adjoining()
  const parts = [
    { gpa: PAGE, length: 4 },
    { gpa: 4 * PAGE - 2, length: 4 },
  ]
  expect(codeOf(() => memory.writeParts(parts, Uint8Array.of(1, 2)))).toBe(FAULT)
  expect(memory.isZero(PAGE, 3 * PAGE)).toBe(true)
  expect(codeOf(() => memory.readParts(parts))).toBe(FAULT)
  expect(codeOf(() => memory.writeParts(parts.slice(0, 1), new Uint8Array(5)))).toBe(
    'ERR_OUT_OF_RANGE',
  )
})

test('search finds what a plain array has, across seams', () => {
  const memory = adjoining()
  const byte = fc.integer({ min: 0, max: 1 })
  fc.assert(
    fc.property(
      fc.array(byte, { minLength: 32, maxLength: 32 }),
      fc.array(byte, { minLength: 1, maxLength: 6 }),
      fc.integer({ min: 0, max: 32 }),
      (haystack, needle, back) => {
        const bytes = Buffer.from(haystack)
        memory.write(2 * PAGE - back, bytes)
        const expected = bytes.indexOf(Buffer.from(needle))
        const found = memory.indexOf(Uint8Array.from(needle), 2 * PAGE - back, 32)
        expect(found).toBe(expected < 0 ? -1 : 2 * PAGE - back + expected)
      },
    ),
    { numRuns: 500 },
  )
  expect(memory.indexOf(Uint8Array.of(9), PAGE, 3 * PAGE)).toBe(-1)
  expect(codeOf(() => memory.indexOf(new Uint8Array(0), PAGE, 1))).toBe('ERR_OUT_OF_RANGE')
})

test('needles longer than a region', () => {
  const memory = adjoining()
  const needle = new Uint8Array(PAGE + 20).fill(5)
  memory.write(2 * PAGE - 10, needle)
  expect(memory.indexOf(needle, PAGE, 3 * PAGE)).toBe(2 * PAGE - 10)
})

test('pages of zeros', () => {
  const memory = adjoining()
  memory.writeU8(3 * PAGE - 1, 1)
  expect(memory.isZero(PAGE, 2 * PAGE - 1)).toBe(true)
  expect(memory.isZero(PAGE, 2 * PAGE)).toBe(false)
  expect([...memory.zeroPages(PAGE, 3 * PAGE)]).toEqual([
    { gpa: PAGE, size: PAGE },
    { gpa: 3 * PAGE, size: PAGE },
  ])
})

test('copies between guests, and within one with overlap', () => {
  const a = adjoining()
  const b = create(0x40_0000)
  const bytes = Uint8Array.from({ length: 3 * PAGE }, (_, i) => i * 7)
  a.write(PAGE, bytes)
  a.copyTo(b, PAGE, 0x12345, 3 * PAGE)
  expect(Buffer.compare(b.read(0x12345, 3 * PAGE), bytes)).toBe(0)
  expect(codeOf(() => a.copyTo(b, PAGE, 0x40_0000 - 1, 2))).toBe(FAULT)
  const long = new Uint8Array(0x28_0000).map((_, i) => i % 251)
  for (const [from, to] of [
    [0, 0x1_0001],
    [0x1_0001, 0],
  ] as const) {
    b.write(from, long)
    b.copyTo(b, from, to, long.length)
    expect(Buffer.compare(b.read(to, long.length), long)).toBe(0)
  }
})

describe('atomic access', () => {
  test('of every width', () => {
    const memory = adjoining()
    memory.atomicStore(PAGE, 'u8', 0xff)
    expect(memory.atomicAdd(PAGE, 'u8', 2)).toBe(0xff)
    expect(memory.readU16(PAGE)).toBe(1)
    memory.atomicStore(2 * PAGE, 'u64', 2n ** 64n - 1n)
    expect(memory.atomicLoad(2 * PAGE, 'u64')).toBe(2n ** 64n - 1n)
    expect(memory.atomicCompareExchange(2 * PAGE, 'u32', 0xffff_ffff, 5)).toBe(0xffff_ffff)
    expect(memory.atomicCompareExchange(2 * PAGE, 'u32', 6, 7)).toBe(5)
    expect(memory.readU64(2 * PAGE)).toBe(0xffff_ffff_0000_0005n)
    memory.atomicStore(3 * PAGE - 2, 'u16', 0xabcd)
    expect(memory.readU16(3 * PAGE - 2)).toBe(0xabcd)
  })

  test('is refused where it would not be one access', () => {
    const memory = adjoining()
    expect(codeOf(() => memory.atomicLoad(PAGE + 1, 'u16'))).toBe('ERR_OUT_OF_RANGE')
    expect(codeOf(() => memory.atomicLoad(PAGE + 4, 'u64'))).toBe('ERR_OUT_OF_RANGE')
    expect(codeOf(() => memory.atomicLoad(4 * PAGE, 'u16'))).toBe(FAULT)
    expect(codeOf(() => memory.atomicStore(PAGE, 'u8', 256))).toBe('ERR_OUT_OF_RANGE')
    expect(codeOf(() => memory.atomicStore(PAGE, 'u64', 1 as never))).toBe('ERR_INVALID_ARG_TYPE')
    expect(codeOf(() => memory.atomicLoad(PAGE, 'data' as never))).toBe('ERR_INVALID_ARG_TYPE')
  })
})
