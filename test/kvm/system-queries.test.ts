// What /dev/kvm answers about the host.
// covers: KVM_GET_API_VERSION@system KVM_CREATE_VM@system KVM_CHECK_EXTENSION@system
// covers: KVM_GET_VCPU_MMAP_SIZE@system KVM_GET_SUPPORTED_CPUID@system
// covers: KVM_GET_EMULATED_CPUID@system KVM_GET_SUPPORTED_HV_CPUID@system
// covers: KVM_GET_MSR_INDEX_LIST@system KVM_GET_MSR_FEATURE_INDEX_LIST@system KVM_GET_MSRS@system
// covers: KVM_X86_GET_MCE_CAP_SUPPORTED@system
// covers: KVM_HAS_DEVICE_ATTR@system KVM_GET_DEVICE_ATTR@system

import { afterAll, beforeAll, expect, test } from 'vitest'
import { Kvm } from '../../src/index.js'
import {
  KVM_CAP_NR_MEMSLOTS,
  KVM_CAP_VM_TYPES,
  KVM_GET_SUPPORTED_HV_CPUID,
} from '../../src/uapi/index.js'
import { expectMissing } from '../helpers/refusal.js'
import { codeOf, thrownBy } from '../helpers/thrown.js'

let kvm: Kvm
beforeAll(() => {
  kvm = Kvm.open()
})
afterAll(() => kvm.close())

test('the API has version 12', () => {
  expect(kvm.getApiVersion()).toBe(12)
})

test('a vCPU shares three pages: the run page, port data, the coalesced ring', () => {
  expect(kvm.getVcpuMmapSize()).toBe(3 * 4096)
})

test('a capability has the same answer by name and by number', () => {
  expect(kvm.checkExtension('KVM_CAP_NR_MEMSLOTS')).toBe(kvm.checkExtension(KVM_CAP_NR_MEMSLOTS))
  expect(kvm.checkExtension('KVM_CAP_NR_MEMSLOTS')).toBeGreaterThan(0)
})

test.each([
  ['KVM_CAP_NO_SUCH_THING', 'ERR_INVALID_ARG_VALUE'],
  ['KVM_CAP_toString', 'ERR_INVALID_ARG_VALUE'],
  ['toString', 'ERR_INVALID_ARG_TYPE'],
])('%s is no capability', (name, code) => {
  expect(codeOf(() => kvm.checkExtension(name as 'KVM_CAP_'))).toBe(code)
})

test('a VM can be made of exactly the types that KVM_CAP_VM_TYPES says', () => {
  const types = kvm.checkExtension(KVM_CAP_VM_TYPES) || 1
  for (let type = 0; type < 6; type++) {
    if (types & (1 << type)) kvm.createVm(type).close()
    else expect(codeOf(() => kvm.createVm(type))).toBe('EINVAL')
  }
})

test('a refused type of VM is explained', () => {
  expect((thrownBy(() => kvm.createVm(31)) as Error).message).toContain('KVM_CAP_VM_TYPES')
})

test('supported CPUID begins with the vendor and has its leaves in order of appearance', () => {
  const leaves = kvm.getSupportedCpuid()
  const [first] = leaves
  expect(first).toMatchObject({ function: 0, index: 0 })
  expect(leaves.some((leaf) => leaf.function === 0x8000_0001)).toBe(true)
})

test('emulated CPUID names leaves that only emulation gives', () => {
  const emulated = kvm.getEmulatedCpuid()
  for (const leaf of emulated) expect(leaf.function % 0x8000_0000).toBeLessThan(0x100)
})

test('Hyper-V leaves, or the missing capability by name', () => {
  if (kvm.checkExtension('KVM_CAP_SYS_HYPERV_CPUID') === 0) {
    const get = () => kvm.getSupportedHvCpuid()
    expectMissing(kvm, 'KVM_CAP_SYS_HYPERV_CPUID', KVM_GET_SUPPORTED_HV_CPUID, get)
    return
  }
  expect(kvm.getSupportedHvCpuid()[0]!.function).toBe(0x4000_0000)
})

test('MSR lists are not empty and name each MSR once', () => {
  for (const list of [kvm.getMsrIndexList(), kvm.getMsrFeatureIndexList()]) {
    expect(list.length).toBeGreaterThan(0)
    expect(new Set(list).size).toBe(list.length)
  }
})

test('feature MSRs can be read, and what is none is left out', () => {
  const indices = kvm.getMsrFeatureIndexList()
  const values = kvm.getMsrs([...indices, 0xdead_beef])
  expect(values.has(0xdead_beef)).toBe(false)
  expect(values.size).toBeGreaterThan(0)
  for (const index of values.keys()) expect(indices).toContain(index)
})

test('machine checks have the global control register', () => {
  const controlPresent = 1n << 8n
  expect(kvm.x86GetMceCapSupported() & controlPresent).toBe(controlPresent)
})

test('the system has attributes, or not the capability for them', () => {
  if (kvm.checkExtension('KVM_CAP_SYS_ATTRIBUTES') === 0) {
    for (const call of [() => kvm.hasDeviceAttr(0, 0), () => kvm.getDeviceAttr(0, 0)]) {
      expect(thrownBy(call)).toMatchObject({
        code: 'ERR_KVM_CAP_MISSING',
        capability: 'KVM_CAP_SYS_ATTRIBUTES',
      })
    }
    return
  }
  expect(kvm.hasDeviceAttr(0, 0)).toBe(true)
  // XCR0 has x87 and SSE wherever there is one.
  expect(kvm.getDeviceAttr(0, 0) & 3n).toBe(3n)
  expect(kvm.hasDeviceAttr(0, 12345)).toBe(false)
  expect(codeOf(() => kvm.getDeviceAttr(0, 12345))).toBe('ENXIO')
})
