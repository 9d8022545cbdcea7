// Many guests, one after the other: nothing of them stays. See cycles.mjs for the long version.

import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const cycles = process.env.NODE_KVM_CYCLES ?? '1000'
const script = fileURLToPath(new URL('cycles.mjs', import.meta.url))

test(`${cycles} create-run-close cycles grow neither memory nor files nor threads`, async () => {
  const args = ['--expose-gc', script, cycles]
  const { stdout, stderr } = await promisify(execFile)(process.execPath, args)
  expect(stderr).toBe('')
  expect(stdout.trim().split('\n')).toHaveLength(11)
}, 600_000)
