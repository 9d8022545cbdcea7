// Application processors by INIT and SIPI, with APIC ids above 255, and interrupts to each.

import { describe, expect, test } from 'vitest'
import { GsiRouting, IrqFd, startApplicationProcessors, type Vm } from '../../src/index.js'
import { encodeIpi, encodeMsi, startupVector } from '../../src/x86/index.js'
import { layout } from '../helpers/guests/vectors.js'
import { capability } from '../helpers/probe.js'
import { codeOf } from '../helpers/thrown.js'
import {
  done,
  enableX2apic,
  VectorsGuest,
  waitForProcessors,
  writeMsr,
} from '../helpers/vectors-guest.js'
import { waitUntil } from '../helpers/wait-until.js'

const ICR = 0x830
const LAST = 287
const toOthers = { shorthand: 'allExcludingSelf' } as const

const wide = capability('KVM_CAP_X2APIC_API') > 0 && capability('KVM_CAP_MAX_VCPU_ID') > LAST + 13
/** Ids of 32 bits, and 255 an id like any other. */
const wideIds = (vm: Vm) => vm.enableCap('KVM_CAP_X2APIC_API', { flags: 3 })

test.runIf(wide)(
  '287 application processors, ids above 255, an IPI and a message to each',
  async () => {
    // One of them far beyond the others.
    const ids = Array.from({ length: LAST }, (_, i) => (i + 1 === LAST ? 300 : i + 1))
    const ipis = ids.map((id) => writeMsr(ICR, encodeIpi({ destination: id, vector: 0x91 })))
    const script = [
      ...enableX2apic(),
      writeMsr(ICR, encodeIpi({ ...toOthers, delivery: 'init' })),
      writeMsr(
        ICR,
        encodeIpi({ ...toOthers, delivery: 'startup', vector: startupVector(layout.gpa) }),
      ),
      waitForProcessors(ids.length),
      ...ipis,
      done(),
      writeMsr(ICR, encodeIpi({ ...toOthers, vector: 0x92 })),
    ]
    using guest = new VectorsGuest({
      report: false,
      script,
      prepare: wideIds,
    })
    for (const id of ids) guest.addVcpu(id)
    let told = 0
    for (const vcpu of guest.vcpus) {
      vcpu.start((exit) => {
        expect(exit.type).toBe('io')
        told++
      })
    }
    await waitUntil(() => told === 1, 30_000)
    await waitUntil(() => ids.every((id) => guest.takenBy(id) === 2), 30_000) // IPI, broadcast
    expect(guest.online).toBe(ids.length)
    for (const id of ids) {
      expect(guest.vm.signalMsi(encodeMsi({ destination: id, vector: 0x93 }, 'x2apic'))).toBe(1)
    }
    await waitUntil(() => ids.every((id) => guest.takenBy(id) === 3), 30_000)
    // The same by a route and an irqfd, to the one with the widest id.
    const message = encodeMsi({ destination: 300, vector: 0x94 }, 'x2apic')
    GsiRouting.of(guest.vm).update((routes) => routes.set(40, { type: 'msi', ...message }))
    using irq = IrqFd.create(guest.vm, { gsi: 40 })
    irq.raise()
    await waitUntil(() => guest.takenBy(300) === 4)
    expect(guest.taken(0x94)).toBe(1)
    await Promise.all(guest.vcpus.map((vcpu) => vcpu.stop()))
    expect(ids.every((id) => guest.takenBy(id) === (id === 300 ? 4 : 3))).toBe(true)
  },
  90_000,
)

/** The first processor has told the others where the page tables are. */
function guestWithTables(prepare?: (vm: Vm) => void): VectorsGuest {
  const guest = new VectorsGuest({ report: false, script: [done()], ...(prepare && { prepare }) })
  guest.untilDone()
  return guest
}

describe.each(['mpState', 'ipi'] as const)('started from outside, by %s', (by) => {
  const ids = [1, 2, 255, 300]

  test('each begins at the entry, and takes messages', async (context) => {
    if (!wide) context.skip('no APIC ids above 255 (KVM_CAP_X2APIC_API, KVM_CAP_MAX_VCPU_ID)')
    using guest = guestWithTables(wideIds)
    const processors = ids.map((id) => guest.addVcpu(id))
    startApplicationProcessors(processors.slice(0, 2), layout.gpa, { by })
    for (const vcpu of processors) vcpu.start(() => {})
    if (by === 'ipi') startApplicationProcessors(processors.slice(2), layout.gpa, { by })
    await waitUntil(() => guest.online === (by === 'ipi' ? 4 : 2))
    for (const id of by === 'ipi' ? ids : ids.slice(0, 2)) {
      guest.vm.signalMsi(encodeMsi({ destination: id, vector: 0x95 }, 'x2apic'))
      await waitUntil(() => guest.takenBy(id) === 1)
    }
    await Promise.all(processors.map((vcpu) => vcpu.stop()))
  })

  test('a processor that runs already', async () => {
    using guest = guestWithTables()
    const processor = guest.addVcpu(1)
    startApplicationProcessors([processor], layout.gpa)
    processor.start(() => {})
    await waitUntil(() => guest.online === 1)
    const again = () => startApplicationProcessors([processor], layout.gpa, { by })
    if (by === 'mpState') expect(codeOf(again)).toBe('ERR_KVM_BUSY')
    else {
      again()
      await waitUntil(() => guest.online === 2)
    }
    await processor.stop()
  })
})

test('what is no processor, entry or LAPIC is refused', () => {
  using guest = new VectorsGuest()
  using stranger = new VectorsGuest({ irqchip: 'none' })
  expect(codeOf(() => startApplicationProcessors([guest.vcpu], 0x9001))).toBe('ERR_OUT_OF_RANGE')
  expect(codeOf(() => startApplicationProcessors([guest.vcpu], 0x10_0000))).toBe('ERR_OUT_OF_RANGE')
  expect(codeOf(() => startApplicationProcessors([{} as never], 0))).toBe('ERR_INVALID_ARG_TYPE')
  expect(codeOf(() => startApplicationProcessors([], 0, { by: 'x' as never }))).toBe(
    'ERR_INVALID_ARG_TYPE',
  )
  expect(codeOf(() => startApplicationProcessors([stranger.vcpu], 0))).toBe('EINVAL')
  expect(codeOf(() => startApplicationProcessors([stranger.vcpu], 0, { by: 'ipi' }))).toBe('EINVAL')
})
