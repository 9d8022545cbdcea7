// Builds the addon with sanitizers and runs the tests with it:
//
//   node tools/sanitize.mjs address [test files]    ASan, UBSan and LSan
//   node tools/sanitize.mjs thread [test files]     TSan
//
// Node itself is not instrumented, so the sanitizer's library is loaded before everything else. Every
// process writes its reports to a folder: no report is lost with the output of a child, and any
// report fails the run.

import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
// Status 1 is what an uncaught error gives: a report must not look like one.
const common = (log) => `log_path=${log}:exitcode=86`

const kinds = {
  address: {
    sanitize: 'address,undefined',
    folder: 'asan',
    library: 'libasan.so',
    options: (log, leaks) => ({
      ASAN_OPTIONS: `${common(log)}:detect_leaks=${leaks ? 1 : 0}:detect_stack_use_after_return=1`,
      UBSAN_OPTIONS: `${common(log)}:print_stacktrace=1`,
      LSAN_OPTIONS: `suppressions=${join(root, 'tools/sanitizers/leaks.txt')}:print_suppressions=0`,
    }),
    runs: [
      // Leaks are looked for at an orderly exit, and vitest kills its test processes: so these are
      // run on threads of one process, which also tests that each Worker takes everything with it.
      { leaks: true, arguments: ['--pool=threads', '--project=unit', '--project=kvm'] },
      // Processes that end in the middle of something leave it behind, and so do all of V8.
      { leaks: false, arguments: ['--project=process'] },
    ],
  },
  thread: {
    sanitize: 'thread',
    folder: 'tsan',
    library: 'libtsan.so',
    options: (log) => ({
      // V8 and libuv are not instrumented: what they do with locks and memory cannot be followed.
      TSAN_OPTIONS: `${common(log)}:ignore_noninstrumented_modules=1:history_size=4:suppressions=${join(root, 'tools/sanitizers/races.txt')}`,
    }),
    runs: [{ leaks: false, arguments: ['--project=unit', '--project=kvm', '--project=process'] }],
  },
}

const kind = kinds[process.argv[2]]
if (kind === undefined) {
  console.error(`usage: node tools/sanitize.mjs ${Object.keys(kinds).join('|')} [test files]`)
  process.exit(2)
}

const run = (command, args, env) =>
  spawnSync(command, args, { cwd: root, stdio: 'inherit', env: { ...process.env, ...env } })

const build = join(root, 'build', kind.folder)
const reports = join(build, 'reports')

const compiled = run('npx', ['cmake-js', 'compile', '-O', build, `--CDSANITIZE=${kind.sanitize}`])
if (compiled.status !== 0) process.exit(compiled.status ?? 1)
const types = run('npm', ['run', '--silent', 'build:ts'])
if (types.status !== 0) process.exit(types.status ?? 1)

rmSync(reports, { recursive: true, force: true })
mkdirSync(reports)
const library = execFileSync('gcc', [`-print-file-name=${kind.library}`], { encoding: 'utf8' })
const chosen = process.argv.slice(3)
let status = 0
for (const { leaks, arguments: projects } of kind.runs) {
  const vitest = [
    'run',
    '--testTimeout=120000',
    '--no-file-parallelism',
    '--passWithNoTests',
    ...projects,
    ...chosen,
  ]
  const tests = run(process.execPath, [join(root, 'node_modules/vitest/vitest.mjs'), ...vitest], {
    NODE_KVM_ADDON: join(build, 'node_kvm.node'),
    LD_PRELOAD: library.trim(),
    ...kind.options(join(reports, 'report'), leaks),
  })
  status ||= tests.status ?? 1
}

const found = readdirSync(reports)
for (const name of found) console.error(readFileSync(join(reports, name), 'utf8'))
console.error(`${found.length} sanitizer reports`)
process.exit(found.length > 0 ? 1 : status)
