// `node-kvm check`, as a user starts it.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { CheckResult } from '../../src/testing/checks/run-checks.js'

const MAIN = join(import.meta.dirname, '..', '..', 'lib', 'cli', 'main.cjs')

function check(...args: string[]) {
  const options = { encoding: 'utf8', maxBuffer: 1 << 24 } as const
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, 'check', ...args], options)
  return { status, stdout, stderr }
}

test('prints what is as expected only if asked', () => {
  const few = check('--only', 'BSWAP')
  expect(few).toMatchObject({ status: 0, stderr: '' })
  expect(few.stdout).toMatch(
    /^arithmetic: 6 of 6 as expected\n\n(?:\w+: .*\n)*6 as expected, 0 deviate, 0 not here\n$/,
  )
  expect(few.stdout).toMatch(/^(hardware|native|interpreted): .*\bprotected 3\b/m)
  expect(check('--only', 'bswap', '--all').stdout).toMatch(/^ {2}ok +long, ring 3 +BSWAP reverses/m)
})

test('text, JSON and JUnit tell the same, and the status says whether anything deviates', () => {
  const folder = mkdtempSync(join(tmpdir(), 'node-kvm-check-'))
  try {
    const file = join(folder, 'results.xml')
    const { status, stdout } = check('--only', 'exceptions', '--json', '--junit', file)
    const results = JSON.parse(stdout) as CheckResult[]
    const deviating = results.filter((result) => result.status === 'deviates').length
    expect(results.length).toBeGreaterThan(30)
    expect(status).toBe(deviating > 0 ? 1 : 0)
    const xml = readFileSync(file, 'utf8')
    expect(xml).toContain(`tests="${results.length}" failures="${deviating}"`)
    expect(xml.match(/<failure /g) ?? []).toHaveLength(deviating)
    expect(check('--only', 'exceptions').stdout).toContain(`, ${deviating} deviate, `)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('a wrong option is refused with the help', () => {
  const { status, stderr } = check('--pizza')
  expect(status).toBe(2)
  expect(stderr).toContain('Usage: node-kvm check')
})

test('that no check was run is no success', () => {
  const { status, stdout, stderr } = check('--only', 'no such check')
  expect({ status, stdout, stderr }).toEqual({
    status: 2,
    stdout: '',
    stderr: "no check contains 'no such check'\n",
  })
})

test('features are shown with what their instructions did', () => {
  const { status, stdout } = check('--features', '--only', 'sse2', '--json')
  expect(status).toBe(0)
  expect(JSON.parse(stdout)).toMatchObject([
    { feature: 'sse2', ring: 0, supported: true },
    { feature: 'sse2', ring: 3, supported: true, shown: 'works', hidden: 'works' },
  ])
  const table = check('--features', '--only', 'cx16').stdout
  expect(table).toMatch(/^feature +ring +KVM supports it +shown +hidden$/m)
  expect(table).toMatch(/^cx16 +3 +/m)
})
