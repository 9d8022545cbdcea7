// Poll control: a guest says whether the host shall poll for a while before a vCPU that halts sleeps.

import { expect, test } from 'vitest'
import { encodeMsi, MSR } from '../../src/x86/index.js'
import { needs } from '../helpers/probe.js'
import { done, enableX2apic, VectorsGuest, writeMsr } from '../helpers/vectors-guest.js'
import { waitUntil } from '../helpers/wait-until.js'

const ROUNDS = 20

/** How often the host polled while a guest that has set the MSR so slept and was woken. */
async function polls(control: number): Promise<number> {
  const script = [...enableX2apic(), writeMsr(MSR.MSR_KVM_POLL_CONTROL, control), done()]
  using guest = new VectorsGuest({
    report: false,
    script,
    // So long that every sleep is short, and makes KVM poll at the next.
    prepare: (vm) => vm.enableCap('KVM_CAP_HALT_POLL', { maxNs: 1_000_000_000 }),
  })
  await new Promise<void>((ready) => guest.vcpu.start(() => ready()))
  for (let round = 1; round <= ROUNDS; round++) {
    guest.vm.signalMsi(encodeMsi({ destination: 0, vector: 0x61 }))
    await waitUntil(() => guest.taken(0x61) === round)
  }
  await guest.vcpu.stop()
  using stats = guest.vcpu.getStatsFd()
  return Number(stats.read().get('halt_attempted_poll'))
}

test('the host polls when the guest lets it, and not otherwise', async (context) => {
  needs('KVM_CAP_HALT_POLL')(context)
  needs('KVM_CAP_BINARY_STATS_FD')(context)
  expect(await polls(1)).toBeGreaterThan(0)
  expect(await polls(0)).toBe(0)
})
