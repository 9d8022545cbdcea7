// Every state a guest can be in, ended in every way there is: the process ends, with the right
// status, and where it lives on it has no thread too many.

import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'

const fixture = fileURLToPath(new URL('fixtures/life-cycle.mjs', import.meta.url))

/** A guest that cannot be ended is the failure looked for: it is killed after this. Generous, for
 * sanitizers on a busy machine; nothing waits for it when all is well. */
const HANG_MS = 50_000

type Ending = { code: number | null; signal: NodeJS.Signals | null }
type Result = Ending & { output: string[]; errors: string }

const exitCode = (code: number): Ending => ({ code, signal: null })
const killedBy = (signal: NodeJS.Signals): Ending => ({ code: null, signal })

/** Runs the fixture; sends `signal` when it says that it is ready. */
function live(args: string[], signal?: NodeJS.Signals): Promise<Result> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [fixture, ...args], {
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
      if (signal !== undefined) setTimeout(() => child.kill(signal), 100)
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text
    })
    child.on('error', reject)
    child.on('close', (code, by) => {
      if (process.env.NODE_KVM_TEST_TIMES) {
        console.log(args.join(' '), Math.round(performance.now() - readyAt), 'ms')
      }
      resolve({ code, signal: by, output: output.split('\n').filter(Boolean), errors })
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
  [state, 'handledSignal', exitCode(3), ready],
]

/** What every state of a Worker must bear. */
const workerRows = (state: string): Row[] => [
  [state, 'terminate', exitCode(0), clean],
  [state, 'exit', exitCode(7), ready],
  [state, 'throw', exitCode(1), ready],
  [state, 'signal', killedBy('SIGTERM'), ready],
  [state, 'handledSignal', exitCode(3), ready],
  [state, 'unref', exitCode(0), ready],
]

const handlerSpinsRow: Row = ['handlerSpins', 'signal', killedBy('SIGTERM'), ready]

const mainRows: Row[] = [
  ['run', 'timeout', exitCode(0), ['ready', 'intr', 'clean']],
  ['run', 'aborted', exitCode(0), ['ready', 'AbortError', 'clean']],
  ['run', 'signal', killedBy('SIGTERM'), ready],
  ['runHalted', 'timeout', exitCode(0), ['ready', 'intr', 'clean']],
  ['runHalted', 'signal', killedBy('SIGTERM'), ready],
  ['runExiting', 'signal', killedBy('SIGTERM'), ready],
  ...['thread', 'halted', 'exiting', 'parked'].flatMap(threadRows),
  // TSan holds a signal back until the thread calls something, and this one never does.
  ...(/libtsan/.test(process.env.LD_PRELOAD ?? '') ? [] : [handlerSpinsRow]),
  ['handlerExits', 'none', exitCode(5), ready],
  ['handlerThrows', 'none', exitCode(1), ready],
]

const inWorkerRows: Row[] = [
  ...[
    'run',
    'runHalted',
    'runExiting',
    'thread',
    'halted',
    'exiting',
    'parked',
    'handlerSpins',
  ].flatMap(workerRows),
  ...['thread', 'halted', 'exiting', 'parked'].flatMap((state): Row[] => [
    [state, 'workerExit', exitCode(0), ['ready', 'exit 5', 'clean']],
    [state, 'workerThrow', exitCode(0), ['ready', 'from the Worker', 'exit 1', 'clean']],
  ]),
  ['handlerExits', 'workerEnds', exitCode(0), ['ready', 'exit 5', 'clean']],
]

function check(where: string, rows: Row[]) {
  test.concurrent.each(rows)('%s, ended by %s', async (state, way, ending, output) => {
    const signal = /signal/i.test(way) ? 'SIGTERM' : undefined
    const result = await live([where, state, way], signal)
    expect(result).toMatchObject({ ...ending, output })
    if (ending.code === 0) expect(result.errors).toBe('')
  })
}

describe('a guest on the main thread', () => check('main', mainRows))
describe('a guest in a Worker', () => check('worker', inWorkerRows))
