// Every state a guest can be in, ended in every way there is: the process ends, with the right
// status, and where it lives on it has no thread too many.

import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'

const fixture = fileURLToPath(new URL('fixtures/life-cycle.mjs', import.meta.url))

/** A guest that cannot be ended is the failure looked for: it is killed after this. Generous, for
 * sanitizers on a busy machine; nothing waits for it when all is well. */
const HANG_MS = 50_000

/** With NODE_KVM_TEST_TIMES, times are told, and more than this is a failure. */
const LIMIT_MS = process.env.NODE_KVM_TEST_TIMES ? 1000 : HANG_MS

type Ending = { code: number | null; signal: NodeJS.Signals | null }
type Result = Ending & { output: string[]; errors: string; ms: number }

const exitCode = (code: number): Ending => ({ code, signal: null })
const killedBy = (signal: NodeJS.Signals): Ending => ({ code: null, signal })

/** Runs the fixture; sends `signal` when it says that it is ready. */
function live(args: string[], signal?: NodeJS.Signals): Promise<Result> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--expose-gc', fixture, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: HANG_MS,
      killSignal: 'SIGKILL',
    })
    let output = ''
    let errors = ''
    let readyAt = 0
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text
      if (readyAt !== 0 || !output.includes('ready')) return
      readyAt = performance.now()
      if (signal !== undefined) setTimeout(() => child.kill(signal), 30)
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text
    })
    child.on('error', reject)
    child.on('close', (code, by) => {
      const ms = Math.round(performance.now() - readyAt)
      if (process.env.NODE_KVM_TEST_TIMES) console.log(args.join(' '), ms, 'ms')
      resolve({ code, signal: by, output: output.split('\n').filter(Boolean), errors, ms })
    })
  })
}

type Row = readonly [state: string, way: string, ending: Ending, output: string[]]

const ready = ['ready']
const clean = ['ready', 'clean']

/** What every state with a vCPU thread must bear. */
const threadRows = (state: string): Row[] => [
  [state, 'stop', exitCode(0), clean],
  [state, 'close', exitCode(0), clean],
  [state, 'abort', exitCode(0), clean],
  [state, 'exit', exitCode(7), ready],
  [state, 'throw', exitCode(1), ready],
  [state, 'signal', killedBy('SIGTERM'), ready],
  [state, 'gc', exitCode(0), ['ready', 'runs, open']],
  [state, 'closeOthersFirst', exitCode(0), clean],
]

/** What every state of a Worker must bear. */
const workerRows = (state: string): Row[] => [
  [state, 'terminate', exitCode(0), clean],
  [state, 'exit', exitCode(7), ready],
  [state, 'throw', exitCode(1), ready],
  [state, 'signal', killedBy('SIGTERM'), ready],
]

const handlerSpinsRow: Row = ['handlerSpins', 'signal', killedBy('SIGTERM'), ready]

const mainRows: Row[] = [
  ['run', 'timeout', exitCode(0), ['ready', 'intr', 'clean']],
  ['run', 'aborted', exitCode(0), ['ready', 'AbortError', 'clean']],
  ['run', 'signal', killedBy('SIGTERM'), ready],
  ['runHalted', 'timeout', exitCode(0), ['ready', 'intr', 'clean']],
  ['runHalted', 'signal', killedBy('SIGTERM'), ready],
  ['runExiting', 'signal', killedBy('SIGTERM'), ready],
  ['runSipi', 'timeout', exitCode(0), ['ready', 'intr', 'clean']],
  ['runSipi', 'signal', killedBy('SIGTERM'), ready],
  ...['thread', 'halted', 'exiting', 'parked', 'sipi', 'paused'].flatMap(threadRows),
  ['thread', 'handledSignal', exitCode(3), ready],
  ['paused', 'handledSignal', exitCode(3), ready],
  // Without a thread the process does not wait for a signal.
  ...threadRows('notStarted').filter(([, way]) => !['abort', 'signal', 'gc'].includes(way)),
  ['notStarted', 'gc', exitCode(0), ['ready', 'no thread, closed']],
  // TSan holds a signal back until the thread calls something, and this one never does.
  ...(/libtsan/.test(process.env.LD_PRELOAD ?? '') ? [] : [handlerSpinsRow]),
  ['handlerExits', 'none', exitCode(5), ready],
  ['handlerThrows', 'none', exitCode(1), ready],
  ['handlerThrowsAlone', 'none', exitCode(1), ready],
]

const fromHandler = ['ready', 'from the handler', 'exit 1', 'clean']

const inWorkerRows: Row[] = [
  ...[
    'run',
    'runHalted',
    'runSipi',
    'runExiting',
    'thread',
    'halted',
    'exiting',
    'parked',
    'sipi',
    'paused',
    'handlerSpins',
  ].flatMap(workerRows),
  ...workerRows('notStarted').filter(([, way]) => way !== 'signal'),
  ...['run', 'thread'].flatMap((state): Row[] => [
    [state, 'handledSignal', exitCode(3), ready],
    [state, 'unref', exitCode(0), ready],
  ]),
  ...['thread', 'exiting', 'parked', 'paused'].flatMap((state): Row[] => [
    [state, 'workerExit', exitCode(0), ['ready', 'exit 5', 'clean']],
    [state, 'workerThrow', exitCode(0), ['ready', 'from the Worker', 'exit 1', 'clean']],
  ]),
  ['handlerExits', 'workerEnds', exitCode(0), ['ready', 'exit 5', 'clean']],
  ['handlerThrows', 'workerFails', exitCode(0), fromHandler],
  ['handlerThrowsAlone', 'workerFails', exitCode(0), fromHandler],
]

function check(where: string, rows: Row[]) {
  test.concurrent.each(rows)('%s, ended by %s', async (state, way, ending, output) => {
    const signal = /signal/i.test(way) ? 'SIGTERM' : undefined
    const result = await live([where, state, way], signal)
    expect(result).toMatchObject({ ...ending, output })
    if (ending.code === 0) expect(result.errors).toBe('')
    expect(result.ms).toBeLessThan(LIMIT_MS)
  })
}

describe('a guest on the main thread', () => check('main', mainRows))
describe('a guest in a Worker', () => check('worker', inWorkerRows))
