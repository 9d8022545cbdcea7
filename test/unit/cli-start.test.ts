// The command starts from a few files: each module that Node loads costs start-up time.

import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'

const main = join(import.meta.dirname, '..', '..', 'lib', 'cli', 'main.js')

/** The package's files that `file` imports, and all that those import. */
function filesBehind(file: string, seen = new Set<string>()): Set<string> {
  if (seen.has(file)) return seen
  seen.add(file)
  const imports = readFileSync(file, 'utf8').matchAll(/^(?:import|\} from) .*?"(\.[^"]+)";$/gm)
  for (const [, path] of imports) filesBehind(join(dirname(file), path!), seen)
  return seen
}

test.each(['run', 'info', 'check'])('node-kvm %s', (command) => {
  const entry = new RegExp(`import\\("\\./(parts/${command}-\\w+\\.js)"\\)`)
  const [, part] = entry.exec(readFileSync(main, 'utf8'))!
  const files = filesBehind(join(dirname(main), part!))
  expect(files.size).toBeGreaterThan(1)
  expect(files.size).toBeLessThan(8)
})
