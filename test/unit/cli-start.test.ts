// The command starts from a few files: each module that Node loads costs start-up time.

import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'

const main = join(import.meta.dirname, '..', '..', 'lib', 'cli', 'main.cjs')

/** The package's files that `file` imports, and all that those import. */
function filesBehind(file: string, seen = new Set<string>()): Set<string> {
  if (seen.has(file)) return seen
  seen.add(file)
  const imports = readFileSync(file, 'utf8').matchAll(/^(?:import|\} from) .*?"(\.[^"]+)";$/gm)
  for (const [, path] of imports) filesBehind(join(dirname(file), path!), seen)
  return seen
}

test.each(['info', 'check'])('node-kvm %s', (command) => {
  const part = `./parts/${command}.js`
  expect(readFileSync(main, 'utf8')).toContain(`import("${part}")`)
  const files = filesBehind(join(dirname(main), part))
  expect(files.size).toBeGreaterThan(1)
  expect(files.size).toBeLessThan(8)
})

test('node-kvm run is one file, and loads none of what only some machines need', () => {
  const show = 'process.on("exit", () => console.error(process.moduleLoadList.join("\\n")))'
  const preload = `data:text/javascript,${encodeURIComponent(show)}`
  const args = ['--import', preload, main, 'run', '--help']
  const { stdout, stderr, status } = spawnSync(process.execPath, args, { encoding: 'utf8' })
  expect({ status, stdout }).toEqual({ status: 0, stdout: expect.stringContaining('--kernel') })
  expect(readdirSync(join(dirname(main), 'parts'))).toContain('run.cjs')
  const modules = stderr.split('\n')
  expect(modules).toContain('NativeModule stream')
  expect(modules.filter((name) => /NativeModule (crypto|dgram)$/.test(name))).toEqual([])
})
