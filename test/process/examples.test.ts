// The examples of machines, run as a reader would run them.

import { spawn, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { expect, test } from 'vitest'

const root = join(import.meta.dirname, '..', '..')

/** Runs an example to its end; types each of `lines` when the one before has been answered. */
async function run(name: string, prompt = '', lines: readonly string[] = []): Promise<string> {
  const args = ['--import', 'tsx', join(root, 'examples', name)]
  const child = spawn(process.execPath, args, { cwd: root, stdio: ['pipe', 'pipe', 'pipe'] })
  const waiting = [...lines]
  let unseen = ''
  child.stdout.on('data', (chunk) => {
    unseen += chunk
    if (waiting.length === 0 || !unseen.endsWith(prompt)) return
    unseen = ''
    child.stdin.write(`${waiting.shift()}\n`)
  })
  const status = new Promise((resolve) => child.on('close', resolve))
  const [output, errors] = await Promise.all([text(child.stdout), text(child.stderr)])
  expect({ status: await status, errors }).toEqual({ status: 0, errors: '' })
  return output
}

test.each([
  ['hello.ts', 'Hello, world\n'],
  ['pio-device.ts', '1 + 2 + … + 10 = 55\n'],
  ['mmio-device.ts', 'the guest was woken 3 times\n'],
  [
    'two-machines.ts',
    `${[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
      .map((ball) => `${ball % 2 ? 'left' : 'right'} plays ${ball}\n`)
      .join('')}powerOff, powerOff\n`,
  ],
  ['switch.ts', 'right gets ping\nleft gets pong\n'],
  ['worker.mjs', 'Hello from a Worker!\nthe Worker ended with status 0\n'],
])('%s', async (name, output) => {
  expect(await run(name)).toBe(output)
})

test('passt.ts', async (context) => {
  if (spawnSync('passt', ['--version']).error) context.skip('passt is not installed')
  const interfaces = Object.values(networkInterfaces()).flat()
  if (interfaces.every((each) => each?.internal)) context.skip('passt has no network here')
  expect(await run('passt.ts')).toBe('passt offers 10.77.0.2\n')
})

test('http-disk.ts', async (context) => {
  const firmware = '/usr/share/seabios/bios-256k.bin'
  if (!existsSync(firmware)) context.skip('the package seabios is not installed')
  expect(await run('http-disk.ts')).toBe(
    'boot 1: Hello from the server!\nranges were fetched: true; the image changed: false\n',
  )
})

test('repl.ts', async () => {
  const lines = ['counter() > 0', '(await registers()).rip > 0n', 'machine.state', '.exit']
  expect(await run('repl.ts', 'machine> ', lines)).toBe(
    [
      "machine> true\nmachine> true\nmachine> 'running'\n",
      'machine> the machine has stopped\n',
    ].join(''),
  )
})
