// @ts-check
// npm run test:lab:vmx -- [--report FILE] [NAME...]: the tests of exits, slots, dirty pages and page sizes,
// the same files as on the host, in the emulated machine with Intel VMX and EPT.
//   --report    where the counts go
//   NAME        the beginning of a file in test/kvm: only these
import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { bundleTests } from './bundle-tests.mjs'

/** What says most of EPT, and can be had in minutes of a machine that runs 50 million instructions a second. */
const FILES = [
  'exits-complete-io',
  'host-report',
  'memory-pages',
  'memory-slots',
  'memory-tracking',
  'memory-translate',
  'vm-dirty',
]
const SECONDS = 1800
/** Room for a page of 1 GiB, which only a kernel that has just started is sure to find. */
const MACHINE = ['--machine', 'vmx', '--memory', '2560', '--append', 'hugepagesz=1G hugepages=1']

const root = join(import.meta.dirname, '..')
const { values: options, positionals: names } = parseArgs({
  allowPositionals: true,
  options: { report: { type: 'string' } },
})

const all = readdirSync(join(root, 'test/kvm')).filter((file) => file.endsWith('.test.ts'))
const isChosen = (/** @type {string} */ file) =>
  names.length > 0
    ? names.some((name) => file.startsWith(name))
    : FILES.some((name) => file === `${name}.test.ts`)
const bundle = 'build/lab/tests.mjs'
await bundleTests(
  all.filter(isChosen).map((file) => `test/kvm/${file}`),
  join(root, bundle),
)

const out = mkdtempSync(join(tmpdir(), 'node-kvm-lab-'))
try {
  const lab = ['lab/run.mjs', ...MACHINE, '--timeout', `${SECONDS}`, '--out', out, '--']
  const { status } = spawnSync(process.execPath, [...lab, 'node', bundle], {
    cwd: root,
    env: { ...process.env, NODE_KVM_COUNTS: '/lab/out/counts.json' },
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  process.exitCode = status ?? 1
  const counts = join(out, 'counts.json')
  if (options.report && existsSync(counts)) copyFileSync(counts, options.report)
} finally {
  rmSync(out, { recursive: true })
}
