// @ts-check
// npm run test:lab:kvm -- [--all] [--trace] [--report FILE] [NAME...]: the KVM tests, the same files as
// on the host, in the emulated machine.
//   --all       every file, not only those for CI
//   --trace     under strace; what the kernel answered goes into docs/api-answers.json
//   --report    where the counts go
//   NAME        the beginning of a file in test/kvm: only these
import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'

/** What CI runs: short, and in one machine, since the emulator does not always live through them all. */
const FOR_CI = [
  'exits-complete-io',
  'irq-apic',
  'irq-delivery',
  'irq-pv',
  'machine',
  'misuse-order',
  'misuse-slots',
  'round-trips',
  'run-in-turn',
  'state-vcpu',
  'testing-guest',
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
const ROUNDS = { NODE_KVM_ROUNDS: '300', STATE_POINTS: '20' }
const SECONDS = 1200
const SECONDS_ALL = 3600

const root = join(import.meta.dirname, '..')
const { values: options, positionals: names } = parseArgs({
  allowPositionals: true,
  options: {
    all: { type: 'boolean', default: false },
    trace: { type: 'boolean', default: false },
    report: { type: 'string' },
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

const out = mkdtempSync(join(tmpdir(), 'node-kvm-lab-'))
try {
  transformFiles()
  const vitest = ['node_modules/.bin/vitest', 'run', ...files()]
  const trace = ['node', 'tools/trace-ioctls.mjs', 'lab', '--into', '/lab/out/answers.json', '--']
  Object.assign(process.env, { ...ROUNDS, ...process.env })
  process.env.NODE_KVM_COUNTS = '/lab/out/counts.json'
  const command = [...(options.trace ? trace : []), ...vitest]
  const limit = options.all || options.trace ? SECONDS_ALL : SECONDS
  process.exitCode = run('lab/run.mjs', '--timeout', `${limit}`, '--out', out, '--', ...command)
  const counts = join(out, 'counts.json')
  if (options.report && existsSync(counts)) copyFileSync(counts, options.report)
  const answers = join(out, 'answers.json')
  if (existsSync(answers)) run('tools/trace-ioctls.mjs', 'lab', '--merge', answers)
} finally {
  rmSync(out, { recursive: true })
}
