// Rows stay aligned and lines within their width, whatever the words are.
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { TEXT_WIDTH, textBytes, textGroup, wrapWords } from '../../src/cli/text-layout.js'

const word = fc.stringMatching(/^[a-z_]{1,30}$/)

it('aligns values and wraps lists under themselves', () => {
  const long = Array.from({ length: 30 }, (_, i) => `word${i}`)
  const text = textGroup('Title', [
    ['a', 'one'],
    ['longer', long],
    ['empty', []],
  ])
  const [title, ...lines] = text.split('\n')
  expect(title).toBe('Title')
  expect(lines[0]).toBe('  a       one')
  expect(lines[1]).toMatch(/^ {2}longer {2}word0 word1 /)
  expect(lines[2]).toMatch(/^ {10}word/)
  expect(lines.at(-1)).toBe('  empty   -')
})

it('keeps every word, in order, within the width', () => {
  fc.assert(
    fc.property(fc.array(word), fc.array(word, { maxLength: 5 }), (words, labels) => {
      const rows = labels.map((label) => [label, words] as const)
      const lines = textGroup('Title', rows).split('\n').slice(1)
      for (const line of lines) expect(line.length).toBeLessThanOrEqual(TEXT_WIDTH)
      const shown = words.length === 0 ? ['-'] : words
      expect(lines.join(' ').trim().split(/\s+/).filter(Boolean)).toEqual(
        labels.flatMap((label) => [label, ...shown]),
      )
    }),
  )
})

it('gives a word that is too long a line of its own', () => {
  expect(wrapWords(['a', 'bbbbbbbb', 'c', 'd'], 4)).toEqual(['a', 'bbbbbbbb', 'c d'])
})

it.each([
  [0, '0 bytes'],
  [1000, '1000 bytes'],
  [12288, '12 KiB'],
  [2 ** 21, '2 MiB'],
  [2 ** 30, '1 GiB'],
  [25276510208, '23.5 GiB'],
])('writes %s as %s', (bytes, text) => {
  expect(textBytes(bytes)).toBe(text)
})
