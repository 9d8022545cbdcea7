// Debian's kernel without ACPI, in a machine of two processors: it finds them by the MP table.

import { expect, test } from 'vitest'
import { runMachines, timerInterrupts } from '../helpers/lab-machines.js'

test('two processors by the MP table', () => {
  const run = runMachines('acpi=off').get('2 acpi=off')
  expect(run?.output).toContain('Intel MultiProcessor Specification v1.4')
  expect(run?.output).toContain('processors: 2\r\n')
  const counts = timerInterrupts(run?.output)
  expect(counts.length).toBe(2)
  expect(Math.min(...counts)).toBeGreaterThan(0)
  expect(run?.output).toMatch(/ 4: .*[1-9]\d* .*IO-APIC +4-edge +ttyS0/)
  expect(run?.output).not.toMatch(/ acpi$/m)
  expect(run?.end).toBe('reset')
}, 900_000)
