// The README's examples, run as a reader would run them.

import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, expect, test } from 'vitest'

const root = join(import.meta.dirname, '..', '..')
const folder = mkdtempSync(join(root, 'build', 'readme-'))
const blocks = [...readFileSync(join(root, 'README.md'), 'utf8').matchAll(/```ts\n([\s\S]*?)```/g)]

const expected = ['ABCDE\n', 'port 0xf4: 42\n']

afterAll(() => rmSync(folder, { recursive: true }))

test('the README has as many examples as there are results here', () => {
  expect(blocks.length).toBe(expected.length)
})

test.each(expected.map((output, index) => [index + 1, output]))('example %i', async (n, output) => {
  const file = join(folder, `example-${n}.mts`)
  writeFileSync(file, blocks[Number(n) - 1]![1]!)
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', file], {
    cwd: root,
  })
  expect(stdout).toBe(output)
})
