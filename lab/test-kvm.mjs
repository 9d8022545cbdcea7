// npm run test:lab:kvm -- [REPORT]: the KVM tests, the same files as on the host, in the emulated
// machine. REPORT is where the counts go.
import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const SECONDS = 1200
const out = mkdtempSync(join(tmpdir(), 'node-kvm-lab-'))
const command =
  'NODE_KVM_COUNTS=/lab/out/counts.json exec node_modules/.bin/vitest run --project kvm'
const lab = [join(import.meta.dirname, 'run.mjs'), '--timeout', String(SECONDS), '--out', out]
const { status } = spawnSync(process.execPath, [...lab, '--', 'sh', '-c', command], {
  cwd: join(import.meta.dirname, '..'),
  stdio: ['ignore', 'inherit', 'inherit'],
})
const counts = join(out, 'counts.json')
const [report] = process.argv.slice(2)
if (report && existsSync(counts)) copyFileSync(counts, report)
rmSync(out, { recursive: true })
process.exitCode = status ?? 1
