// The signal that ends KVM_RUN, in a process where somebody else has taken real-time signals.

import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'

const fixtures = join(import.meta.dirname, 'fixtures')
const folder = mkdtempSync(join(tmpdir(), 'node-kvm-signals-'))
const library = join(folder, 'taken.so')
afterAll(() => rmSync(folder, { recursive: true }))

function compiled(): boolean {
  const source = join(fixtures, 'taken-signals.c')
  return spawnSync('cc', ['-shared', '-fPIC', '-O1', '-o', library, source]).status === 0
}

test('is one that nobody uses; theirs stay theirs, and children inherit nothing', (context) => {
  if (!compiled()) context.skip('no C compiler here')
  // A sanitizer's library has to come first.
  const preload = [process.env.LD_PRELOAD, library].filter(Boolean).join(':')
  const { stdout, stderr, status } = spawnSync(process.execPath, [join(fixtures, 'kicked.mjs')], {
    env: { ...process.env, LD_PRELOAD: preload },
    encoding: 'utf8',
  })
  expect([status, stdout]).toEqual([0, '0000000000000000\n0000000000000000\n'])
  expect(stderr).toBe('taken: kept 3, delivered 0; others: 1\n')
})

test('is not looked for before the first run', () => {
  const source = `
    import { readFileSync } from 'node:fs'
    const caught = () => /^SigCgt:\\s*(.*)$/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]
    const before = caught()
    const { Kvm } = await import(process.argv[1])
    Kvm.open().createVm().createVcpu(0)
    console.log(caught() === before)`
  const lib = join(import.meta.dirname, '..', '..', 'lib', 'index.js')
  const args = ['--input-type=module', '-e', source, lib]
  expect(execFileSync(process.execPath, args, { encoding: 'utf8' })).toBe('true\n')
})
