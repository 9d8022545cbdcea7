// The examples of docs/testing.md, run as a reader would run them.

import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'

const root = join(import.meta.dirname, '..', '..')
const folder = mkdtempSync(join(root, 'build', 'guide-'))
const guide = readFileSync(join(root, 'docs', 'testing.md'), 'utf8')
const [forVitest, forNode] = [...guide.matchAll(/```ts\n([\s\S]*?)```/g)].map((match) => match[1]!)

afterAll(() => rmSync(folder, { recursive: true }))

function run(...args: string[]) {
  const env = { ...process.env }
  // Otherwise the runner takes itself for a worker of this one.
  for (const name of Object.keys(env)) if (/^VITEST|^NODE_TEST/.test(name)) delete env[name]
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: root,
    encoding: 'utf8',
    env,
  })
  return { status, output: stdout + stderr }
}

test('the example for vitest', () => {
  writeFileSync(join(folder, 'guide.test.ts'), forVitest!)
  writeFileSync(join(folder, 'vitest.config.mjs'), 'export default {}\n')
  const { status, output } = run('node_modules/vitest/vitest.mjs', 'run', '--root', folder)
  expect(output).toMatch(/2 passed/)
  expect(status).toBe(0)
})

test('the example for node:test', () => {
  const file = join(folder, 'guide-node.mts')
  writeFileSync(file, forNode!)
  const { status, output } = run('--import', 'tsx', '--test', '--test-reporter', 'tap', file)
  expect(output).toMatch(/^# pass 1$/m)
  expect(output).toMatch(/^# skipped 0$/m)
  expect(status).toBe(0)
})
