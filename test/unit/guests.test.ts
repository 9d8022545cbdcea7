// Guests in assembly: what is committed is what the assembler makes of them.

import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { expect, test } from 'vitest'
import { assemble, GUESTS, moduleOf } from '../../tools/assemble.mjs'

const root = join(import.meta.dirname, '..', '..')

test.each(GUESTS)('the bytes that run are those of $source', ({ source, gpa }) => {
  expect(assemble(source, gpa)).toBe(readFileSync(moduleOf(source), 'utf8'))
})

test('no guest is missing from the list', () => {
  const sources = ['examples', 'test', 'bench'].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.S'))
      .map((name) => join(folder, name)),
  )
  expect(GUESTS.map(({ source }) => relative(root, source)).sort()).toEqual(sources.sort())
})
