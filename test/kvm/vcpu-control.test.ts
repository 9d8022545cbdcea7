// A vCPU as an object of the kernel: signals during KVM_RUN, capabilities, statistics.
// covers: KVM_SET_SIGNAL_MASK@vcpu KVM_RUN@vcpu KVM_ENABLE_CAP@vcpu KVM_GET_STATS_FD@vcpu

import { describe, expect, test } from 'vitest'
import { createGuest, HALT, SPIN } from '../helpers/guest.js'
import { has, needs } from '../helpers/probe.js'
import { codeOf, thrownBy } from '../helpers/thrown.js'

const ALL = 2n ** 64n - 1n

test('with every signal blocked a run can still be ended', () => {
  using guest = createGuest(SPIN)
  const { vcpu } = guest
  vcpu.setSignalMask(ALL)
  expect(vcpu.run({ timeoutMs: 20 }).type).toBe('intr')
  vcpu.kick()
  expect(vcpu.run().type).toBe('intr')
  vcpu.setSignalMask(null)
  expect(vcpu.run({ timeoutMs: 20 }).type).toBe('intr')
})

test('so can a vCPU on a thread of its own', async () => {
  using guest = createGuest(SPIN)
  guest.vcpu.setSignalMask(ALL)
  guest.vcpu.start(() => {})
  await guest.vcpu.stop()
})

test('a mask that lets everything through leaves the guest running', () => {
  using guest = createGuest(HALT)
  guest.vcpu.setSignalMask(0n)
  expect(guest.vcpu.run().type).toBe('hlt')
})

test('a mask is 64 bits or null', () => {
  using guest = createGuest(HALT)
  expect(codeOf(() => guest.vcpu.setSignalMask(-1n))).toBe('ERR_OUT_OF_RANGE')
  expect(codeOf(() => guest.vcpu.setSignalMask(1n << 64n))).toBe('ERR_OUT_OF_RANGE')
  expect(codeOf(() => guest.vcpu.setSignalMask(0 as never))).toBe('ERR_INVALID_ARG_TYPE')
  expect(codeOf(() => guest.vcpu.setSignalMask(undefined as never))).toBe('ERR_INVALID_ARG_TYPE')
})

describe('capabilities of a vCPU', () => {
  test('are enabled by name', (context) => {
    needs('KVM_CAP_ENFORCE_PV_FEATURE_CPUID')(context)
    using guest = createGuest(HALT)
    expect(guest.vcpu.enableCap('KVM_CAP_ENFORCE_PV_FEATURE_CPUID', { enabled: true })).toBe(0)
    expect(guest.vcpu.enableCap('KVM_CAP_ENFORCE_PV_FEATURE_CPUID', { enabled: false })).toBe(0)
  })

  test('change what the guest may use', (context) => {
    needs('KVM_CAP_ENFORCE_PV_FEATURE_CPUID')(context)
    using guest = createGuest(HALT)
    const SYSTEM_TIME = 0x4b56_4d01
    guest.vcpu.setMsrs([{ index: SYSTEM_TIME, data: 0x6001n }])
    guest.vcpu.enableCap('KVM_CAP_ENFORCE_PV_FEATURE_CPUID')
    const refused = { code: 'EINVAL', msr: SYSTEM_TIME }
    const set = () => guest.vcpu.setMsrs([{ index: SYSTEM_TIME, data: 0x6001n }])
    expect(thrownBy(set)).toMatchObject(refused)
  })

  test('one that is for VMs is refused, by name and by number', () => {
    using guest = createGuest(HALT)
    const { vcpu } = guest
    expect(codeOf(() => vcpu.enableCap('KVM_CAP_HALT_POLL' as never))).toBe('ERR_INVALID_ARG_TYPE')
    expect(codeOf(() => vcpu.enableCap(182))).toBe('EINVAL')
  })

  test.each([
    'KVM_CAP_HYPERV_SYNIC',
    'KVM_CAP_HYPERV_SYNIC2',
    'KVM_CAP_HYPERV_ENLIGHTENED_VMCS',
    'KVM_CAP_HYPERV_DIRECT_TLBFLUSH',
    'KVM_CAP_HYPERV_ENFORCE_CPUID',
  ] as const)('%s is enabled, refused or missed by name', (name) => {
    using guest = createGuest(HALT, { irqchip: true })
    const enable = () => guest.vcpu.enableCap(name)
    if (!has(name)) {
      const missing = { code: 'ERR_KVM_CAP_MISSING', capability: name }
      expect(thrownBy(enable)).toMatchObject(missing)
      return
    }
    // Some are announced by every kernel with Hyper-V, and work on Intel hosts only.
    const { message } = attempt(enable)
    expect(message).toMatch(/^(\d+|E[A-Z]+: .*KVM_ENABLE_CAP.*)$/)
  })
})

function attempt(action: () => number): { message: string } {
  try {
    return { message: String(action()) }
  } catch (error) {
    return error as Error
  }
}

test('statistics count the exits', (context) => {
  needs('KVM_CAP_BINARY_STATS_FD')(context)
  using guest = createGuest([0xe6, 0x10, 0xeb, 0xfc]) // out 0x10, al; again
  using stats = guest.vcpu.getStatsFd()
  expect(stats.id).toMatch(/vcpu-0$/)
  const before = stats.read().get('exits') as bigint
  for (let i = 0; i < 5; i++) guest.vcpu.run()
  expect((stats.read().get('exits') as bigint) - before).toBeGreaterThanOrEqual(5n)
})
