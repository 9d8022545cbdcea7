// npm run test:lab:kvm -- [REPORT [NAME...]]: the KVM tests, the same files as on the host, in the
// emulated machine. REPORT is where the counts go; a NAME is the beginning of a file in test/kvm.
import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const SECONDS = 1200
// The files that are known to pass there; name others to run them too. What is not here was not seen
// through in the lab yet.
const DEFAULT = [
  'exits-complete-io',
  'irq-delivery',
  'machine',
  'misuse-order',
  'run-in-turn',
  'vcpu-registers',
  'vm-clock',
  'vm-irqchip',
]
const out = mkdtempSync(join(tmpdir(), 'node-kvm-lab-'))
const [report, ...chosen] = process.argv.slice(2)
const files = (chosen.length > 0 ? chosen : DEFAULT).map((name) => `test/kvm/${name}`)
const command = `NODE_KVM_COUNTS=/lab/out/counts.json exec node_modules/.bin/vitest run ${files.join(' ')}`
const lab = [join(import.meta.dirname, 'run.mjs'), '--timeout', String(SECONDS), '--out', out]
const { status } = spawnSync(process.execPath, [...lab, '--', 'sh', '-c', command], {
  cwd: join(import.meta.dirname, '..'),
  stdio: ['ignore', 'inherit', 'inherit'],
})
const counts = join(out, 'counts.json')
if (report && existsSync(counts)) copyFileSync(counts, report)
rmSync(out, { recursive: true })
process.exitCode = status ?? 1
