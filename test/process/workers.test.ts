// The package in Workers: loaded in several at once, and gone with them.

import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const run = promisify(execFile)
const fixture = (name: string) => fileURLToPath(new URL(`fixtures/${name}.mjs`, import.meta.url))

test('two Workers load the package at once, use it, and leave nothing behind', async () => {
  const { stdout, stderr } = await run(process.execPath, [fixture('two-workers')])
  expect({ stdout, stderr }).toEqual({ stdout: '0 0\n0 0\n0 0\n', stderr: '' })
})

test('three threads that use and close the same guest at once', async () => {
  const { stdout, stderr } = await run(process.execPath, ['--expose-gc', fixture('hammer'), '30'])
  expect({ stdout, stderr }).toEqual({ stdout: 'clean\n', stderr: '' })
})

test('what a Worker sends of guest memory outlives the Worker', async () => {
  const args = ['--expose-gc', fixture('views-outlive-worker')]
  const { stdout, stderr } = await run(process.execPath, args)
  expect({ stdout, stderr }).toEqual({ stdout: '55 55\n', stderr: '' })
})
