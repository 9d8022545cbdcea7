// Devices beside QEMU's: the same kernel and load in the lab, with the same disk or TAP. What counts is the
// ratio: the lab's processor is emulated.

import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { initramfs, kernelElf } from '../lab/linux.mjs'
import { type Effort, quantile } from './harness.js'
import { type PeerFigures, peerRow, type Report } from './report.js'

/**
 * The guest does as its console says. All memory that the loads use was used once before: what the first touch
 * of a page costs is another matter.
 */
const SCRIPT = `
dd if=/dev/zero of=/fill bs=1M count=150 2>/dev/null; rm /fill
echo ready
while read -r line; do eval "$line"; done
`

/** How often both are booted, how often each test is done then, and how long. */
interface Extent {
  readonly boots: number
  readonly rounds: number
  readonly milliseconds: number
}
const QUICK: Extent = { boots: 1, rounds: 5, milliseconds: 700 }
const FULL: Extent = { boots: 4, rounds: 5, milliseconds: 1500 }

const root = join(import.meta.dirname, '..')

/** One of the loads of bench/native that run in a guest. */
export interface Load {
  /** The device of bench/peer-side.mjs. */
  readonly device: 'block' | 'net'
  /** The program's source in bench/native. */
  readonly source: string
  /** Modules of Debian's kernel. */
  readonly modules: readonly string[]
  /** Words for the program's tests. */
  readonly tests: Readonly<Record<string, string>>
}

interface Sample extends PeerFigures {
  readonly side: 'ours' | 'qemu'
  readonly test: string
}

/** Runs a load under both, in turn; of its tests those that BENCH_TESTS names, if it does. */
export function compareWithQemu(load: Load, effort: Effort): Report {
  const chosen = process.env.BENCH_TESTS?.split(',') ?? Object.keys(load.tests)
  const samples = measure(load, chosen, effort.rounds <= 5 ? QUICK : FULL)
  if (process.env.BENCH_SAMPLES) writeFileSync(process.env.BENCH_SAMPLES, JSON.stringify(samples))
  const peers = chosen.map((test) => {
    const what = load.tests[test] ?? test
    const figures = (side: Sample['side']): PeerFigures => {
      const values = samples.filter((each) => each.side === side && each.test === test)
      const median = (of: keyof PeerFigures) =>
        quantile(
          Array.from(values, (it) => it[of]!),
          0.5,
        )
      return { ns: median('ns'), cpuNs: median('cpuNs'), exits: median('exits') }
    }
    return peerRow(test, what, 'QEMU', figures('qemu'), figures('ours'))
  })
  return { rows: [], allocations: [], peers }
}

function measure(load: Load, tests: readonly string[], extent: Extent): Sample[] {
  const folder = mkdtempSync(join(tmpdir(), 'node-kvm-load-'))
  try {
    const program = join(folder, 'load')
    const source = join(import.meta.dirname, 'native', load.source)
    execFileSync('gcc', ['-O2', '-Wall', '-static', '-s', '-o', program, source])
    const initrd = initramfs(SCRIPT, {
      modules: [...load.modules],
      files: { 'bin/load': readFileSync(program) },
    })
    const { boots, rounds, milliseconds } = extent
    const numbers = [boots, rounds, milliseconds].map(String)
    const images = [tests.join(','), kernelElf(), initrd, program]
    const side = ['node', 'bench/peer-side.mjs', load.device, ...numbers, ...images]
    const { stdout, status } = spawnSync(
      process.execPath,
      ['lab/run.mjs', '--threads', 'multi', '--timeout', `${300 + boots * 300}`, '--', ...side],
      { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] },
    )
    if (status !== 0) throw new Error(`the lab ended with ${status}`)
    const lines = stdout.split('\n').filter((line) => line.startsWith('{'))
    return lines.map((line) => JSON.parse(line) as Sample)
  } finally {
    rmSync(folder, { recursive: true })
  }
}
