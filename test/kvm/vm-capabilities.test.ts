// Capabilities turned on by name, with their arguments named.
// covers: KVM_CHECK_EXTENSION@vm KVM_ENABLE_CAP@vm

import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Kvm, PlainFile, type Vm, type VmCapabilityName } from '../../src/index.js'
import {
  KVM_CAP_HALT_POLL,
  KVM_CAP_SGX_ATTRIBUTE,
  KVM_CAP_VM_COPY_ENC_CONTEXT_FROM,
} from '../../src/uapi/index.js'
import { codeOf, thrownBy } from '../helpers/thrown.js'

let kvm: Kvm
let vm: Vm
beforeEach(() => {
  kvm = Kvm.open()
  vm = kvm.createVm()
})
afterEach(() => {
  vm.close()
  kvm.close()
})

/** For each: arguments that a kernel which has it takes on a new VM. Those with files come below. */
const accepted: Partial<Record<VmCapabilityName, (offered: number) => object>> = {
  KVM_CAP_DISABLE_QUIRKS: () => ({ quirks: 1 }),
  KVM_CAP_DISABLE_QUIRKS2: (offered) => ({ quirks: offered & 1 }),
  KVM_CAP_SPLIT_IRQCHIP: () => ({ routes: 24 }),
  KVM_CAP_MAX_VCPU_ID: () => ({ maxVcpuId: 8 }),
  KVM_CAP_X2APIC_API: () => ({ flags: 3 }),
  KVM_CAP_X86_DISABLE_EXITS: (offered) => ({ exits: offered }),
  KVM_CAP_MSR_PLATFORM_INFO: () => ({ enabled: false }),
  KVM_CAP_EXCEPTION_PAYLOAD: () => ({}),
  KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: (offered) => ({ modes: offered }),
  KVM_CAP_HALT_POLL: () => ({ maxNs: 0 }),
  KVM_CAP_X86_USER_SPACE_MSR: () => ({ reasons: 7 }),
  KVM_CAP_DIRTY_LOG_RING: () => ({ size: 0x1_0000 }),
  KVM_CAP_DIRTY_LOG_RING_ACQ_REL: () => ({ size: 0x1_0000 }),
  KVM_CAP_X86_BUS_LOCK_EXIT: () => ({ modes: 1 }),
  KVM_CAP_EXIT_HYPERCALL: (offered) => ({ hypercalls: offered }),
  KVM_CAP_EXIT_ON_EMULATION_FAILURE: () => ({}),
  KVM_CAP_PMU_CAPABILITY: () => ({ capabilities: 1 }),
  KVM_CAP_X86_TRIPLE_FAULT_EVENT: () => ({}),
  KVM_CAP_X86_NOTIFY_VMEXIT: () => ({ flags: 1, window: 0 }),
  KVM_CAP_VM_DISABLE_NX_HUGE_PAGES: () => ({}),
}

describe.each(Object.entries(accepted))('%s', (name, args) => {
  const capability = name as VmCapabilityName
  const enable = (given: object) => (vm.enableCap as (...all: unknown[]) => number)(name, given)

  test('is enabled, or named as missing', () => {
    const offered = vm.checkExtension(capability)
    if (offered > 0) {
      expect(enable(args(offered))).toBe(0)
      return
    }
    expect(thrownBy(() => enable(args(offered)))).toMatchObject({
      code: 'ERR_KVM_CAP_MISSING',
      capability: name,
    })
  })

  test('takes no arguments that are no object', () => {
    for (const wrong of [null, 5, 'x']) {
      expect(codeOf(() => enable(wrong as never))).toBe('ERR_INVALID_ARG_TYPE')
    }
  })
})

test('the APIC timer’s period needs LAPICs, and is not 0', () => {
  const name = 'KVM_CAP_X86_APIC_BUS_CYCLES_NS'
  if (vm.checkExtension(name) === 0) {
    expect(codeOf(() => vm.enableCap(name, { periodNs: 10 }))).toBe('ERR_KVM_CAP_MISSING')
    return
  }
  const error = thrownBy(() => vm.enableCap(name, { periodNs: 10 })) as Error
  expect(error).toMatchObject({ code: 'ENXIO', capability: name })
  expect(error.message).toContain('LAPIC')
  vm.createIrqchip()
  expect(codeOf(() => vm.enableCap(name, { periodNs: 0 }))).toBe('EINVAL')
  expect(vm.enableCap(name, { periodNs: 10 })).toBe(0)
})

describe('what the kernel refuses is explained', () => {
  test('bits it does not take', () => {
    const error = thrownBy(() =>
      vm.enableCap('KVM_CAP_X2APIC_API', { flags: 0x8000_0000 }),
    ) as Error
    expect(error).toMatchObject({ code: 'EINVAL', capability: 'KVM_CAP_X2APIC_API' })
    expect(error.message).toMatch(/takes the bits 0x[0-9a-f]+/)
  })

  test('interrupt controllers twice', () => {
    vm.createIrqchip()
    const error = thrownBy(() => vm.enableCap('KVM_CAP_SPLIT_IRQCHIP', { routes: 24 })) as Error
    expect(error).toMatchObject({ code: 'EEXIST' })
    expect(error.message).toContain('already')
  })

  test('a dirty ring larger than the kernel’s', () => {
    const size = vm.checkExtension('KVM_CAP_DIRTY_LOG_RING') * 2
    if (size === 0) return
    const error = thrownBy(() => vm.enableCap('KVM_CAP_DIRTY_LOG_RING', { size })) as Error
    expect(error).toMatchObject({ code: 'E2BIG' })
    expect(error.message).toContain('checkExtension')
  })

  test('a dirty ring of no power of two', () => {
    if (vm.checkExtension('KVM_CAP_DIRTY_LOG_RING') === 0) return
    expect(codeOf(() => vm.enableCap('KVM_CAP_DIRTY_LOG_RING', { size: 5000 }))).toBe('EINVAL')
  })
})

describe('capabilities whose argument is a file', () => {
  test.each(['KVM_CAP_VM_COPY_ENC_CONTEXT_FROM', 'KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM'] as const)(
    '%s takes a VM and nothing else',
    (name) => {
      for (const wrong of [undefined, null, kvm, 3, Object.create(Object.getPrototypeOf(vm))]) {
        expect(codeOf(() => vm.enableCap(name, { source: wrong }))).toBe('ERR_INVALID_ARG_TYPE')
      }
      const source = kvm.createVm()
      // A VM of the plain type has no encryption context to give.
      const expected = vm.checkExtension(name) === 0 ? 'ERR_KVM_CAP_MISSING' : 'EINVAL'
      expect(codeOf(() => vm.enableCap(name, { source }))).toBe(expected)
      source.close()
    },
  )

  test('the SGX attribute takes a file, and refuses one that is not it', () => {
    const name = 'KVM_CAP_SGX_ATTRIBUTE'
    expect(codeOf(() => vm.enableCap(name, { file: 3 as never }))).toBe('ERR_INVALID_ARG_TYPE')
    const file = PlainFile.open('/dev/null')
    const expected = vm.checkExtension(name) === 0 ? 'ERR_KVM_CAP_MISSING' : 'EINVAL'
    expect(codeOf(() => vm.enableCap(name, { file }))).toBe(expected)
    file.close()
  })

  test.each([KVM_CAP_SGX_ATTRIBUTE, KVM_CAP_VM_COPY_ENC_CONTEXT_FROM])(
    'capability %i is not taken by number: its argument would be a descriptor',
    (capability) => {
      expect(codeOf(() => vm.enableCap(capability, { args: [0n] }))).toBe('ENOTTY')
    },
  )
})

describe('by number', () => {
  test('four words are passed on', () => {
    expect(vm.enableCap(KVM_CAP_HALT_POLL, { args: [200_000n] })).toBe(0)
  })

  test('the kernel’s answer names the capability', () => {
    expect(thrownBy(() => vm.enableCap(KVM_CAP_HALT_POLL, { flags: 1 }))).toMatchObject({
      code: 'EINVAL',
      capability: 'KVM_CAP_HALT_POLL',
    })
  })
})

test.each([
  ['KVM_CAP_IRQCHIP', 'ERR_INVALID_ARG_TYPE'], // nothing to enable
  ['KVM_CAP_HYPERV_SYNIC', 'ERR_INVALID_ARG_TYPE'], // a vCPU's
  ['KVM_CAP_NONSENSE', 'ERR_INVALID_ARG_VALUE'],
])('%s cannot be enabled for a VM', (name, code) => {
  expect(codeOf(() => vm.enableCap(name as 'KVM_CAP_EXCEPTION_PAYLOAD'))).toBe(code)
})

test('a capability has the same answer by name and by number', () => {
  expect(vm.checkExtension('KVM_CAP_HALT_POLL')).toBe(vm.checkExtension(KVM_CAP_HALT_POLL))
})
