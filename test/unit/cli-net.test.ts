// `node-kvm run --net`: how what is wrong is told, and a machine on a socket.

import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from 'vitest'

const main = join(import.meta.dirname, '..', '..', 'lib', 'cli', 'main.cjs')

function run(...args: string[]) {
  const options = { encoding: 'utf8', timeout: 60_000 } as const
  return spawnSync(process.execPath, [main, 'run', '--firmware', main, ...args], options)
}

test.each([
  ['mac=52:54:00:12:34:56', 'it takes one of tap, passt, stream, dgram'],
  ['tap=a,stream=b', 'it takes one of tap, passt, stream, dgram'],
  ['tap=a,colour=red', 'colour'],
  ['tap=a,queues=two', 'queues'],
  ['dgram=127.0.0.1:1', 'takes local=HOST:PORT'],
  ['dgram=127.0.0.1,local=127.0.0.1:1', '127.0.0.1 is not HOST:PORT'],
  ['stream=/nowhere', 'ENOENT'],
  ['passt=/nowhere', 'ENOENT'],
  ['tap=lo', 'lo is no TAP'],
])('--net %s is refused', (text, complaint) => {
  const { status, stderr } = run('--net', text)
  expect(stderr).toContain(complaint)
  expect(status).not.toBe(0)
})
