// The example of a virtio device of one's own, run as a reader would run it.

import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from 'vitest'

test('a guest gets its answer from a device in TypeScript', () => {
  const example = join(import.meta.dirname, '..', '..', 'examples', 'own-virtio-device.ts')
  const output = execFileSync(process.execPath, ['--import', 'tsx', example], { encoding: 'utf8' })
  expect(output).toBe('Hello virtio!\n')
})
