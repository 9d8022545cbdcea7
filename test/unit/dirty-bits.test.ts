// Bitmaps' ranges, against bits looked at one by one.

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { bitmapOf, RangeTaker, setBit, setFirst } from '../../src/core/memory/dirty-bits.js'

type Range = [first: number, end: number]
const GPA = 2 ** 33
const range = (gpa: number, size: number): Range => [(gpa - GPA) / 4096, (gpa - GPA + size) / 4096]

const taker = new RangeTaker()

function taken(words: Int32Array): Range[] {
  const ranges: Range[] = []
  const pages = taker.take(words, GPA, (gpa, size) => ranges.push(range(gpa, size)))
  expect(pages).toBe(ranges.reduce((sum, [first, end]) => sum + end - first, 0))
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
  // 16 ranges a word: with 64 words and more of them, not all fit into the memory for ranges.
  { weight: 2, arbitrary: fc.constant(0x5555_5555) },
  fc.integer(),
  fc.integer({ min: 0, max: 31 }).map((bit) => 1 << bit),
  fc.integer({ min: 0, max: 31 }).map((bit) => -1 << bit),
)

function bitmap(values: readonly number[]): Int32Array {
  const words = bitmapOf(values.length * 32)
  words.set(values)
  return words
}

const bitmaps = fc
  .tuple(fc.array(word, { maxLength: 20 }), fc.integer({ min: 1, max: 20 }))
  .map(([values, times]) => bitmap(new Array<number[]>(times).fill(values).flat()))

describe('ranges of a bitmap', () => {
  test('are those of its bits, and the bitmap is zeros afterwards', () => {
    fc.assert(
      fc.property(bitmaps, (words) => {
        const expected = oneByOne(words)
        expect(taken(words)).toEqual(expected)
        expect(words.every((word) => word === 0)).toBe(true)
      }),
      { seed: 1, numRuns: 1000 },
    )
  })

  test('may be more than are taken at a time', () => {
    const words = bitmap(new Array(200).fill(0x5555_5555))
    const expected = oneByOne(words)
    expect(expected).toHaveLength(3200)
    expect(taken(words)).toEqual(expected)
  })

  test('that were not handed out, because the one before threw, stay', () => {
    fc.assert(
      fc.property(bitmaps, fc.nat(2000), (words, fatal) => {
        const expected = oneByOne(words)
        const ranges: Range[] = []
        const take = () =>
          taker.take(words, GPA, (gpa, size) => {
            ranges.push(range(gpa, size))
            if (ranges.length === fatal + 1) throw new Error('stop')
          })
        if (fatal < expected.length) expect(take).toThrow('stop')
        else take()
        expect([...ranges, ...oneByOne(words)]).toEqual(expected)
      }),
      { seed: 3, numRuns: 1000 },
    )
  })

  test('keep what is set behind them meanwhile, and find what is set before them', () => {
    const words = bitmapOf(256)
    for (const page of [10, 100]) setBit(words, page)
    const ranges: Range[] = []
    taker.take(words, GPA, (gpa, size) => {
      ranges.push(range(gpa, size))
      setBit(words, 5)
    })
    expect(ranges).toEqual([
      [10, 11],
      [100, 101],
    ])
    expect(taken(words)).toEqual([[5, 6]])
  })
})

test('a bit anywhere in a long bitmap is found', () => {
  for (const page of [0, 32767, 32768, 65536, 100_000]) {
    const words = bitmapOf(128_000)
    setBit(words, page)
    expect(taken(words)).toEqual([[page, page + 1]])
  }
})

test('the first pages are those, whatever was set before', () => {
  for (const pages of [1, 31, 32, 33, 64, 100]) {
    const words = bitmapOf(128).fill(-1)
    setFirst(words, pages)
    expect(taken(words)).toEqual([[0, pages]])
  }
})
