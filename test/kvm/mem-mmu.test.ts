// What the MMU did, as KVM counts it.

import { expect, test } from 'vitest'
import { mmuSummary } from '../../src/index.js'
import { createGuest, SPIN } from '../helpers/guest.js'

test('a guest in ring 3 has mappings after it ran, and none before', () => {
  using guest = createGuest(SPIN, { mode: 'ring3' })
  using stats = guest.vm.getStatsFd()
  const pages = () => {
    const { pages4k = 0, pages2m = 0, pages1g = 0 } = mmuSummary(stats)
    return pages4k + pages2m + pages1g
  }
  expect(pages()).toBe(0)
  guest.vcpu.run({ timeoutMs: 20 })
  expect(pages()).toBeGreaterThan(0)
})
