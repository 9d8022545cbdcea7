// A guest that attacks the machine's devices through /dev/kvm. HOSTILE_SECONDS makes it last, from the
// seed HOSTILE_SEED on; HOSTILE_ROUNDS is how many rounds it goes at least.

import { expect, test } from 'vitest'
import { runHostileGuest } from '../helpers/hostile-guest.js'

const seconds = Number(process.env.HOSTILE_SECONDS ?? 0)
const firstSeed = Number(process.env.HOSTILE_SEED ?? 1)
const ACCESSES = 4000
const rounds = Number(process.env.HOSTILE_ROUNDS ?? 6)

test(
  'random accesses to PCI, MSI-X, fw_cfg, ACPI and legacy ports harm nobody',
  async () => {
    const until = Date.now() + seconds * 1000
    const ends = new Map<string, number>()
    for (let round = 0; round < rounds || Date.now() < until; round++) {
      const seed = firstSeed + round
      const end = await runHostileGuest(seed, ACCESSES).catch((cause) => {
        throw new Error(`seed ${seed}`, { cause })
      })
      ends.set(end, (ends.get(end) ?? 0) + 1)
    }
    if (seconds > 0) console.log(Object.fromEntries(ends))
    // Most must get to the end of their list, or nothing much was tried.
    expect(ends.get('exit') ?? 0).toBeGreaterThanOrEqual(rounds / 2)
  },
  120_000 + seconds * 1000,
)
