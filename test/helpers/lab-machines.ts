// Machines in the lab with Debian's kernel: what test/lab/fixtures/machines.mjs says of them.

import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { initramfs } from '../../lab/linux.mjs'

/** What a machine printed, and why its run ended. */
export interface MachineRun {
  output: string
  end: string
}

/** Runs the fixture with these arguments. The machines by the number of processors and what else was said. */
export function runMachines(...wanted: string[]): Map<string, MachineRun> {
  // What the lab cannot download.
  initramfs('')
  const root = join(import.meta.dirname, '..', '..')
  const script = 'test/lab/fixtures/machines.mjs'
  const lab = [join(root, 'lab', 'run.mjs'), '--timeout', '800', '--', 'node', script, ...wanted]
  const { stdout } = spawnSync(process.execPath, lab, { cwd: root, encoding: 'utf8' })
  const runs = stdout.matchAll(/<(\d[^>]*)>\n([\s\S]*?)<end (\w+) /g)
  return new Map(
    Array.from(runs, ([, name, output, end]) => [name!, { output: output!, end: end! }]),
  )
}

/** Of each processor. */
export function timerInterrupts(output = ''): number[] {
  const local = /^ *LOC:((?: +\d+)+) +Local timer interrupts/m.exec(output)
  return local?.[1]?.trim().split(/ +/).map(Number) ?? []
}
