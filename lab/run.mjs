// @ts-check
// npm run lab -- [options] <command...>: runs a command in an emulated machine whose /dev/kvm has hardware
// semantics, as if it ran here. docs/lab.md describes it.
import { mkdirSync } from 'node:fs'
import { constants } from 'node:os'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { commandScript } from './command-script.mjs'
import { EXIT_LAB_FAILED, runInMachine, TimeLimitError } from './session.mjs'
import { startSvmMachine } from './svm.mjs'
import { startVmxMachine } from './vmx.mjs'

const USAGE = `usage: npm run lab -- [options] <command> [arguments]
  --timeout SECONDS     for the whole run (default 600)
  --machine svm|vmx     AMD SVM in QEMU (default), or Intel VMX in Bochs
  --cpus N              its processors (default: svm 2, vmx 1)
  --threads HOW         whether svm's processors take turns (single, default), or run at once (multi):
                        quicker, but now and then code that changes meanwhile is run as it was
  --memory MIB          its memory (default: svm 4096, vmx 1024)
  --modules A,B         more kernel modules to load
  --append TEXT         more of its kernel's command line
  --out DIR             a folder mounted writable at /lab/out
  --keep-console FILE   keep what the machine's kernel printed
  --life SECONDS        without a sign of life, after which it counts as dead (default 90)
The command's exit status is the result; 124: time limit; 125: the lab failed.`

/** Exit statuses of our own, as timeout(1) and others use them. */
const EXIT_TIMED_OUT = 124

/** @type {Record<string, { type: 'string', default?: string }>} */
const OPTIONS = {
  timeout: { type: 'string', default: '600' },
  machine: { type: 'string', default: 'svm' },
  cpus: { type: 'string' },
  threads: { type: 'string', default: 'single' },
  memory: { type: 'string' },
  modules: { type: 'string', default: '' },
  append: { type: 'string', default: '' },
  out: { type: 'string' },
  'keep-console': { type: 'string' },
  life: { type: 'string' },
}

const MACHINES = { svm: startSvmMachine, vmx: startVmxMachine }

/** Why the arguments cannot be understood. */
class UsageError extends Error {}

/** A signal asked us to end. */
class Interrupted extends Error {
  /** @param {number} signalNumber */
  constructor(signalNumber) {
    super(`signal ${signalNumber}`)
    this.signalNumber = signalNumber
  }
}

/**
 * Our options end where the command starts: its own options are not ours.
 *
 * @param {string[]} args
 */
function splitArguments(args) {
  let at = 0
  while (args[at]?.startsWith('--') && args[at] !== '--') at += args[at]?.includes('=') ? 1 : 2
  const command = args.slice(args[at] === '--' ? at + 1 : at)
  if (command.length === 0) throw new UsageError('no command')
  return { ours: args.slice(0, at), command }
}

/** @param {string} name @param {string | undefined} text */
function positiveNumber(name, text) {
  const number = Number(text)
  if (Number.isFinite(number) && number > 0) return number
  throw new UsageError(`--${name} takes a positive number, not "${text}"`)
}

/** @param {string | undefined} name */
function machineNamed(name = '') {
  if (Object.hasOwn(MACHINES, name)) return MACHINES[/** @type {keyof typeof MACHINES} */ (name)]
  throw new UsageError(`--machine is one of ${Object.keys(MACHINES).join(', ')}, not "${name}"`)
}

/** @param {string[]} args */
function parseCommandLine(args) {
  const { ours, command } = splitArguments(args)
  try {
    const { values } = parseArgs({ args: ours, options: OPTIONS })
    return { values: /** @type {Record<string, string | undefined>} */ (values), command }
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error))
  }
}

/** @param {string | undefined} text */
function threading(text) {
  if (text === 'single' || text === 'multi') return text
  throw new UsageError(`--threads is single or multi, not "${text}"`)
}

/** @param {string} path */
function ensureFolder(path) {
  mkdirSync(path, { recursive: true })
  return resolve(path)
}

/** @param {string[]} args @param {AbortSignal} signal */
async function run(args, signal) {
  const { values, command } = parseCommandLine(args)
  return runInMachine(machineNamed(values.machine), {
    signal,
    commandScript: commandScript({
      command,
      directory: process.cwd(),
      environment: { ...process.env, LAB: values.machine },
    }),
    timeoutMs: positiveNumber('timeout', values.timeout) * 1000,
    lifeSeconds: values.life === undefined ? undefined : positiveNumber('life', values.life),
    cpus: values.cpus === undefined ? undefined : positiveNumber('cpus', values.cpus),
    threads: threading(values.threads),
    memoryMib: values.memory === undefined ? undefined : positiveNumber('memory', values.memory),
    append: values.append ?? '',
    modules: (values.modules ?? '').split(',').filter(Boolean),
    out: values.out === undefined ? undefined : ensureFolder(values.out),
    consoleFile: values['keep-console'] && resolve(values['keep-console']),
  })
}

/** @param {unknown} error */
function report(error) {
  if (error instanceof Interrupted) return 128 + error.signalNumber
  const message = error instanceof Error ? error.message : String(error)
  process.stderr.write(`lab: ${message}\n`)
  if (error instanceof UsageError) process.stderr.write(`${USAGE}\n`)
  return error instanceof TimeLimitError ? EXIT_TIMED_OUT : EXIT_LAB_FAILED
}

const interruption = new AbortController()
for (const signal of /** @type {const} */ (['SIGHUP', 'SIGINT', 'SIGTERM']))
  process.once(signal, () => interruption.abort(new Interrupted(constants.signals[signal])))

process.exitCode = await run(process.argv.slice(2), interruption.signal).catch(report)
