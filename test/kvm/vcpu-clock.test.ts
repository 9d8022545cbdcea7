// A vCPU's time: the TSC's rate and offset, kvmclock's pause flag.
// covers: KVM_SET_TSC_KHZ@vcpu KVM_GET_TSC_KHZ@vcpu KVM_KVMCLOCK_CTRL@vcpu
// covers: KVM_SET_DEVICE_ATTR@vcpu KVM_GET_DEVICE_ATTR@vcpu KVM_HAS_DEVICE_ATTR@vcpu

import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET } from '../../src/uapi/index.js'
import { createGuest, type Guest, HALT } from '../helpers/guest.js'
import { needs, needsNo } from '../helpers/probe.js'
import { codeOf, thrownBy } from '../helpers/thrown.js'

let guest: Guest
beforeEach(() => {
  guest = createGuest(HALT, { mode: 'ring0' })
})
afterEach(() => guest.close())

describe('the rate of the TSC', () => {
  test('is told, and can be set to what it is', () => {
    const { vcpu } = guest
    const tscKhz = vcpu.getTscKhz()
    expect(tscKhz).toBeGreaterThan(100_000)
    vcpu.setTscKhz(tscKhz)
    expect(vcpu.getTscKhz()).toBe(tscKhz)
    // The host's, which Linux measures more closely in its first seconds.
    vcpu.setTscKhz(0)
    expect(Math.abs(vcpu.getTscKhz() - tscKhz)).toBeLessThan(tscKhz / 100)
  })

  test('can be another where the CPU scales it', (context) => {
    needs('KVM_CAP_TSC_CONTROL')(context)
    const { vcpu } = guest
    const half = Math.round(vcpu.getTscKhz() / 2)
    vcpu.setTscKhz(half)
    expect(vcpu.getTscKhz()).toBe(half)
  })

  test('cannot be lower elsewhere, and the error says why', (context) => {
    needsNo('KVM_CAP_TSC_CONTROL')(context)
    const { vcpu } = guest
    const error = thrownBy(() => vcpu.setTscKhz(1000)) as Error
    expect(error).toMatchObject({ code: 'EINVAL', ioctl: 'KVM_SET_TSC_KHZ' })
    expect(error.message).toMatch(/KVM_CAP_TSC_CONTROL/)
  })

  test('is a number of kHz', () => {
    expect(codeOf(() => guest.vcpu.setTscKhz(-1))).toBe('ERR_OUT_OF_RANGE')
    expect(codeOf(() => guest.vcpu.setTscKhz('1' as never))).toBe('ERR_INVALID_ARG_TYPE')
  })
})

test('kvmclock: the guest is told of a pause once it uses it', () => {
  const { kvm, vcpu } = guest
  expect(codeOf(() => vcpu.kvmclockCtrl())).toBe('EINVAL')
  vcpu.setCpuid2(kvm.getSupportedCpuid())
  vcpu.setMsrs([{ index: 0x4b56_4d01, data: 0x6001n }]) // MSR_KVM_SYSTEM_TIME_NEW, enabled
  expect(vcpu.run().type).toBe('hlt')
  vcpu.kvmclockCtrl()
  vcpu.updateRegs({ rip: 0x8000n })
  expect(vcpu.run().type).toBe('hlt')
  const PVCLOCK_GUEST_STOPPED = 2
  expect(guest.memory.readU8(0x6000 + 29) & PVCLOCK_GUEST_STOPPED).toBe(PVCLOCK_GUEST_STOPPED)
})

/** Whether the guest's TSC can differ from the host's: not on every software backend. */
function shiftsTsc(): boolean {
  const TSC = 0x10
  using probe = createGuest(HALT)
  probe.vcpu.setMsrs([{ index: TSC, data: 0n }])
  const second = BigInt(probe.vcpu.getTscKhz()) * 1000n
  return probe.vcpu.getMsrs([TSC])[0]!.data < 100n * second
}

const OFFSET = [KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET] as const
describe('attributes', () => {
  beforeEach(needs('KVM_CAP_VCPU_ATTRIBUTES'))

  test('the TSC offset comes back, all 64 bits of it', () => {
    const { vcpu } = guest
    expect(vcpu.hasDeviceAttr(...OFFSET)).toBe(true)
    const shifts = shiftsTsc()
    for (const offset of [0n, 12345n, 0xffff_ffff_0000_0000n]) {
      vcpu.setDeviceAttr(...OFFSET, offset)
      expect(vcpu.getDeviceAttr(...OFFSET)).toBe(shifts ? offset : 0n)
    }
  })

  test('one that is none is refused', () => {
    const { vcpu } = guest
    expect(vcpu.hasDeviceAttr(KVM_VCPU_TSC_CTRL, 77)).toBe(false)
    expect(codeOf(() => vcpu.getDeviceAttr(KVM_VCPU_TSC_CTRL, 77))).toBe('ENXIO')
    expect(codeOf(() => vcpu.setDeviceAttr(KVM_VCPU_TSC_CTRL, 77, 0n))).toBe('ENXIO')
  })

  test('a value has 64 bits', () => {
    expect(codeOf(() => guest.vcpu.setDeviceAttr(...OFFSET, -1n))).toBe('ERR_OUT_OF_RANGE')
    expect(codeOf(() => guest.vcpu.setDeviceAttr(...OFFSET, 1 as never))).toBe(
      'ERR_INVALID_ARG_TYPE',
    )
  })
})

describe('attributes on a kernel without them', () => {
  beforeEach(needsNo('KVM_CAP_VCPU_ATTRIBUTES'))

  test.each([
    ['hasDeviceAttr', () => guest.vcpu.hasDeviceAttr(...OFFSET)],
    ['getDeviceAttr', () => guest.vcpu.getDeviceAttr(...OFFSET)],
    ['setDeviceAttr', () => guest.vcpu.setDeviceAttr(...OFFSET, 0n)],
  ])('%s names the capability', (_name, call) => {
    const missing = { code: 'ERR_KVM_CAP_MISSING', capability: 'KVM_CAP_VCPU_ATTRIBUTES' }
    expect(thrownBy(call)).toMatchObject(missing)
  })
})
