// What is asked of a vCPU's thread ends with it; test/process/kick-race.mjs asks at random moments.

import { expect, test } from 'vitest'
import { createGuest, OUT_LOOP, SPIN } from '../helpers/guest.js'
import { waitUntil } from '../helpers/wait-until.js'

test('a kick of a thread that is stopped before it comes to it is gone with the thread', async () => {
  using guest = createGuest(OUT_LOOP)
  const { vcpu } = guest
  for (let i = 0; i < 20; i++) {
    vcpu.start(() => {}, { paused: true })
    vcpu.kick()
    await vcpu.stop()
    expect(vcpu.run().type).toBe('io')
  }
})

test('a stopped vCPU leaves nothing behind for a thread that has its number', async () => {
  using guest = createGuest(SPIN)
  const { vcpu } = guest
  for (let i = 0; i < 50; i++) {
    vcpu.start()
    const ended = vcpu.stop()
    vcpu.requestStop()
    await ended
    let ends = 0
    vcpu.start(() => void ends++)
    await waitUntil(() => vcpu.cpuTimeNs > 0)
    expect(ends).toBe(0)
    await vcpu.stop()
  }
})
