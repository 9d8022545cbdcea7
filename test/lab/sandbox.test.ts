// examples/sandbox.ts: a command in a fresh Linux, with its files, output and exit status.

import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { FOR_LINUX_GUESTS } from '../../lab/guests.mjs'

const root = join(import.meta.dirname, '..', '..')
const COMMAND = `
wc -l <words
tr a-z A-Z <words >out/loud
dd if=/dev/zero of=out/big bs=1M count=1
exit 3
`

test('files go in and out, output and exit status come back', () => {
  const run = [
    'cd /tmp',
    `${root}/node_modules/.bin/tsx ${root}/examples/sandbox.ts '${COMMAND}' words=/etc/services`,
    'echo "status $?"; wc -lc /etc/services out/*',
  ].join('\n')
  const lab = ['lab/run.mjs', '--timeout', '600', ...FOR_LINUX_GUESTS, '--', 'sh', '-c', run]
  const { stdout, stderr } = spawnSync(process.execPath, lab, { cwd: root, encoding: 'utf8' })
  const [, lines, bytes] = /^ *(\d+) +(\d+) \/etc\/services$/m.exec(stdout) ?? []
  expect(Number(lines), stderr).toBeGreaterThan(10)
  expect(stdout).toContain(`${lines}\nstatus 3\n`)
  expect(stderr).toContain('1+0 records out')
  expect(stdout).toMatch(new RegExp(`^ *${lines} +${bytes} out/loud$`, 'm'))
  expect(stdout).toMatch(/^ *0 +1048576 out\/big$/m)
})
