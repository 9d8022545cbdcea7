// Devices beside QEMU's: the same kernel and load in the lab, with the same disk or TAP. What counts is the
// ratio: the lab's processor is emulated.

import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { initramfs, kernelElf } from '../lab/linux.mjs'
import { type Effort, quantile } from './harness.js'
import { type PeerFigures, peerRow, type Report } from './report.js'

/**
 * All memory that the loads use was used once before: what the first touch of a page costs is another matter
 * (QEMU's anonymous memory comes in pages of 2 MiB, a memfd in pages of 4 KiB).
 */
const TOUCH_MEMORY = 'dd if=/dev/zero of=/fill bs=1M count=150 2>/dev/null; rm /fill\n'

const root = join(import.meta.dirname, '..')

/** One of the loads of bench/native that run in a guest. */
export interface Load {
  /** The device of bench/peer-side.mjs. */
  readonly device: 'block' | 'net'
  /** The program's source in bench/native. */
  readonly source: string
  /** The shell's commands in the guest; the program is `/bin/load`. */
  script(milliseconds: number): string
  /** Modules of Debian's kernel. */
  readonly modules: readonly string[]
  /** Words for the tests that the program prints. */
  readonly tests: Readonly<Record<string, string>>
}

interface Sample extends PeerFigures {
  readonly side: 'ours' | 'qemu'
  readonly test: string
}

/** Runs a load under both, in turn. */
export function compareWithQemu(load: Load, effort: Effort): Report {
  const isQuick = effort.rounds <= 5
  const samples = measure(load, isQuick ? 1 : 4, isQuick ? 1500 : 5000)
  const peers = Object.entries(load.tests).map(([test, what]) => {
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

function measure(load: Load, rounds: number, milliseconds: number): Sample[] {
  const folder = mkdtempSync(join(tmpdir(), 'node-kvm-load-'))
  try {
    const program = join(folder, 'load')
    const source = join(import.meta.dirname, 'native', load.source)
    execFileSync('gcc', ['-O2', '-Wall', '-static', '-s', '-o', program, source])
    const initrd = initramfs(TOUCH_MEMORY + load.script(milliseconds), {
      modules: [...load.modules],
      files: { 'bin/load': readFileSync(program) },
    })
    const images = [kernelElf(), initrd, program]
    const side = ['node', 'bench/peer-side.mjs', load.device, `${rounds}`, ...images]
    const { stdout, status } = spawnSync(
      process.execPath,
      ['lab/run.mjs', '--timeout', `${300 + rounds * 300}`, '--', ...side],
      { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] },
    )
    if (status !== 0) throw new Error(`the lab ended with ${status}`)
    const lines = stdout.split('\n').filter((line) => line.startsWith('{'))
    return lines.map((line) => JSON.parse(line) as Sample)
  } finally {
    rmSync(folder, { recursive: true })
  }
}
