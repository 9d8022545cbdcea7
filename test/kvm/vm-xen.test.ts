// What the kernel does for guests that expect Xen; and the refusal where it does nothing.
// covers: KVM_XEN_HVM_CONFIG@vm KVM_XEN_HVM_GET_ATTR@vm KVM_XEN_HVM_SET_ATTR@vm
// covers: KVM_XEN_HVM_EVTCHN_SEND@vm

import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { EventFd, GuestMemory, Kvm, type Vm } from '../../src/index.js'
import {
  KVM_IRQ_ROUTING_XEN_EVTCHN_PRIO_2LEVEL,
  KVM_XEN_ATTR_TYPE_LONG_MODE,
  KVM_XEN_ATTR_TYPE_SHARED_INFO,
  KVM_XEN_ATTR_TYPE_SHARED_INFO_HVA,
  KVM_XEN_ATTR_TYPE_UPCALL_VECTOR,
  KVM_XEN_ATTR_TYPE_XEN_VERSION,
  KVM_XEN_HVM_CONFIG,
  KVM_XEN_HVM_CONFIG_EVTCHN_SEND,
  KVM_XEN_HVM_CONFIG_HYPERCALL_MSR,
  KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL,
  KVM_XEN_HVM_CONFIG_SHARED_INFO,
  KVM_XEN_HVM_CONFIG_SHARED_INFO_HVA,
  KVM_XEN_HVM_EVTCHN_SEND,
  KVM_XEN_HVM_GET_ATTR,
  KVM_XEN_HVM_SET_ATTR,
} from '../../src/uapi/index.js'
import { expectMissing } from '../helpers/refusal.js'
import { codeOf, thrownBy } from '../helpers/thrown.js'

const MSR = 0x4000_0000
const channel = { port: 1, vcpu: 0, priority: KVM_IRQ_ROUTING_XEN_EVTCHN_PRIO_2LEVEL }

const probe = Kvm.open()
const offered = probe.checkExtension('KVM_CAP_XEN_HVM')
probe.close()
const has = (flag: number) => (offered & flag) !== 0

let kvm: Kvm
let vm: Vm
let memory: GuestMemory
beforeEach(() => {
  kvm = Kvm.open()
  vm = kvm.createVm()
  memory = GuestMemory.create(0x1_0000)
  vm.mapMemory(memory)
})
afterEach(() => {
  vm.close()
  memory.close()
  kvm.close()
})

describe.runIf(offered === 0)('without KVM_CAP_XEN_HVM', () => {
  test('every request names it', () => {
    const type = KVM_XEN_ATTR_TYPE_LONG_MODE
    const calls: [request: number, call: () => unknown][] = [
      [KVM_XEN_HVM_CONFIG, () => vm.xenHvmConfig({ flags: 0, msr: MSR })],
      [KVM_XEN_HVM_GET_ATTR, () => vm.xenHvmGetAttr(type)],
      [KVM_XEN_HVM_SET_ATTR, () => vm.xenHvmSetAttr({ type, u: { long_mode: 1 } })],
      [KVM_XEN_HVM_SET_ATTR, () => vm.xenHvmSetAttr({ sharedInfo: { memory, address: 0 } })],
      [KVM_XEN_HVM_EVTCHN_SEND, () => vm.xenHvmEvtchnSend(channel)],
    ]
    for (const [request, call] of calls) expectMissing(vm, 'KVM_CAP_XEN_HVM', request, call)
  })
})

describe.runIf(offered > 0)(`with KVM_CAP_XEN_HVM (this KVM offers ${offered})`, () => {
  const attribute = (type: number, u: object) => {
    vm.xenHvmSetAttr({ type, u })
    return vm.xenHvmGetAttr(type).u
  }

  test.runIf(has(KVM_XEN_HVM_CONFIG_SHARED_INFO))('attributes read as they were written', () => {
    expect(attribute(KVM_XEN_ATTR_TYPE_LONG_MODE, { long_mode: 1 })).toMatchObject({ long_mode: 1 })
    const gfn = { shared_info: { gfn: 3n } }
    expect(attribute(KVM_XEN_ATTR_TYPE_SHARED_INFO, gfn)).toMatchObject(gfn)
    expect(attribute(KVM_XEN_ATTR_TYPE_UPCALL_VECTOR, { vector: 0x31 })).toMatchObject({
      vector: 0x31,
    })
  })

  test.runIf(has(KVM_XEN_HVM_CONFIG_EVTCHN_SEND))('the version too', () => {
    const version = { xen_version: 0x4000_7 }
    expect(attribute(KVM_XEN_ATTR_TYPE_XEN_VERSION, version)).toMatchObject(version)
  })

  test.runIf(has(KVM_XEN_HVM_CONFIG_SHARED_INFO_HVA))('the shared info page is RAM of ours', () => {
    vm.xenHvmSetAttr({ sharedInfo: { memory, address: 0x2000 } })
  })

  test.runIf(has(KVM_XEN_HVM_CONFIG_EVTCHN_SEND))('a port signals an eventfd', () => {
    const eventFd = EventFd.create()
    vm.xenHvmSetAttr({ evtchn: { sendPort: 5, type: 2, eventFd } })
    expect(codeOf(() => vm.xenHvmSetAttr({ evtchn: { sendPort: 5, type: 2, eventFd } }))).toBe(
      'EEXIST',
    )
    eventFd.close()
  })

  test('hypercall pages are the kernel’s, or bytes of ours', () => {
    if (has(KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL)) {
      vm.xenHvmConfig({ flags: KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL, msr: MSR })
    }
    if (has(KVM_XEN_HVM_CONFIG_HYPERCALL_MSR)) {
      const page = new Uint8Array(4096).fill(0xc3)
      vm.xenHvmConfig({ flags: 0, msr: MSR, blob32: page, blob64: page })
    }
  })

  test('an event without a shared info page is refused', () => {
    expect(thrownBy(() => vm.xenHvmEvtchnSend(channel))).toMatchObject({
      ioctl: 'KVM_XEN_HVM_EVTCHN_SEND',
    })
  })
})

describe('host addresses', () => {
  test('are neither given nor taken', () => {
    const type = KVM_XEN_ATTR_TYPE_SHARED_INFO_HVA
    expect(codeOf(() => vm.xenHvmGetAttr(type))).toBe('ERR_OUT_OF_RANGE')
    const attr = { type, u: { shared_info: { hva: 0x1000n } } }
    expect(codeOf(() => vm.xenHvmSetAttr(attr))).toBe('ERR_OUT_OF_RANGE')
  })

  test('a shared info page lies in RAM, on a page of its own', () => {
    const at = (address: number) => () => vm.xenHvmSetAttr({ sharedInfo: { memory, address } })
    expect(codeOf(at(8))).toBe('ERR_OUT_OF_RANGE')
    expect(codeOf(at(0x10_0000))).toBe('ERR_KVM_GUEST_FAULT')
  })

  test('blobs are whole pages', () => {
    const call = () => vm.xenHvmConfig({ flags: 0, msr: MSR, blob32: new Uint8Array(100) })
    expect(codeOf(call)).toBe('ERR_OUT_OF_RANGE')
  })
})
