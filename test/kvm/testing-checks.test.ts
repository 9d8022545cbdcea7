// The packaged feature tests on this machine: each can be run, and what deviates is found by what the
// guest did. Which deviate is the machine's affair; where the processor runs the guest, few may.
import { describe, expect, test } from 'vitest'
import type { FeatureCheck } from '../../src/testing/checks/check.js'
import {
  CHECKS,
  type CheckResult,
  runCheck,
  runChecks,
} from '../../src/testing/checks/run-checks.js'
import { asm, missing } from '../../src/testing/index.js'

const RING0 = { mode: 'long', ring: 0 } as const
const check = (code: FeatureCheck['code'], expect: FeatureCheck['expect']): FeatureCheck => ({
  name: 'of the test',
  source: 'none',
  places: [RING0],
  code,
  expect,
})

test('there are many, each with its own name and its place in the manuals', () => {
  const all = CHECKS.flatMap(({ checks }) => checks)
  expect(all.length).toBeGreaterThanOrEqual(150)
  expect(new Set(all.map(({ name }) => name)).size).toBe(all.length)
  for (const { source } of all) expect(source).toMatch(/^(SDM vol|APM vol|KVM API)/)
})

test('every one gives a result', async () => {
  const results: CheckResult[] = []
  for await (const result of runChecks()) results.push(result)
  expect(results.filter(({ found }) => found.startsWith('no guest'))).toEqual([])
  const deviating = results.filter(({ status }) => status === 'deviates')
  if (missing('engine:hardware') === undefined) {
    expect(deviating.length).toBeLessThan(results.length / 10)
  }
  expect(results.filter(({ status }) => status === 'as expected').length).toBeGreaterThan(200)
}, 120_000)

describe('a check finds', () => {
  test.each([
    ['another exception', asm`ud2`, { raises: '#GP' }, '#UD at 0x8000'],
    ['no exception', asm`nop`, { raises: '#GP' }, 'the end'],
    [
      'another error code',
      asm`mov ax, 0x1238; mov ds, ax`,
      { raises: '#GP', errorCode: 0 },
      '#GP, error code 0x1238',
    ],
    ['another place', asm`nop; ud2`, { raises: '#UD', at: 0 }, '#UD, at 0x8001'],
    ['another value', asm`mov eax, 2; out 0xe2, eax`, { values: [1] }, 'the end, values 0x2'],
    ['another register', asm`mov ebx, 2`, { state: { rbx: 1n } }, 'the end, rbx 0x2'],
    ['an exit', asm`in al, 0x10`, {}, 'exit io at 0x8000'],
  ] as const)('%s', async (_, code, expectation, found) => {
    const result = await runCheck('test', check(code, expectation), RING0)
    expect(result).toMatchObject({ status: 'deviates', found })
  })

  test('no end', async () => {
    expect((await runCheck('test', check(asm`jmp $`, {}), RING0)).found).toBe('no end, at 0x8000')
  })

  test('what cannot be asked', async () => {
    const wanted = { ...check(asm`nop`, {}), requires: ['processor:no_such_flag'] as const }
    const result = await runCheck('test', wanted, RING0)
    expect(result).toMatchObject({ status: 'not here', found: 'the processor lacks no_such_flag' })
  })
})
