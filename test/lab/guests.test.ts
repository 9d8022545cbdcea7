// A machine of the lab that dies while Linux guests run in it: those that were left boot again, in a new one.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { runLabGuests } from '../../lab/guests.mjs'

test('guests that had not come to their end boot once more', () => {
  const out = mkdtempSync(join(tmpdir(), 'lab-test-'))
  try {
    const script = 'echo "random: $(cat /proc/sys/kernel/random/uuid)"\nsleep 1\n'
    const guests = {
      before: { host: 'test/lab/hosts/none.mjs', script },
      meanwhile: { host: 'test/lab/hosts/dies-once.mjs', script },
      after: { host: 'test/lab/hosts/none.mjs', script },
    }
    const results = runLabGuests(guests, { labOptions: ['--out', out] })
    for (const { output, status } of Object.values(results)) {
      expect(status, output).toBe(0)
      expect(output.match(/random: /g)).toHaveLength(1)
      expect(output).toContain('init: ended with status 0')
    }
  } finally {
    rmSync(out, { recursive: true })
  }
}, 600_000)
