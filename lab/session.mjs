// @ts-check
// Runs one command in a machine from start to end: passes its output on, keeps the time limit, and tells a
// command that failed from a machine that did.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createEndMark, EndMarkFilter } from './end-mark.mjs'

/** The machine did not bring an exit status; the message says what is known. */
export class MachineError extends Error {
  /** @param {string} message @param {{ timedOut: boolean }} details */
  constructor(message, { timedOut }) {
    super(message)
    this.name = 'MachineError'
    /** Whether the time limit ended it. */
    this.timedOut = timedOut
  }
}

const TAIL_LINES = 30

/** @param {string} title @param {string} path */
function tailOf(title, path) {
  let text = ''
  try {
    text = readFileSync(path, 'utf8')
  } catch {
    // Never written: the machine did not get that far.
  }
  const lines = text.trimEnd().split(/\r*\n/).slice(-TAIL_LINES)
  return text.trim() === '' ? [] : [`--- ${title}`, ...lines, '---']
}

/**
 * Passes a stream on as fast as its reader takes it, until the end mark.
 *
 * @param {import('node:stream').Readable} source
 * @param {import('node:stream').Writable} destination
 * @param {string} endMark
 * @returns {Promise<number>} the exit status
 */
function relayUntilEndMark(source, destination, endMark) {
  const filter = new EndMarkFilter(endMark)
  return new Promise((resolve, reject) => {
    destination.on('error', reject)
    source.on('data', (chunk) => {
      if (!destination.write(filter.push(chunk))) {
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
 * Runs a command in a machine; its output goes to our own standard streams as it comes.
 *
 * @param {(options: import('./svm.mjs').MachineOptions) => import('./svm.mjs').Machine} startMachine
 * @param {Omit<import('./svm.mjs').MachineOptions, 'folder' | 'endMark' | 'consoleFile'>
 *   & { timeoutMs: number, consoleFile?: string | undefined }} options
 * @returns {Promise<number>} the command's exit status
 * @throws {MachineError} when the machine ended, or the time was up, before the command did
 */
export async function runInMachine(startMachine, options) {
  const folder = mkdtempSync(join(tmpdir(), 'node-kvm-lab-'))
  const consoleFile = options.consoleFile ?? join(folder, 'console')
  const endMark = createEndMark()
  /** @type {import('./svm.mjs').Machine | undefined} */
  let machine
  let timer
  try {
    machine = startMachine({ ...options, folder, consoleFile, endMark })
    const timeUp = new Promise((resolve) => {
      timer = setTimeout(resolve, options.timeoutMs, 'time')
    })
    const result = await Promise.race([
      Promise.all([
        relayUntilEndMark(machine.stdout, process.stdout, endMark),
        relayUntilEndMark(machine.stderr, process.stderr, endMark),
      ]),
      endOf(machine.process),
      timeUp,
    ])
    if (Array.isArray(result)) return result[0]
    const timedOut = result === 'time'
    const what = timedOut
      ? `the time limit of ${options.timeoutMs / 1000} s was reached`
      : `the machine ${result} before the command did`
    const tails = [
      ...tailOf('end of its console', consoleFile),
      ...tailOf('end of the emulator log', join(folder, 'log')),
    ]
    throw new MachineError([what, ...tails].join('\n'), { timedOut })
  } finally {
    clearTimeout(timer)
    machine?.process.kill('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  }
}
