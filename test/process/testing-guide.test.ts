// The examples of docs/testing.md, run as a reader would run them: whole files as they stand, pieces in
// a test of their own. And what CI systems get of a test that fails.

import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const root = join(import.meta.dirname, '..', '..')
const folder = mkdtempSync(join(root, 'build', 'guide-'))
const guide = readFileSync(join(root, 'docs', 'testing.md'), 'utf8')
const blocks = [...guide.matchAll(/```ts\n([\s\S]*?)```/g)].map((match) => match[1]!)
const forNode = blocks.filter((block) => block.includes("'node:test'"))
const forVitest = blocks.filter((block) => !forNode.includes(block))

const IMPORTS = `import { asm, guest } from 'node-kvm/testing'
import 'node-kvm/testing/vitest'
import { expect, test } from 'vitest'
`
const asFile = (block: string) =>
  block.startsWith('import') ? block : `${IMPORTS}test('piece', async () => {\n${block}})\n`

beforeAll(() => writeFileSync(join(folder, 'vitest.config.mjs'), 'export default {}\n'))
afterAll(() => rmSync(folder, { recursive: true }))

/** What some runs have in their environment besides. */
let more: NodeJS.ProcessEnv = {}

function run(...args: string[]) {
  const env = { ...process.env, ...more }
  // Otherwise the runner takes itself for a worker of this one.
  for (const name of Object.keys(env)) if (/^VITEST|^NODE_TEST/.test(name)) delete env[name]
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: root,
    encoding: 'utf8',
    env,
  })
  return { status, output: stdout + stderr }
}

const VITEST = ['node_modules/vitest/vitest.mjs', 'run', '--root', folder]
const vitest = (...args: string[]) => run(...VITEST, ...args)

test('the examples for vitest', () => {
  for (const [i, block] of forVitest.entries()) {
    writeFileSync(join(folder, `guide${i}.test.ts`), asFile(block))
  }
  const { status, output } = vitest('guide')
  expect(forVitest.length).toBeGreaterThanOrEqual(7)
  expect(output).toMatch(new RegExp(`Test Files .*${forVitest.length} passed`))
  expect(status).toBe(0)
})

test('the examples for node:test', () => {
  const file = join(folder, 'guide-node.mts')
  writeFileSync(file, forNode.join('\n'))
  const { status, output } = run('--import', 'tsx', '--test', '--test-reporter', 'tap', file)
  expect(output).toMatch(/^# pass 1$/m)
  expect(output).toMatch(/^# skipped 0$/m)
  expect(status).toBe(0)
})

describe('what the machine lacks', () => {
  const reason = 'this KVM lacks KVM_CAP_ARM_SVE'
  const body = `{ if (!requires(t, 'KVM_CAP_ARM_SVE')) return\nthrow new Error('went on') })\n`
  const results = (...args: string[]) => {
    const skipped = run(...args)
    more = { NODE_KVM_REQUIRE_ALL: '1' }
    const failed = run(...args)
    more = {}
    return { skipped, failed }
  }

  test('skips a test of vitest, and fails it where nothing may be missing', () => {
    const imports = `import { requires } from 'node-kvm/testing'\nimport { test } from 'vitest'\n`
    writeFileSync(join(folder, 'lacking.test.ts'), `${imports}test('lacks', (t) => ${body}`)
    const { skipped, failed } = results(...VITEST, 'lacking')
    expect(skipped.output).toMatch(/Tests .*1 skipped/)
    expect(skipped.output).not.toContain('went on')
    expect(skipped.status).toBe(0)
    expect(failed.output).toContain(reason)
    expect(failed.status).toBe(1)
  })

  test('skips a test of node:test, with the reason', () => {
    const file = join(folder, 'lacking-node.mts')
    const imports = `import { requires } from 'node-kvm/testing'\nimport { test } from 'node:test'\n`
    writeFileSync(file, `${imports}test('lacks', (t) => ${body}`)
    const { skipped, failed } = results('--import', 'tsx', '--test', '--test-reporter', 'tap', file)
    expect(skipped.output).toMatch(new RegExp(`^ok 1 - lacks # SKIP ${reason}$`, 'm'))
    expect(skipped.status).toBe(0)
    expect(failed.output).toContain(reason)
    expect(failed.status).toBe(1)
  })
})

describe('a failure, as CI systems get it', () => {
  const body = `using g = await guest()\nconst outcome = g.run(asm\`mov eax, 5; ud2\`)\n`
  const shown = /expected the guest to come to its end, but the guest raised[\s\S]*ud2[\s\S]*rax/

  test('from vitest', () => {
    const source = `${IMPORTS}test('fails', async () => {\n${body}expect(outcome).toFinish()\n})\n`
    writeFileSync(join(folder, 'failing.test.ts'), source)
    const { status, output } = vitest('failing', '--reporter=junit')
    expect(output).toMatch(/<testcase [^>]*name="fails"[\s\S]*<failure/)
    expect(output).toMatch(shown)
    expect(status).toBe(1)
  })

  test('from node:test', () => {
    const file = join(folder, 'failing-node.mts')
    const imports = `import { test } from 'node:test'\nimport { asm, assertOutcome, guest } from 'node-kvm/testing'\n`
    writeFileSync(
      file,
      `${imports}test('fails', async () => {\n${body}assertOutcome(outcome).toFinish()\n})\n`,
    )
    const { status, output } = run('--import', 'tsx', '--test', '--test-reporter', 'junit', file)
    expect(output).toMatch(/<testcase name="fails"[\s\S]*<failure/)
    expect(output).toMatch(shown)
    expect(status).toBe(1)
  })
})
