// Application processors by INIT and SIPI, with APIC ids above 255, and interrupts to each.

import { expect, test } from 'vitest'
import { GsiRouting, IrqFd } from '../../src/index.js'
import { encodeMsi } from '../../src/x86/index.js'
import { capability } from '../helpers/probe.js'
import {
  done,
  enableX2apic,
  VectorsGuest,
  waitForProcessors,
  writeMsr,
} from '../helpers/vectors-guest.js'
import { waitUntil } from '../helpers/wait-until.js'

const ICR = 0x830
const ALL_BUT_SELF = 0xc_0000
const INIT = 0x4500
const SIPI = 0x4609
const LAST = 287

const wide = capability('KVM_CAP_X2APIC_API') > 0 && capability('KVM_CAP_MAX_VCPU_ID') > LAST + 13

test.runIf(wide)(
  '287 application processors, ids above 255, an IPI and a message to each',
  async () => {
    // One of them far beyond the others.
    const ids = Array.from({ length: LAST }, (_, i) => (i + 1 === LAST ? 300 : i + 1))
    const ipis = ids.map((id) => writeMsr(ICR, (BigInt(id) << 32n) | 0x4091n))
    const script = [
      ...enableX2apic(),
      writeMsr(ICR, ALL_BUT_SELF + INIT),
      writeMsr(ICR, ALL_BUT_SELF + SIPI),
      waitForProcessors(ids.length),
      ...ipis,
      done(),
      writeMsr(ICR, ALL_BUT_SELF + 0x4092),
    ]
    using guest = new VectorsGuest({
      report: false,
      script,
      // Ids of 32 bits, and 255 an id like any other.
      prepare: (vm) => vm.enableCap('KVM_CAP_X2APIC_API', { flags: 3 }),
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
