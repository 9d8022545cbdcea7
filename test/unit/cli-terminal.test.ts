// Files, pipes, devices and pseudo-terminals told apart by their descriptors.

import { execFileSync } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { isTerminal } from '../../src/cli/terminal.js'

test.each(['/dev/null', '/dev/zero', import.meta.filename, '/'])('%s is no terminal', (path) => {
  const fd = openSync(path, 'r')
  expect(isTerminal(fd)).toBe(false)
  closeSync(fd)
})

test('a pseudo-terminal is one, a pipe is not', () => {
  const module = join(import.meta.dirname, '..', '..', 'lib', 'cli', 'terminal.js')
  const program = `import { isTerminal } from '${module}'; console.log([isTerminal(0), isTerminal(1)].join())`
  const node = [process.execPath, '--input-type=module', '-e', program] as const
  expect(execFileSync(node[0], node.slice(1), { encoding: 'utf8', input: '' })).toBe(
    'false,false\n',
  )
  const line = node.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ')
  const onTerminal = execFileSync('script', ['-qefc', line, '/dev/null'], { encoding: 'utf8' })
  expect(onTerminal.trim()).toBe('true,true')
})
