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
 *
 * @param {(options: import('./machine.mjs').MachineOptions) => import('./machine.mjs').Machine} startMachine
 * @param {Omit<import('./machine.mjs').MachineOptions, 'folder' | 'endMark' | 'consoleFile'>
 *   & { timeoutMs: number, consoleFile?: string | undefined, signal: AbortSignal }} options
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
  const folder = mkdtempSync(join(tmpdir(), 'node-kvm-lab-'))
  const consoleFile = options.consoleFile ?? join(folder, 'console')
  const endMark = createEndMark()
  const timeLimit = new AbortController()
  /** @type {NodeJS.Timeout | undefined} */
  let timer
  /** @type {import('./machine.mjs').Machine | undefined} */
  let machine
  let hasOutput = false
  const onOutput = () => {
    hasOutput = true
  }
  try {
    machine = startMachine({ ...options, folder, consoleFile, endMark })
    timer = setTimeout(() => timeLimit.abort(), options.timeoutMs)
    const [status] = await Promise.race([
      Promise.all([
        relayUntilEndMark(machine.stdout, process.stdout, endMark, onOutput),
        relayUntilEndMark(machine.stderr, process.stderr, endMark, onOutput),
      ]),
      endOf(machine.process).then((end) => {
        const reason = `the machine ${end} before the command did`
        const isLockup = !hasOutput && readLog(consoleFile).includes(LOCKED_UP)
        const text = describeFailure(reason, folder, consoleFile)
        throw isLockup ? new LockupError(text) : new Error(text)
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
    machine?.process.kill('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  }
}
