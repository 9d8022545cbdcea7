// Programs for guests that have no libraries.

import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const root = join(import.meta.dirname, '..', '..')

/** A C program of the project, static, as its file's bytes. */
export function compiled(source: string): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), 'node-kvm-cc-'))
  try {
    const program = join(folder, 'program')
    execFileSync('cc', ['-static', '-O1', '-s', '-o', program, join(root, source)])
    return readFileSync(program)
  } finally {
    rmSync(folder, { recursive: true })
  }
}
