// Debian's kernel, unmodified, in machines of one, two and eight processors described by ACPI: it finds
// them all, takes interrupts on each, hears the power button, and its reboot and power-off end the run.

import { beforeAll, expect, test } from 'vitest'
import { type MachineRun, runMachines, timerInterrupts } from '../helpers/lab-machines.js'

let runs: Map<string, MachineRun>

beforeAll(() => {
  runs = runMachines()
}, 900_000)

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

test('the power button reaches the guest', () => {
  expect(runs.get('8')?.output).toContain('the button was pressed')
})
