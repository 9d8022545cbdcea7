// @ts-check
// npm run test:lab:kvm -- [--all] [--trace] [--report FILE] [NAME...]: the KVM tests, the same files as
// on the host, in the emulated machine.
//   --all       every file, not only those for CI
//   --trace     under strace; what the kernel answered goes into docs/api-answers.json
//   --report    where the counts go
//   --timeout   seconds for a machine's run; 1200 unless said, 3600 with --trace
//   NAME        the beginning of a file in test/kvm: only these
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { EXIT_LAB_FAILED } from './session.mjs'

/** What CI runs: short, and in one machine, since the emulator does not always live through them all. */
const FOR_CI = [
  'exits-complete-io',
  'irq-apic',
  'irq-async-pf',
  'irq-delivery',
  'irq-guide',
  'irq-pv',
  'machine',
  'memory-pages',
  'memory-slots',
  'memory-tracking',
  'memory-translate',
  'misuse-order',
  'misuse-slots',
  'round-trips',
  'run-in-turn',
  'state-vcpu',
  'testing-channel',
  'testing-cpus',
  'testing-guest',
  'testing-pages',
  'thread-handlers',
  'thread-pause',
  'vcpu-cpuid-msrs',
  'vcpu-registers',
  'vm-capabilities',
  'vm-clock',
  'vm-dirty',
  'vm-irqchip',
]
/** How often what takes many rounds goes round, unless said: each exit is ten times dearer there. */
const ROUNDS = { NODE_KVM_ROUNDS: '300', STATE_POINTS: '20', HOSTILE_ROUNDS: '2' }
const FILES_IN_ONE_MACHINE = 30
const SECONDS = 1200
const SECONDS_TRACED = 3600
/** Room for a page of 1 GiB, which only a kernel that has just started is sure to find. */
const MACHINE = ['--memory', '5120', '--append', 'hugepagesz=1G hugepages=1']

/** @typedef {import('../tools/count-reporter.mjs').Counts} Counts */
/** @type {Counts} */
const NONE = { passed: 0, failed: 0, skipped: [], files: [], died: 0 }

const root = join(import.meta.dirname, '..')
const { values: options, positionals: names } = parseArgs({
  allowPositionals: true,
  options: {
    all: { type: 'boolean', default: false },
    trace: { type: 'boolean', default: false },
    report: { type: 'string' },
    timeout: { type: 'string' },
  },
})

/** The files to run, of those that the host compiled. */
function files() {
  const all = readdirSync(join(root, 'test/kvm')).filter((file) => file.endsWith('.test.ts'))
  const isChosen = (/** @type {string} */ file) =>
    names.length > 0
      ? names.some((name) => file.startsWith(name))
      : options.all || FOR_CI.some((name) => file === `${name}.test.ts`)
  return all.filter(isChosen).map((file) => `test/kvm/${file}`)
}

/** Has vitest transform the files here: it keeps the result, and a compiler is slow in there. */
function transformFiles() {
  const vitest = join(root, 'node_modules/vitest/vitest.mjs')
  const env = { ...process.env, LAB: 'svm' }
  // Without /dev/kvm here some files cannot be listed; they are transformed by then.
  spawnSync(process.execPath, [vitest, 'list', ...files()], { cwd: root, env, stdio: 'ignore' })
}

const run = (/** @type {string} */ script, /** @type {string[]} */ ...args) =>
  spawnSync(process.execPath, [join(root, script), ...args], {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
  }).status ?? 1

/**
 * Runs files in a machine of their own.
 *
 * @param {string[]} chosen
 * @returns {{ status: number, counts: Counts }}
 */
function runFiles(chosen) {
  const out = mkdtempSync(join(tmpdir(), 'node-kvm-lab-'))
  try {
    const vitest = ['node_modules/.bin/vitest', 'run', ...chosen]
    const trace = ['node', 'tools/trace-ioctls.mjs', 'lab', '--into', '/lab/out/answers.json', '--']
    const command = [...(options.trace ? trace : []), ...vitest]
    const limit = options.timeout ?? (options.trace ? SECONDS_TRACED : SECONDS)
    const status = run(
      'lab/run.mjs',
      ...MACHINE,
      '--timeout',
      `${limit}`,
      '--out',
      out,
      '--',
      ...command,
    )
    const answers = join(out, 'answers.json')
    if (existsSync(answers)) run('tools/trace-ioctls.mjs', 'lab', '--merge', answers)
    const counts = join(out, 'counts.json')
    return { status, counts: existsSync(counts) ? JSON.parse(readFileSync(counts, 'utf8')) : NONE }
  } finally {
    rmSync(out, { recursive: true })
  }
}

/** @param {Counts} a @param {Counts} b @returns {Counts} */
const sum = (a, b) => ({
  passed: a.passed + b.passed,
  failed: a.failed + b.failed,
  skipped: [...a.skipped, ...b.skipped],
  files: [...a.files, ...b.files],
  died: a.died + b.died,
})

/**
 * The emulated machine, or a process in it, dies now and then (docs/lab.md). What a test found stands;
 * files that did not come to their end run in a new machine, once.
 *
 * @param {string[]} chosen
 * @returns {{ status: number, counts: Counts }}
 */
function runSurely(chosen) {
  const { status, counts } = runFiles(chosen)
  const left = chosen.filter((file) => !counts.files.includes(file))
  const machineDied = counts.died > 0 || status === EXIT_LAB_FAILED
  if (left.length === 0 || counts.failed > 0 || !machineDied) return { status, counts }
  console.log(`the emulated machine, or a process in it, died; again: ${left.join(' ')}`)
  const again = runFiles(left)
  return {
    status: again.status,
    counts: { ...sum(counts, again.counts), died: again.counts.died },
  }
}

transformFiles()
Object.assign(process.env, { ...ROUNDS, ...process.env, NODE_KVM_COUNTS: '/lab/out/counts.json' })
const chosen = files()
let counts = NONE
for (let at = 0; at < chosen.length; at += FILES_IN_ONE_MACHINE) {
  const result = runSurely(chosen.slice(at, at + FILES_IN_ONE_MACHINE))
  process.exitCode ||= result.status
  counts = sum(counts, result.counts)
}
if (options.report) writeFileSync(options.report, JSON.stringify(counts))
