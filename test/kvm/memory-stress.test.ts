// Rounds of everything at once, against a model: test/helpers/memory-stress.ts.
// STRESS_ROUNDS sets how many, NODE_KVM_SEED which.

import { describe, expect, test } from 'vitest'
import type { DirtyMethod } from '../../src/index.js'
import { MemoryStress } from '../helpers/memory-stress.js'
import { has } from '../helpers/probe.js'
import { watchKinds } from '../helpers/stress-watch.js'

const ROUNDS = Number(process.env.STRESS_ROUNDS ?? 40)
const SEED = Number(process.env.NODE_KVM_SEED ?? 20261123)

const methods: [DirtyMethod, string][] = [
  ['log', 'KVM_CAP_USER_MEMORY'],
  ['manual', 'KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2'],
  ['ring', 'KVM_CAP_DIRTY_LOG_RING'],
]

describe.each([3, 0] as const)(`ring %i: ${ROUNDS} rounds from seed ${SEED}`, (cpl) => {
  test.for(methods)('%s', { timeout: 120_000 + ROUNDS * 500 }, async ([method, name], context) => {
    if (!has(name)) context.skip(`this KVM lacks ${name}`)
    const counts = await MemoryStress.run({ method, cpl, seed: SEED }, ROUNDS)
    if (ROUNDS > 40) console.log(`${method}, ring ${cpl}: ${JSON.stringify(counts)}`)
    expect(counts.rounds).toBe(ROUNDS)
    if (ROUNDS < 40) return
    const { watched, ...others } = counts
    for (const count of Object.values(others)) expect(count).toBeGreaterThan(0)
    for (const kind of watchKinds()) expect(watched[kind]).toBeGreaterThan(0)
  })
})
