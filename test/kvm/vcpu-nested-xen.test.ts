// What only some kernels have: nested state, Xen, pre-faulting, TDX. Elsewhere, the refusal.
// covers: KVM_GET_NESTED_STATE@vcpu KVM_SET_NESTED_STATE@vcpu
// covers: KVM_XEN_VCPU_GET_ATTR@vcpu KVM_XEN_VCPU_SET_ATTR@vcpu
// covers: KVM_PRE_FAULT_MEMORY@vcpu KVM_MEMORY_ENCRYPT_OP@vcpu

import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  KVM_GET_NESTED_STATE,
  KVM_PRE_FAULT_MEMORY,
  KVM_SET_NESTED_STATE,
  KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL,
  KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_ADDR,
  KVM_XEN_VCPU_ATTR_TYPE_TIMER,
  KVM_XEN_VCPU_ATTR_TYPE_UPCALL_VECTOR,
  KVM_XEN_VCPU_ATTR_TYPE_VCPU_ID,
  KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO,
  KVM_XEN_VCPU_GET_ATTR,
  KVM_XEN_VCPU_SET_ATTR,
} from '../../src/uapi/index.js'
import { createGuest, type Guest, HALT } from '../helpers/guest.js'
import { capability, needs, needsNo } from '../helpers/probe.js'
import { expectMissing } from '../helpers/refusal.js'
import { codeOf, thrownBy } from '../helpers/thrown.js'

let guest: Guest
beforeEach(() => {
  guest = createGuest(HALT, { irqchip: true })
})
afterEach(() => guest.close())

describe('nested state', () => {
  beforeEach(needs('KVM_CAP_NESTED_STATE'))

  test('comes back', () => {
    const { kvm, vcpu } = guest
    vcpu.setCpuid2(kvm.getSupportedCpuid())
    const state = vcpu.getNestedState()
    expect(128 + state.data.length).toBeLessThanOrEqual(capability('KVM_CAP_NESTED_STATE'))
    vcpu.setNestedState(state)
    expect(vcpu.getNestedState()).toEqual(state)
  })

  test('refuses more than KVM takes, and what is no state', () => {
    const { vcpu } = guest
    const state = vcpu.getNestedState()
    const data = new Uint8Array(capability('KVM_CAP_NESTED_STATE'))
    expect(codeOf(() => vcpu.setNestedState({ ...state, data }))).toBe('ERR_OUT_OF_RANGE')
    expect(codeOf(() => vcpu.setNestedState({ ...state, flags: 0x8000 }))).toBe('EINVAL')
    expect(codeOf(() => vcpu.setNestedState(null as never))).toBe('ERR_INVALID_ARG_TYPE')
  })
})

test('nested state is missed by name', (context) => {
  needsNo('KVM_CAP_NESTED_STATE')(context)
  const { vcpu } = guest
  const name = 'KVM_CAP_NESTED_STATE'
  const state = { flags: 0, format: 0, hdr: {}, data: new Uint8Array() }
  expectMissing(vcpu, name, KVM_GET_NESTED_STATE, () => vcpu.getNestedState())
  expectMissing(vcpu, name, KVM_SET_NESTED_STATE, () => vcpu.setNestedState(state as never))
})

describe('Xen', () => {
  beforeEach((context) => {
    needs('KVM_CAP_XEN_HVM')(context)
    guest.vm.xenHvmConfig({ flags: KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL, msr: 0x4000_0000 })
  })

  test.each([
    ['the vCPU id', KVM_XEN_VCPU_ATTR_TYPE_VCPU_ID, { vcpu_id: 5 }],
    ['the upcall vector', KVM_XEN_VCPU_ATTR_TYPE_UPCALL_VECTOR, { vector: 0x31 }],
    ['the place of vcpu_info', KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO, { gpa: 0x4000n }],
    ['the place of the run state', KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_ADDR, { gpa: 0x5000n }],
  ])('%s comes back', (_what, type, u) => {
    guest.vcpu.xenVcpuSetAttr({ type, u })
    expect(guest.vcpu.xenVcpuGetAttr(type)).toEqual({ type, u })
  })

  test('the timer comes back', () => {
    const u = { timer: { port: 0, priority: 0, expires_ns: 0n } }
    guest.vcpu.xenVcpuSetAttr({ type: KVM_XEN_VCPU_ATTR_TYPE_TIMER, u })
    expect(guest.vcpu.xenVcpuGetAttr(KVM_XEN_VCPU_ATTR_TYPE_TIMER).u.timer?.expires_ns).toBe(0n)
  })

  test('vcpu_info can be in RAM that no slot has', () => {
    guest.vcpu.xenVcpuSetInfoMemory(guest.memory, 0x4000)
    expect(guest.vcpu.run({ timeoutMs: 20 }).type).toBe('intr')
    expect(codeOf(() => guest.vcpu.xenVcpuSetInfoMemory(guest.memory, 0x10_0000))).toBe(
      'ERR_KVM_GUEST_FAULT',
    )
  })

  test('one that is none is refused, and an address as a number', () => {
    expect(codeOf(() => guest.vcpu.xenVcpuGetAttr(0x1234))).toBe('EINVAL')
    expect(codeOf(() => guest.vcpu.xenVcpuSetAttr({ type: 0x1234, u: {} }))).toBe('EINVAL')
    expect(codeOf(() => guest.vcpu.xenVcpuSetAttr({ type: 9, u: { hva: 4096n } }))).toBe(
      'ERR_INVALID_ARG_VALUE',
    )
  })
})

test('Xen is missed by name', (context) => {
  needsNo('KVM_CAP_XEN_HVM')(context)
  const { vcpu, memory } = guest
  const name = 'KVM_CAP_XEN_HVM'
  const [get, set] = [KVM_XEN_VCPU_GET_ATTR, KVM_XEN_VCPU_SET_ATTR]
  const attr = { type: 6, u: { vcpu_id: 1 } }
  expectMissing(vcpu, name, get, () => vcpu.xenVcpuGetAttr(6))
  expectMissing(vcpu, name, set, () => vcpu.xenVcpuSetAttr(attr))
  expectMissing(vcpu, name, set, () => vcpu.xenVcpuSetInfoMemory(memory, 0))
})

describe('pre-faulting', () => {
  beforeEach(needs('KVM_CAP_PRE_FAULT_MEMORY'))

  test('fills a range', () => {
    const left = guest.vcpu.preFaultMemory(0, 0x4000)
    expect(left.gpa + left.size).toBe(0x4000)
    guest.vcpu.populateMemory(0, 0x10_0000)
  })

  test('refuses what is not aligned, and where no slot is', () => {
    expect(codeOf(() => guest.vcpu.preFaultMemory(1, 4096))).toBe('EINVAL')
    expect(codeOf(() => guest.vcpu.preFaultMemory(0x4000_0000, 4096))).toBe('ENOENT')
  })
})

test('pre-faulting is missed by name', (context) => {
  needsNo('KVM_CAP_PRE_FAULT_MEMORY')(context)
  const { vcpu } = guest
  const missing = (call: () => unknown) =>
    expectMissing(vcpu, 'KVM_CAP_PRE_FAULT_MEMORY', KVM_PRE_FAULT_MEMORY, call)
  missing(() => vcpu.preFaultMemory(0, 4096))
  missing(() => vcpu.populateMemory(0, 4096))
})

describe('TDX commands outside of a TDX guest', () => {
  test.each<[string, (guest: Guest) => unknown]>([
    ['tdxInitVcpu', ({ vcpu }) => vcpu.tdxInitVcpu(1n)],
    ['tdxInitMemRegion', ({ vcpu }) => vcpu.tdxInitMemRegion(0, new Uint8Array(4096))],
    ['tdxGetCpuid', ({ vcpu }) => vcpu.tdxGetCpuid()],
  ])('%s is refused by the kernel', (_name, call) => {
    const refused = {
      // KERNEL: one that does not know the request for vCPUs says EINVAL.
      code: expect.stringMatching(/^(ENOTTY|EINVAL)$/),
      ioctl: expect.stringMatching(/^KVM_MEMORY_ENCRYPT_OP KVM_TDX_/),
    }
    expect(thrownBy(() => call(guest))).toMatchObject(refused)
  })

  test('buffers shorter than what they say are refused before', () => {
    const { vcpu } = guest
    const tdx = { family: 'tdx' as const, name: 'KVM_TDX_TEST' }
    const short = new Uint8Array(4)
    for (const id of [2, 3, 5]) {
      expect(codeOf(() => vcpu.memoryEncryptOp({ ...tdx, id, struct: short }))).toMatch(
        /EFAULT|ENOTTY/,
      )
    }
    const struct = new Uint8Array(24)
    new BigUint64Array(struct.buffer)[2] = 2n // pages
    const source = new Uint8Array(4096)
    expect(codeOf(() => vcpu.memoryEncryptOp({ ...tdx, id: 3, struct, buffers: [source] }))).toBe(
      'EFAULT',
    )
    expect(codeOf(() => vcpu.tdxInitMemRegion(0, new Uint8Array(100)))).toBe('ERR_OUT_OF_RANGE')
    const sev = { family: 'sev' as const, name: 'KVM_SEV_LAUNCH_FINISH', id: 7 }
    expect(codeOf(() => vcpu.memoryEncryptOp(sev))).toBe('ERR_INVALID_ARG_VALUE')
  })
})
