// The demo's guest: four processors, INIT/SIPI, timer interrupts, the serial port, its own end.

import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const root = join(import.meta.dirname, '..', '..')

test('the demo ends by itself, all four processors having reported', async () => {
  const args = ['--import', 'tsx', join(root, 'examples', 'demo.ts')]
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: root })
  expect(stdout).toContain('export async function runSmpGuest')
  for (const id of [0, 1, 2, 3]) {
    expect(stdout).toContain(`processor ${id} is up, x2APIC enabled`)
    expect(stdout).toContain(`processor ${id} took its timer interrupts`)
  }
  expect(stdout).toMatch(/All done\. Bye!\n\nThe guest ended with status 0/)
})
