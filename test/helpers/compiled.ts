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

/** Programs of this host, and the libraries that they load, as files of an initramfs. */
export function installed(...programs: string[]): Record<string, Uint8Array> {
  const said = execFileSync('ldd', programs, { encoding: 'utf8' })
  const libraries = [...said.matchAll(/(\/\S+) \(0x/g)].map(([, path]) => path!)
  return Object.fromEntries(
    [...programs, ...libraries].map((path) => [path.slice(1), readFileSync(path)]),
  )
}
