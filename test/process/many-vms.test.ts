// The short form of many-vms.mjs, which has 1000.

import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const count = process.env.NODE_KVM_VMS ?? '100'
const script = fileURLToPath(new URL('many-vms.mjs', import.meta.url))

test(`${count} VMs at once cost less than 1 MiB each and leave nothing behind`, async () => {
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [
    '--expose-gc',
    script,
    count,
  ])
  expect(stderr).toBe('')
  expect(stdout).toContain(`${count} VMs`)
}, 300_000)
