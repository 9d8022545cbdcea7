// Disks beside QEMU's: the same kernel and load in the lab, on the same image, by io_uring on both sides.
// What counts is the ratio: the lab's processor is emulated.

import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { initramfs, kernelElf } from '../lab/linux.mjs'
import type { Benchmark } from './benchmark.js'
import { quantile } from './harness.js'
import { type PeerRow, peerRow, type Report } from './report.js'

const root = join(import.meta.dirname, '..')
const TESTS = {
  'read-128k-32': 'reads of 128 KiB in a row, 32 at once',
  'write-128k-32': 'writes of 128 KiB in a row, 32 at once',
  'read-4k-1': 'reads of 4 KiB anywhere, one at a time',
  'read-4k-32': 'reads of 4 KiB anywhere, 32 at once',
  'write-4k-1': 'writes of 4 KiB anywhere, one at a time',
  'write-4k-32': 'writes of 4 KiB anywhere, 32 at once',
} as const

interface Sample {
  readonly side: 'ours' | 'qemu'
  readonly test: keyof typeof TESTS
  readonly ns: number
  readonly cpuNs: number
}

/** Requests of a Linux guest. */
export const benchmark: Benchmark = async ({ effort }): Promise<Report> => {
  const isQuick = effort.rounds <= 5
  const samples = measure(isQuick ? 1 : 4, isQuick ? 1500 : 5000)
  const peers = Object.entries(TESTS).map(([test, what]): PeerRow => {
    const median = (side: Sample['side'], of: 'ns' | 'cpuNs') => {
      const values = samples.filter((each) => each.side === side && each.test === test)
      return quantile(
        values.map((each) => each[of]),
        0.5,
      )
    }
    const figures = (side: Sample['side']) => {
      return { ns: median(side, 'ns'), cpuNs: median(side, 'cpuNs') }
    }
    return peerRow(test, what, 'QEMU', figures('qemu'), figures('ours'))
  })
  return { rows: [], allocations: [], peers }
}

function measure(rounds: number, milliseconds: number): Sample[] {
  const script = `exec /bin/disk-load /dev/vda ${milliseconds}\n`
  const initrd = initramfs(script, {
    modules: ['virtio_pci', 'virtio_blk'],
    files: { 'bin/disk-load': compileLoad() },
  })
  const side = ['node', 'bench/block-side.mjs', `${rounds}`, kernelElf(), initrd]
  const { stdout, status } = spawnSync(
    process.execPath,
    ['lab/run.mjs', '--timeout', `${300 + rounds * 300}`, '--', ...side],
    { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] },
  )
  if (status !== 0) throw new Error(`the lab ended with ${status}`)
  const lines = stdout.split('\n').filter((line) => line.startsWith('{'))
  return lines.map((line) => JSON.parse(line) as Sample)
}

function compileLoad(): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), 'disk-load-'))
  try {
    const program = join(folder, 'disk-load')
    const source = join(import.meta.dirname, 'native', 'disk-load.c')
    execFileSync('gcc', ['-O2', '-Wall', '-static', '-s', '-o', program, source])
    return readFileSync(program)
  } finally {
    rmSync(folder, { recursive: true })
  }
}
