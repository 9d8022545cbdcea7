// Limits and flags out of capability values, old kernels included.
import { expect, it } from 'vitest'
import { limitsOf, vmTypes, x2apicApiFlags } from '../../src/core/host/host-capabilities.js'

it('takes what the API prescribes where a kernel knows no capability', () => {
  expect(limitsOf({})).toEqual({
    maxVcpus: 4,
    recommendedVcpus: 4,
    maxVcpuIds: 4,
    memslots: 32,
    addressSpaces: 1,
    irqRoutes: 0,
    dirtyRingBytes: 0,
    nestedStateBytes: 0,
    xsaveBytes: 4096,
  })
  expect(limitsOf({ KVM_CAP_NR_VCPUS: 16 })).toMatchObject({ maxVcpus: 16, maxVcpuIds: 16 })
})

it('takes the values where they are', () => {
  const values = {
    KVM_CAP_NR_VCPUS: 8,
    KVM_CAP_MAX_VCPUS: 1024,
    KVM_CAP_MAX_VCPU_ID: 4096,
    KVM_CAP_NR_MEMSLOTS: 32764,
    KVM_CAP_MULTI_ADDRESS_SPACE: 2,
    KVM_CAP_IRQ_ROUTING: 4096,
    KVM_CAP_DIRTY_LOG_RING: 65536,
    KVM_CAP_NESTED_STATE: 4224,
    KVM_CAP_XSAVE2: 11008,
  }
  expect(limitsOf(values)).toEqual({
    maxVcpus: 1024,
    recommendedVcpus: 8,
    maxVcpuIds: 4096,
    memslots: 32764,
    addressSpaces: 2,
    irqRoutes: 4096,
    dirtyRingBytes: 65536,
    nestedStateBytes: 4224,
    xsaveBytes: 11008,
  })
})

it('names flags and machine types', () => {
  expect(x2apicApiFlags(0)).toEqual([])
  expect(x2apicApiFlags(3)).toEqual([
    'KVM_X2APIC_API_USE_32BIT_IDS',
    'KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK',
  ])
  expect(vmTypes(0)).toEqual(['KVM_X86_DEFAULT_VM'])
  expect(vmTypes(0b10_0011)).toEqual([
    'KVM_X86_DEFAULT_VM',
    'KVM_X86_SW_PROTECTED_VM',
    'KVM_X86_TDX_VM',
  ])
})
