// Bitmaps joined to ranges, against bits looked at one by one.

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isZero, RangeJoiner, setBit } from '../../src/core/memory/dirty-bits.js'

type Range = [first: number, end: number]
const GPA = 2 ** 33
const range = (gpa: number, size: number): Range => [(gpa - GPA) / 4096, (gpa - GPA + size) / 4096]

function taken(words: Int32Array, parts: readonly number[] = []): Range[] {
  const ranges: Range[] = []
  const joiner = new RangeJoiner(GPA, (gpa, size) => ranges.push(range(gpa, size)))
  let from = 0
  for (const to of [...parts, words.length]) {
    joiner.take(words, from, to)
    from = to
  }
  joiner.end(words.length * 32)
  expect(joiner.pages).toBe(ranges.reduce((sum, [first, end]) => sum + end - first, 0))
  return ranges
}

function oneByOne(words: Int32Array): Range[] {
  const ranges: Range[] = []
  for (let page = 0; page < words.length * 32; page++) {
    if (((words[page >> 5]! >>> (page & 31)) & 1) === 0) continue
    const last = ranges.at(-1)
    if (last?.[1] === page) last[1] = page + 1
    else ranges.push([page, page + 1])
  }
  return ranges
}

const word = fc.oneof(
  { weight: 3, arbitrary: fc.constant(0) },
  { weight: 2, arbitrary: fc.constant(-1) },
  fc.integer(),
  fc.integer({ min: 0, max: 31 }).map((bit) => 1 << bit),
  fc.integer({ min: 0, max: 31 }).map((bit) => -1 << bit),
)
const words = fc.array(word, { maxLength: 40 }).map((values) => Int32Array.from(values))

describe('ranges of a bitmap', () => {
  test('are those of its bits, and the bitmap is zeros afterwards', () => {
    fc.assert(
      fc.property(words, (bitmap) => {
        const expected = oneByOne(bitmap)
        expect(taken(bitmap)).toEqual(expected)
        expect(bitmap.every((word) => word === 0)).toBe(true)
      }),
      { seed: 1, numRuns: 2000 },
    )
  })

  test('do not depend on the parts in which it is read', () => {
    fc.assert(
      fc.property(words, fc.array(fc.nat(40), { maxLength: 5 }), (bitmap, cuts) => {
        const parts = cuts.map((cut) => Math.min(cut, bitmap.length)).sort((a, b) => a - b)
        expect(taken(bitmap.slice(), parts)).toEqual(taken(bitmap))
      }),
      { seed: 2, numRuns: 500 },
    )
  })

  test('that were not handed out, because the one before threw, stay', () => {
    fc.assert(
      fc.property(words, fc.nat(20), (bitmap, fatal) => {
        const expected = oneByOne(bitmap)
        const ranges: Range[] = []
        const joiner = new RangeJoiner(GPA, (gpa, size) => {
          ranges.push(range(gpa, size))
          if (ranges.length === fatal + 1) throw new Error('stop')
        })
        try {
          joiner.take(bitmap, 0, bitmap.length)
          joiner.end(bitmap.length * 32)
        } catch {}
        expect([...ranges, ...oneByOne(bitmap)]).toEqual(expected)
      }),
      { seed: 3, numRuns: 1000 },
    )
  })
})

test('a bit anywhere in a long bitmap is found', () => {
  for (const page of [0, 32767, 32768, 65536, 100_000]) {
    const bitmap = new Int32Array(4000)
    expect(isZero(bitmap, 0, 4000)).toBe(true)
    setBit(bitmap, page)
    expect(isZero(bitmap, 0, 4000)).toBe(false)
    expect(isZero(bitmap, (page >>> 5) + 1, 4000)).toBe(true)
    expect(taken(bitmap)).toEqual([[page, page + 1]])
  }
})

test('a bit set is the page it stands for', () => {
  const bitmap = new Int32Array(4)
  for (const page of [0, 31, 32, 95, 127]) setBit(bitmap, page)
  expect(taken(bitmap).flat()).toEqual([0, 1, 31, 33, 95, 96, 127, 128])
})
