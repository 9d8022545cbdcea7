// Routes that lead to hypervisor interfaces: Hyper-V's synthetic interrupts, Xen's event channels.

import { describe, expect, test } from 'vitest'
import { GsiRouting } from '../../src/index.js'
import { KVM_XEN_HVM_CONFIG_EVTCHN_2LEVEL } from '../../src/uapi/index.js'
import { capability, has } from '../helpers/probe.js'
import { codeOf } from '../helpers/thrown.js'
import { done, enableX2apic, VectorsGuest } from '../helpers/vectors-guest.js'

const GSI = 50
const HV_SCONTROL = 0x4000_0080
const HV_SINT0 = 0x4000_0090
const SINT = 2
const VECTOR = 0x71
const AUTO_EOI = 0x2_0000n

const guestWithRoutes = () => {
  const guest = new VectorsGuest({ script: [...enableX2apic(), done()] })
  guest.untilDone()
  return { guest, routing: GsiRouting.of(guest.vm) }
}

describe('Hyper-V SynIC', () => {
  const route = { type: 'hypervSynic', vcpu: 0, sint: SINT } as const

  test('a route raises the vector of the vCPU’s SINT', (context) => {
    if (!has('KVM_CAP_HYPERV_SYNIC2')) context.skip('this KVM lacks KVM_CAP_HYPERV_SYNIC2')
    const { guest, routing } = guestWithRoutes()
    using _ = guest
    guest.vcpu.enableCap('KVM_CAP_HYPERV_SYNIC2')
    guest.vcpu.setMsrs([
      { index: HV_SCONTROL, data: 1n },
      { index: HV_SINT0 + SINT, data: BigInt(VECTOR) + AUTO_EOI },
    ])
    routing.update((routes) => routes.set(GSI, route))
    expect(guest.vm.irqLineStatus(GSI, true)).toBeGreaterThan(0)
    expect(guest.nextVector()).toBe(VECTOR)
  })

  test('a vCPU without SynIC takes nothing, whether or not the route is refused', () => {
    const { guest, routing } = guestWithRoutes()
    using _ = guest
    const set = () => routing.update((routes) => routes.set(GSI, route))
    if (has('KVM_CAP_HYPERV_SYNIC')) {
      set()
      expect(guest.vm.irqLineStatus(GSI, true)).toBeLessThanOrEqual(0)
    } else {
      expect(codeOf(set)).toBe('EINVAL')
      expect(routing.get(GSI)).toEqual([])
    }
    guest.quietFor(20)
  })
})

test('a Xen event channel is a route where KVM has them', () => {
  const { guest, routing } = guestWithRoutes()
  using _ = guest
  const route = { type: 'xen', port: 5, vcpu: 0 } as const
  const set = () => routing.update((routes) => routes.set(GSI, route))
  if ((capability('KVM_CAP_XEN_HVM') & KVM_XEN_HVM_CONFIG_EVTCHN_2LEVEL) !== 0) {
    set()
    expect(routing.get(GSI)).toEqual([route])
    // Without a shared info page there is no channel to raise.
    expect(guest.vm.irqLineStatus(GSI, true)).toBeLessThanOrEqual(0)
    const beyond = { ...route, port: 2 ** 31 }
    expect(codeOf(() => routing.update((routes) => routes.set(GSI + 1, beyond)))).toBe('EINVAL')
  } else {
    expect(codeOf(set)).toBe('EINVAL')
    expect(routing.get(GSI)).toEqual([])
  }
  guest.quietFor(20)
})
