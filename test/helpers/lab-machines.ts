// Machines in the lab with Debian's kernel: what test/lab/fixtures/machines.mjs says of them.

import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { FOR_LINUX_GUESTS } from '../../lab/guests.mjs'
import { initramfs } from '../../lab/linux.mjs'
import { EXIT_LAB_FAILED } from '../../lab/session.mjs'

/** What a machine printed, and why its run ended. */
export interface MachineRun {
  output: string
  end: string
}

/**
 * Runs the fixture with these arguments; once more when the emulated machine dies. The machines by the number of
 * processors and what else was said.
 */
export function runMachines(...wanted: string[]): Map<string, MachineRun> {
  // What the lab cannot download.
  initramfs('')
  const { status, runs } = stay(wanted)
  return status === EXIT_LAB_FAILED ? new Map([...runs, ...stay(wanted).runs]) : runs
}

function stay(wanted: string[]): { status: number | null; runs: Map<string, MachineRun> } {
  const root = join(import.meta.dirname, '..', '..')
  const lab = [join(root, 'lab', 'run.mjs'), '--timeout', '800', ...FOR_LINUX_GUESTS, '--']
  const command = ['node', 'test/lab/fixtures/machines.mjs', ...wanted]
  const options = { cwd: root, encoding: 'utf8' } as const
  const { stdout, status } = spawnSync(process.execPath, [...lab, ...command], options)
  const runs = stdout.matchAll(/<(\d[^>]*)>\n([\s\S]*?)<end (\w+) /g)
  const entries = Array.from(
    runs,
    ([, name, output, end]) => [name!, { output: output!, end: end! }] as const,
  )
  return { status, runs: new Map(entries) }
}

/** Of each processor. */
export function timerInterrupts(output = ''): number[] {
  const local = /^ *LOC:((?: +\d+)+) +Local timer interrupts/m.exec(output)
  return local?.[1]?.trim().split(/ +/).map(Number) ?? []
}
