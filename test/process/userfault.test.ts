// Whoever waits for a page is let go, whatever ends meanwhile: child processes, since the failure
// looked for is a process that hangs.

import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { beforeEach, expect, test } from 'vitest'
import { Userfault } from '../../src/index.js'

const fixture = fileURLToPath(new URL('fixtures/userfault.mjs', import.meta.url))
/** Generous, for sanitizers on a busy machine; nothing waits for it when all is well. */
const HANG_MS = 50_000

interface Result {
  code: number | null
  signal: NodeJS.Signals | null
  lines: string[]
  errors: string
}

function run(name: string): Promise<Result> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [fixture, name], {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: HANG_MS,
      killSignal: 'SIGKILL',
    })
    let output = ''
    let errors = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text
    })
    child.on('error', reject)
    child.on('close', (code, signal) => {
      resolve({ code, signal, lines: output.split('\n').filter(Boolean), errors })
    })
  })
}

beforeEach((context) => {
  if (Userfault.support() === undefined) context.skip('this process may not use userfaultfd')
})

const lost = 'ERR_KVM_PAGE_LOST'
test.each([
  ['view', 0, ['read 0', 'wrote 8192', `${lost} 1`, `${lost} 2`, `${lost} 3`, 'end']],
  ['exit', 7, []],
  ['stop', 0, ['end']],
  ['closeOrders', 0, ['end']],
  ['ownWorker', 0, ['end']],
  ['ownWorkerExits', 0, ['end']],
  ['server', 0, ['end']],
  ['client', 0, ['end']],
  ['slots', 0, ['both', 'end']],
] as const)('%s', async (name, code, lines) => {
  expect(await run(name)).toEqual({ code, signal: null, lines, errors: '' })
})

test('an error of the application ends the process', async () => {
  const { code, errors } = await run('throw')
  expect(code).toBe(1)
  expect(errors).toContain('uncaught')
})

test('a signal ends the process', async () => {
  expect(await run('signal')).toMatchObject({ code: null, signal: 'SIGTERM' })
})

test('a page that is lost and that nobody listens to ends the process', async () => {
  const { code, errors } = await run('unheard')
  expect(code).toBe(1)
  expect(errors).toContain(lost)
  expect(errors).toContain('no page')
})
