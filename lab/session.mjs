// @ts-check
// Runs one command in a machine from start to end: passes its output on, keeps the time limit, and tells a
// command that failed from a machine that did.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createEndMark, EndMarkFilter } from './end-mark.mjs'

/** Exit status of lab/run.mjs when the machine ended before the command, or could not be started. */
export const EXIT_LAB_FAILED = 125

/** The time limit was reached before the command ended. */
export class TimeLimitError extends Error {}

/** The emulator's processors locked up before the command had said anything. */
class LockupError extends Error {}

const LOCKED_UP = 'softlockup: hung tasks'

/** A machine that has given no sign of life for so long has stopped for good; they come every five seconds. */
export const LIFE_SECONDS = 90

const TAIL_LINES = 30

/** @param {string} path */
function readLog(path) {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    // Never written: the machine did not get that far.
    return ''
  }
}

/** @param {string} title @param {string} path */
function tailOf(title, path) {
  const text = readLog(path)
  const lines = text.trimEnd().split(/\r*\n/).slice(-TAIL_LINES)
  return text.trim() === '' ? [] : [`--- ${title}`, ...lines, '---']
}

/**
 * Passes a stream on as fast as its reader takes it, until the end mark.
 *
 * @param {import('node:stream').Readable} source
 * @param {import('node:stream').Writable} destination
 * @param {string} endMark
 * @param {() => void} onOutput
 * @returns {Promise<number>} the exit status
 */
function relayUntilEndMark(source, destination, endMark, onOutput) {
  const filter = new EndMarkFilter(endMark)
  return new Promise((resolve, reject) => {
    destination.on('error', reject)
    source.on('data', (chunk) => {
      const output = filter.push(chunk)
      if (output.length > 0) onOutput()
      if (!destination.write(output)) {
        source.pause()
        destination.once('drain', () => source.resume())
      }
      if (filter.status !== undefined) resolve(filter.status)
    })
  })
}

/**
 * @param {import('node:child_process').ChildProcess} process
 * @returns {Promise<string>} how it ended
 */
function endOf(process) {
  return new Promise((resolve) => {
    process.once('error', (error) => resolve(`did not start: ${error.message}`))
    process.once('exit', (code, signal) => resolve(`ended (${signal ?? `status ${code}`})`))
  })
}

/**
 * Waits until a machine has given no sign of life for so many turns of a second: whoever stops us stops the
 * machine too, and that time does not count. Its start may always take {@link LIFE_SECONDS}.
 *
 * @param {import('node:stream').Readable | undefined} life
 * @param {number} seconds
 * @param {AbortSignal} ended
 * @returns {Promise<void>}
 */
function silenceOf(life, seconds, ended) {
  return new Promise((resolve) => {
    if (life === undefined) return
    let left = Math.max(seconds, LIFE_SECONDS)
    life.on('data', () => {
      left = seconds
    })
    const timer = setInterval(() => --left < 0 && resolve(), 1000)
    ended.addEventListener('abort', () => clearInterval(timer))
  })
}

/** @param {AbortSignal} signal */
const aborted = (signal) => new Promise((resolve) => signal.addEventListener('abort', resolve))

/**
 * @param {string} reason
 * @param {string} folder
 * @param {string} consoleFile
 */
const describeFailure = (reason, folder, consoleFile) =>
  [
    reason,
    ...tailOf('end of its console', consoleFile),
    ...tailOf('end of the emulator log', join(folder, 'log')),
  ].join('\n')

/**
 * Runs a command in a machine; its output goes to our own standard streams as it comes. A machine that
 * locks up before the command has said anything is started again, once.
 * `lifeSeconds` is {@link LIFE_SECONDS} unless said.
 *
 * @param {(options: import('./machine.mjs').MachineOptions) => import('./machine.mjs').Machine} startMachine
 * @param {Omit<import('./machine.mjs').MachineOptions, 'folder' | 'endMark' | 'consoleFile'>
 *   & { timeoutMs: number, lifeSeconds?: number | undefined, consoleFile?: string | undefined,
 *   signal: AbortSignal }} options
 * @returns {Promise<number>} the command's exit status
 * @throws {TimeLimitError}
 * @throws {Error} when the machine ended before the command did, or could not start; or the signal's reason
 */
export async function runInMachine(startMachine, options) {
  try {
    return await runOnce(startMachine, options)
  } catch (error) {
    if (!(error instanceof LockupError)) throw error
    process.stderr.write(`lab: ${error.message}\nlab: it locked up, and is started again\n`)
    return runOnce(startMachine, options)
  }
}

/** @type {typeof runInMachine} */
async function runOnce(startMachine, options) {
  const { lifeSeconds = LIFE_SECONDS } = options
  const folder = mkdtempSync(join(tmpdir(), 'node-kvm-lab-'))
  const consoleFile = options.consoleFile ?? join(folder, 'console')
  const endMark = createEndMark()
  const timeLimit = new AbortController()
  const ended = new AbortController()
  /** @type {NodeJS.Timeout | undefined} */
  let timer
  /** @type {import('./machine.mjs').Machine | undefined} */
  let machine
  let hasOutput = false
  const onOutput = () => {
    hasOutput = true
  }
  /** @param {string} reason @param {boolean} isLockup @returns {never} */
  const fail = (reason, isLockup) => {
    const text = describeFailure(reason, folder, consoleFile)
    throw isLockup && !hasOutput ? new LockupError(text) : new Error(text)
  }
  try {
    machine = startMachine({ ...options, folder, consoleFile, endMark })
    timer = setTimeout(() => timeLimit.abort(), options.timeoutMs)
    const [status] = await Promise.race([
      Promise.all([
        relayUntilEndMark(machine.stdout, process.stdout, endMark, onOutput),
        relayUntilEndMark(machine.stderr, process.stderr, endMark, onOutput),
      ]),
      endOf(machine.process).then((end) =>
        fail(`the machine ${end} before the command did`, readLog(consoleFile).includes(LOCKED_UP)),
      ),
      silenceOf(machine.life, lifeSeconds, ended.signal).then(async () => {
        const where = (await machine?.whereProcessorsAre?.()) || 'its emulator does not answer'
        fail(`the machine gave no sign of life for ${lifeSeconds} s\n${where}`, true)
      }),
      aborted(timeLimit.signal).then(() => {
        const reason = `the time limit of ${options.timeoutMs / 1000} s was reached`
        throw new TimeLimitError(describeFailure(reason, folder, consoleFile))
      }),
      aborted(options.signal).then(() => {
        throw options.signal.reason
      }),
    ])
    machine.collectOut?.()
    return status
  } finally {
    clearTimeout(timer)
    ended.abort()
    machine?.process.kill('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  }
}
