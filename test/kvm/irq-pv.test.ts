// Paravirtual features of KVM, with a guest that uses them: what CPUID has to say, and what each does.

import { existsSync, readFileSync } from 'node:fs'
import { beforeEach, describe, expect, test } from 'vitest'
import type { KvmCpuidEntry2 } from '../../src/uapi/index.js'
import {
  CPUID_FEATURE_WORDS,
  encodeIpi,
  encodeMsi,
  findCpuidEntry,
  MSR,
  startupVector,
} from '../../src/x86/index.js'
import { createGuest, HALT } from '../helpers/guest.js'
import { layout } from '../helpers/guests/vectors.js'
import { needs } from '../helpers/probe.js'
import { thrownBy } from '../helpers/thrown.js'
import {
  done,
  enableX2apic,
  hypercall,
  hypercallsWork,
  keepsInService,
  type Operation,
  PV_EOI,
  VectorsGuest,
  waitForProcessors,
  writeMsr,
} from '../helpers/vectors-guest.js'
import { waitUntil } from '../helpers/wait-until.js'

const KVM_FEATURES = 0x4000_0001
const ICR = 0x830
const KICK_CPU = 5
const SEND_IPI = 10
const SCHED_YIELD = 11
const ENOSYS = -1000n

/** Leaves a guest these features of KVM's and no others. */
const only =
  (...bits: number[]) =>
  (table: KvmCpuidEntry2[]) => {
    findCpuidEntry(table, KVM_FEATURES)!.eax = bits.reduce((sum, bit) => sum + 2 ** bit, 0)
  }

describe('with KVM_CAP_ENFORCE_PV_FEATURE_CPUID an MSR needs its bit', () => {
  beforeEach(needs('KVM_CAP_ENFORCE_PV_FEATURE_CPUID'))

  test.each([
    ['kvm_clocksource', 0, 'MSR_KVM_SYSTEM_TIME', 0x6001n],
    ['kvm_clocksource', 0, 'MSR_KVM_WALL_CLOCK', 0x6000n],
    ['kvm_clocksource2', 3, 'MSR_KVM_SYSTEM_TIME_NEW', 0x6001n],
    ['kvm_clocksource2', 3, 'MSR_KVM_WALL_CLOCK_NEW', 0x6000n],
    ['kvm_async_pf', 4, 'MSR_KVM_ASYNC_PF_EN', 0x6001n],
    ['kvm_async_pf_int', 14, 'MSR_KVM_ASYNC_PF_INT', 0x41n],
    ['kvm_async_pf_int', 14, 'MSR_KVM_ASYNC_PF_ACK', 1n],
    ['kvm_steal_time', 5, 'MSR_KVM_STEAL_TIME', 0x6001n],
    ['kvm_pv_eoi', 6, 'MSR_KVM_PV_EOI_EN', 0x6001n],
    ['kvm_poll_control', 12, 'MSR_KVM_POLL_CONTROL', 1n],
  ] as const)('%s (bit %i): %s', (name, bit, msrName, data) => {
    const named = CPUID_FEATURE_WORDS.flatMap(({ leaf, bits }) =>
      leaf === KVM_FEATURES ? Object.entries(bits) : [],
    )
    expect(named).toContainEqual([name, bit])
    const index = MSR[msrName]
    const set = (...features: number[]) => {
      using guest = createGuest(HALT, { irqchip: true })
      const table = guest.kvm.getSupportedCpuid()
      only(...features)(table)
      guest.vcpu.setCpuid2(table)
      guest.vcpu.enableCap('KVM_CAP_ENFORCE_PV_FEATURE_CPUID')
      guest.vcpu.setMsrs([{ index, data }])
    }
    set(bit)
    expect(thrownBy(() => set())).toMatchObject({ code: 'EINVAL', msr: index })
  })
})

/** Whether the CPU does EOIs without an exit: then KVM has nothing to spare. */
const hardwareDoesEoi = () =>
  ['kvm_intel/parameters/enable_apicv', 'kvm_amd/parameters/avic'].some((parameter) => {
    const file = `/sys/module/${parameter}`
    return existsSync(file) && readFileSync(file, 'utf8').startsWith('Y')
  })

describe('PV EOI', () => {
  test('KVM says which interrupts need no EOI, and none is lost', async () => {
    const script = [...enableX2apic(), writeMsr(MSR.MSR_KVM_PV_EOI_EN, PV_EOI + 1), done()]
    using guest = new VectorsGuest({ eoi: 'pv', report: false, script })
    let ready = false
    guest.vcpu.start(() => {
      ready = true
    })
    await waitUntil(() => ready)
    const rounds = 50
    for (let round = 1; round <= rounds; round++) {
      guest.vm.signalMsi(encodeMsi({ destination: 0, vector: 0x61 }))
      await waitUntil(() => guest.taken(0x61) === round)
    }
    await guest.vcpu.stop()
    // An engine that acknowledges at delivery leaves nothing to skip. Of the others some skips fail:
    // any exit between the interrupt and its EOI takes KVM's word back.
    const skips = keepsInService() && !hardwareDoesEoi()
    expect(guest.skippedEois > 0).toBe(skips)
    expect(guest.skippedEois).toBeLessThanOrEqual(rounds)
    expect(guest.taken(0x61)).toBe(rounds)
  })
})

/** Two processors beside the first, which then does `then`. */
async function withTwoOthers(
  then: Operation[],
  hypercalls: readonly (readonly bigint[])[],
  cpuid?: (table: KvmCpuidEntry2[]) => void,
  enforce = false,
): Promise<VectorsGuest> {
  const others = { shorthand: 'allExcludingSelf' } as const
  const script = [
    ...enableX2apic(),
    writeMsr(ICR, encodeIpi({ ...others, delivery: 'init' })),
    writeMsr(ICR, encodeIpi({ ...others, delivery: 'startup', vector: startupVector(layout.gpa) })),
    waitForProcessors(2),
    ...then,
    done(),
  ]
  const guest = new VectorsGuest({ report: false, script, hypercalls, ...(cpuid && { cpuid }) })
  for (const id of [1, 2]) guest.addVcpu(id)
  if (enforce) guest.vcpu.enableCap('KVM_CAP_ENFORCE_PV_FEATURE_CPUID')
  let told = 0
  for (const vcpu of guest.vcpus) {
    vcpu.start(() => {
      told++
    })
  }
  await waitUntil(() => told === 1)
  return guest
}

async function stop(guest: VectorsGuest): Promise<void> {
  await Promise.all(guest.vcpus.map((vcpu) => vcpu.stop()))
  guest.close()
}

const needsHypercalls = (context: { skip(reason?: string): void }) => {
  if (!hypercallsWork()) context.skip('a hypercall from ring 0 does not come back here')
}

describe('hypercalls', () => {
  test('KVM_HC_SEND_IPI: one call, an interrupt to each processor of a set', async (context) => {
    needsHypercalls(context)
    // Those whose ids are the lowest and the next.
    const guest = await withTwoOthers([hypercall(0, SEND_IPI)], [[0b11n, 0n, 1n, 0x91n]])
    await waitUntil(() => guest.takenBy(1) === 1 && guest.takenBy(2) === 1)
    await stop(guest)
  })

  test('KVM_HC_KICK_CPU wakes a processor without an interrupt', async (context) => {
    needsHypercalls(context)
    const guest = await withTwoOthers([hypercall(0, KICK_CPU)], [[0n, 2n]])
    await waitUntil(() => guest.woken === 1)
    expect([guest.takenBy(1), guest.takenBy(2)]).toEqual([0, 0])
    await stop(guest)
  })

  test('results: how many it reached; -KVM_ENOSYS for what CPUID does not offer', async (context) => {
    needsHypercalls(context)
    needs('KVM_CAP_ENFORCE_PV_FEATURE_CPUID')(context)
    const calls = [hypercall(0, SEND_IPI), hypercall(1, KICK_CPU), hypercall(2, SCHED_YIELD)]
    const args = [[0b11n, 0n, 1n, 0x91n], [0n, 2n], [2n]]
    const results = async (bits: number[]) => {
      const guest = await withTwoOthers(calls, args, only(...bits), true)
      const each = [0, 1, 2].map((index) => guest.hypercallResult(index))
      await stop(guest)
      return each
    }
    expect(await results([7, 11, 13])).toEqual([2n, 0n, 0n])
    expect(await results([])).toEqual([ENOSYS, ENOSYS, ENOSYS])
  })
})

test('where a hypercall does not come back, the vCPU can still be stopped', async (context) => {
  if (hypercallsWork()) context.skip('hypercalls come back here')
  using guest = new VectorsGuest({
    script: [hypercall(0, KICK_CPU), done()],
    hypercalls: [[0n, 0n]],
  })
  expect(guest.vcpu.run({ timeoutMs: 50 }).type).toBe('intr')
  guest.vcpu.start(() => {})
  await guest.vcpu.stop()
})
