// Shadow paging, and what is fixed before the first vCPU.
// covers: KVM_SET_NR_MMU_PAGES@vm KVM_GET_NR_MMU_PAGES@vm KVM_SET_TSS_ADDR@vm
// covers: KVM_SET_IDENTITY_MAP_ADDR@vm KVM_SET_BOOT_CPU_ID@vm KVM_CREATE_VCPU@vm

import { afterEach, beforeEach, expect, test } from 'vitest'
import { Kvm, type Vm } from '../../src/index.js'
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

test('shadow pages are limited to at least 64', () => {
  vm.setNrMmuPages(64)
  vm.setNrMmuPages(4096)
  const error = thrownBy(() => vm.setNrMmuPages(63)) as Error
  expect(error).toMatchObject({ code: 'EINVAL' })
  expect(error.message).toContain('64')
})

test('the limit is read back by kernels before 6.4, and refused by others', () => {
  vm.setNrMmuPages(128)
  try {
    expect(vm.getNrMmuPages()).toBe(128)
  } catch (error) {
    expect(error).toMatchObject({ code: 'ENOTTY', ioctl: 'KVM_GET_NR_MMU_PAGES' })
    expect((error as Error).message).toContain('6.4')
  }
})

test('the pages that kvm_intel needs are placed before the first vCPU', () => {
  vm.setTssAddr(0xfffb_d000)
  vm.setIdentityMapAddr(0xfffb_c000)
  vm.setIdentityMapAddr(0)
  vm.createVcpu(0).close()
  const error = thrownBy(() => vm.setIdentityMapAddr(0xfffb_c000)) as Error
  expect(error).toMatchObject({ code: 'EINVAL', gpa: 0xfffb_c000 })
  expect(error.message).toContain('vCPUs already')
})

test('another vCPU can be the bootstrap processor, said before the first one', () => {
  vm.createIrqchip()
  vm.setBootCpuId(1)
  const first = vm.createVcpu(0)
  const second = vm.createVcpu(1)
  // The others wait for INIT (1); the bootstrap processor is runnable (0).
  expect([first.getMpState(), second.getMpState()]).toEqual([1, 0])
  const error = thrownBy(() => vm.setBootCpuId(0)) as Error
  expect(error).toMatchObject({ code: 'EBUSY', vcpuId: 0 })
  first.close()
  second.close()
})

test('a vCPU’s id is used once, and below the limit', () => {
  const vcpu = vm.createVcpu(3)
  const again = thrownBy(() => vm.createVcpu(3)) as Error
  expect(again).toMatchObject({ code: 'EEXIST', vcpuId: 3 })
  expect(again.message).toContain('this id')
  const beyond = vm.checkExtension('KVM_CAP_MAX_VCPU_ID')
  expect(codeOf(() => vm.createVcpu(beyond))).toBe('EINVAL')
  vcpu.close()
})
