// What the LAPIC does with destinations and with its local inputs.

import { describe, expect, test } from 'vitest'
import { Kvm, startApplicationProcessors } from '../../src/index.js'
import { encodeBits, encodeIpi, encodeMsi, LAPIC_LVT, type Msi } from '../../src/x86/index.js'
import { layout } from '../helpers/guests/vectors.js'
import {
  done,
  enableX2apic,
  enableXapic,
  initPics,
  type Operation,
  VectorsGuest,
  writeMsr,
  writeU32,
} from '../helpers/vectors-guest.js'
import { waitUntil } from '../helpers/wait-until.js'

const APIC = 0xfee0_0000
const ICR = 0x830
const logical = (destination: number, vector: number): Msi => ({
  destination,
  vector,
  destinationMode: 'logical',
  redirectionHint: false,
  delivery: 'fixed',
  level: 'assert',
  trigger: 'edge',
})

describe('logical destinations of the xAPIC', () => {
  const guestWith = (ldr: number, dfr: number) => {
    const script = [enableXapic(), writeU32(APIC + 0xd0, ldr), writeU32(APIC + 0xe0, dfr), done()]
    const guest = new VectorsGuest({ eoi: 'xapic', script })
    guest.untilDone()
    return guest
  }

  test('flat: a bit for each processor', () => {
    using guest = guestWith(0x0200_0000, 0xffff_ffff)
    expect(guest.vm.signalMsi(encodeMsi(logical(0b0010, 0x61)))).toBe(1)
    expect(guest.nextVector()).toBe(0x61)
    expect(guest.vm.signalMsi(encodeMsi(logical(0b0111, 0x62)))).toBe(1)
    expect(guest.nextVector()).toBe(0x62)
    expect(guest.vm.signalMsi(encodeMsi(logical(0b1101, 0x63)))).toBeLessThanOrEqual(0)
    guest.quietFor(20)
  })

  test('clusters: four bits for the cluster, four for its members', () => {
    using guest = guestWith(0x2100_0000, 0x0fff_ffff)
    expect(guest.vm.signalMsi(encodeMsi(logical(0x21, 0x61)))).toBe(1)
    expect(guest.nextVector()).toBe(0x61)
    for (const absent of [0x11, 0x22]) {
      expect(guest.vm.signalMsi(encodeMsi(logical(absent, 0x62)))).toBeLessThanOrEqual(0)
    }
    guest.quietFor(20)
  })
})

describe('destinations of the x2APIC', () => {
  const IDS = [1, 2, 17]
  /** Ids 0, 1, 2 are members of cluster 0, id 17 of cluster 1. */
  const inCluster = (cluster: number, members: number) => cluster * 0x1_0000 + members

  async function guestWith(then: Operation[] = []): Promise<VectorsGuest> {
    const guest = new VectorsGuest({
      report: false,
      script: [...enableX2apic(), done(), ...then],
      prepare: (vm) => vm.enableCap('KVM_CAP_X2APIC_API', { flags: 3 }),
    })
    const others = IDS.map((id) => guest.addVcpu(id))
    guest.untilDone()
    startApplicationProcessors(others, layout.gpa)
    for (const vcpu of others) vcpu.start(() => {})
    await waitUntil(() => guest.online === IDS.length)
    return guest
  }
  const taken = (guest: VectorsGuest) => [0, ...IDS].map((id) => guest.takenBy(id))
  const stop = (guest: VectorsGuest) => Promise.all(guest.vcpus.map((vcpu) => vcpu.stop()))

  test('a message to members of a cluster reaches each of them', async () => {
    using guest = await guestWith()
    const send = (destination: number) =>
      guest.vm.signalMsi(encodeMsi(logical(destination, 0x61), 'x2apic'))
    expect(send(inCluster(0, 0b110))).toBe(2)
    await waitUntil(() => `${taken(guest)}` === '0,1,1,0')
    expect(send(inCluster(1, 0b10))).toBe(1)
    await waitUntil(() => `${taken(guest)}` === '0,1,1,1')
    expect(send(inCluster(2, 0xffff))).toBeLessThanOrEqual(0)
    await stop(guest)
  })

  test('lowest priority: one of them takes it', async () => {
    using guest = await guestWith()
    const message = { ...logical(inCluster(0, 0b110), 0x62), delivery: 'lowestPriority' } as const
    expect(guest.vm.signalMsi(encodeMsi(message, 'x2apic'))).toBe(1)
    await waitUntil(() => guest.takenBy(1) + guest.takenBy(2) === 1)
    expect([guest.takenBy(0), guest.takenBy(17)]).toEqual([0, 0])
    await stop(guest)
  })

  test('a broadcast reaches all, by message and by shorthand', async () => {
    const all = encodeIpi({ shorthand: 'allIncludingSelf', vector: 0x64 })
    using guest = await guestWith([writeMsr(ICR, all)])
    const message = encodeMsi({ destination: 0xffff_ffff, vector: 0x63 }, 'x2apic')
    expect(guest.vm.signalMsi(message)).toBe(4)
    await waitUntil(() => `${taken(guest).slice(1)}` === '1,1,1')
    guest.vcpu.start(() => {})
    await waitUntil(() => `${taken(guest)}` === '2,2,2,2')
    await stop(guest)
  })

  test('IPIs to a cluster, to one and to itself', async () => {
    const cluster = inCluster(0, 0b110)
    const ipis = [
      encodeIpi({ destination: cluster, destinationMode: 'logical', vector: 0x65 }),
      encodeIpi({ destination: 17, vector: 0x66 }),
      encodeIpi({ shorthand: 'self', vector: 0x67 }),
    ]
    using guest = await guestWith(ipis.map((ipi) => writeMsr(ICR, ipi)))
    guest.vcpu.start(() => {})
    await waitUntil(() => `${taken(guest)}` === '1,1,1,1')
    expect([0x65, 0x66, 0x67].map((vector) => guest.taken(vector))).toEqual([2, 1, 1])
    await stop(guest)
  })
})

describe('LINT0', () => {
  const guestWith = (masked: boolean) => {
    const guest = new VectorsGuest({ eoi: 'pic', script: [...initPics(), enableXapic(), done()] })
    guest.untilDone()
    const entry = Number(encodeBits(LAPIC_LVT, { delivery: 'extint', masked }))
    guest.vcpu.updateLapic((lapic) => lapic.set('LVT_LINT0', entry))
    return guest
  }

  test('as ExtINT it lets the PIC through', () => {
    using guest = guestWith(false)
    guest.vm.irqLine(4, true)
    expect(guest.nextVector()).toBe(0x24)
  })

  test('masked it does not', () => {
    using guest = guestWith(true)
    guest.vm.irqLine(4, true)
    guest.quietFor(20)
    expect(guest.taken(0x24)).toBe(0)
  })
})

test('the bootstrap processor is the one that was said', () => {
  using kvm = Kvm.open()
  using vm = kvm.createVm()
  vm.createIrqchip()
  vm.setBootCpuId(1)
  using first = vm.createVcpu(0)
  using second = vm.createVcpu(1)
  const BSP = 0x100n
  expect([first, second].map((vcpu) => vcpu.getSregs().apic_base & BSP)).toEqual([0n, BSP])
  // The other waits for INIT and SIPI.
  expect(first.run({ timeoutMs: 20 }).type).toBe('intr')
})
