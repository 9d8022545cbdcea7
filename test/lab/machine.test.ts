// Debian's kernel, unmodified, in machines of one, two and eight processors described by ACPI: it finds
// them all, takes interrupts on each, hears the power button, and its reboot and power-off end the run. Without
// ACPI it finds two by the MP table.

import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { initramfs } from '../../lab/linux.mjs'

const root = join(import.meta.dirname, '..', '..')
const runs = new Map<string, { output: string; end: string }>()

beforeAll(() => {
  // What the lab cannot download.
  initramfs('')
  const script = 'test/lab/fixtures/machines.mjs'
  const lab = [join(root, 'lab', 'run.mjs'), '--timeout', '800', '--', 'node', script]
  const { stdout } = spawnSync(process.execPath, lab, { cwd: root, encoding: 'utf8' })
  for (const [, cpus, output, end] of stdout.matchAll(/<(\d[^>]*)>\n([\s\S]*?)<end (\w+) /g)) {
    runs.set(cpus!, { output: output!, end: end! })
  }
}, 900_000)

/** Of each processor. */
function timerInterrupts(output = ''): number[] {
  const local = /^ *LOC:((?: +\d+)+) +Local timer interrupts/m.exec(output)
  return local?.[1]?.trim().split(/ +/).map(Number) ?? []
}

test.each([
  ['1', 'reset'],
  ['2', 'powerOff'],
  ['8', 'powerOff'],
])('%s processors', (cpus, end) => {
  const run = runs.get(cpus)
  expect(run?.output).toContain(`processors: ${cpus}\r\n`)
  const counts = timerInterrupts(run?.output)
  expect(counts.length).toBe(Number(cpus))
  expect(Math.min(...counts)).toBeGreaterThan(0)
  expect(run?.output).toMatch(/ 9:.*IO-APIC +9-fasteoi +acpi/)
  expect(run?.end).toBe(end)
})

test('two processors by the MP table, without ACPI', () => {
  const run = runs.get('2 acpi=off')
  expect(run?.output).toContain('Intel MultiProcessor Specification v1.4')
  expect(run?.output).toContain('processors: 2\r\n')
  const counts = timerInterrupts(run?.output)
  expect(counts.length).toBe(2)
  expect(Math.min(...counts)).toBeGreaterThan(0)
  expect(run?.output).toMatch(/ 4: .*[1-9]\d* .*IO-APIC +4-edge +ttyS0/)
  expect(run?.output).not.toMatch(/ acpi$/m)
  expect(run?.end).toBe('reset')
})

test('the power button reaches the guest', () => {
  expect(runs.get('8')?.output).toContain('the button was pressed')
})
