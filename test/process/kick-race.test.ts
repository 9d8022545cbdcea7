// The short form of kick-race.mjs; NODE_KVM_ROUNDS=1000000 is the long one.

import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const rounds = process.env.NODE_KVM_ROUNDS ?? '5000'
const script = fileURLToPath(new URL('kick-race.mjs', import.meta.url))

test(`${rounds} rounds of start, kick, stop: no kick is lost, none is left for later`, async () => {
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [script, rounds])
  expect(stderr).toBe('')
  expect(stdout).toContain(`${rounds} rounds of seed 1`)
}, 3_600_000)
