// A process, or a Worker, ends in every way while native threads serve its disk.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'

const root = join(import.meta.dirname, '..', '..')
const folder = mkdtempSync(join(tmpdir(), 'node-kvm-disk-end-'))
afterAll(() => rmSync(folder, { recursive: true }))

test.each([
  ['exit', 7, ''],
  ['throw', 1, 'Error: on purpose'],
  ['leave', 0, ''],
  ['terminate', 0, ''],
])(
  '%s ends with status %i',
  (how, status, complaint) => {
    const image = join(folder, `${how}.img`)
    writeFileSync(image, Buffer.alloc(8 * 2 ** 20))
    const script = join('test', 'helpers', 'disk-end.ts')
    const args = ['--import', 'tsx', script, how, image]
    const ended = spawnSync(process.execPath, args, {
      cwd: root,
      encoding: 'utf8',
      timeout: 100_000,
    })
    expect({ status: ended.status, signal: ended.signal }).toEqual({ status, signal: null })
    if (complaint === '') expect(ended.stderr).toBe('')
    else expect(ended.stderr).toContain(complaint)
    if (how === 'terminate') expect(ended.stdout).toBe('terminated\n')
  },
  120_000,
)
