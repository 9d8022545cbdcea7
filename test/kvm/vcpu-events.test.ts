// What is pending, and what makes it so: interrupts, NMI, SMI, the LAPIC, the multiprocessing state.
// covers: KVM_GET_VCPU_EVENTS@vcpu KVM_SET_VCPU_EVENTS@vcpu KVM_GET_MP_STATE@vcpu KVM_SET_MP_STATE@vcpu
// covers: KVM_INTERRUPT@vcpu KVM_NMI@vcpu KVM_SMI@vcpu KVM_GET_LAPIC@vcpu KVM_SET_LAPIC@vcpu
// covers: KVM_TPR_ACCESS_REPORTING@vcpu KVM_SET_VAPIC_ADDR@vcpu

import { beforeEach, describe, expect, test } from 'vitest'
import { Kvm } from '../../src/index.js'
import {
  KVM_CAP_EXCEPTION_PAYLOAD,
  KVM_CAP_SPLIT_IRQCHIP,
  KVM_MP_STATE_HALTED,
  KVM_MP_STATE_RUNNABLE,
  KVM_SMI,
  KVM_VCPUEVENT_VALID_PAYLOAD,
} from '../../src/uapi/index.js'
import { LapicState } from '../../src/x86/index.js'
import { createGuest, ENTRY, type Guest, HALT, SPIN } from '../helpers/guest.js'
import { needs, needsNo } from '../helpers/probe.js'
import { codeOf, thrownBy } from '../helpers/thrown.js'

/** A real-mode guest whose vector 0x21 and NMI write their number to port 0x12 and return. */
function interruptible(irqchip: boolean): Guest {
  // sti; hlt; jmp to the hlt
  const guest = createGuest([0xfb, 0xf4, 0xeb, 0xfd], { irqchip })
  const handler = (vector: number, at: number) => {
    // mov al, vector; out 0x12, al; iret
    guest.memory.write(at, Uint8Array.of(0xb0, vector, 0xe6, 0x12, 0xcf))
    guest.memory.writeU32(vector * 4, at)
  }
  handler(0x21, 0x7000)
  handler(2, 0x7100)
  return guest
}

test('events come back as they were read', () => {
  using guest = createGuest(HALT)
  const events = guest.vcpu.getVcpuEvents()
  guest.vcpu.setVcpuEvents(events)
  expect(guest.vcpu.getVcpuEvents()).toEqual(events)
})

test('an exception that is set pending is delivered', () => {
  using guest = createGuest(HALT)
  const { vcpu, memory } = guest
  memory.write(0x7000, Uint8Array.of(0xb0, 6, 0xe6, 0x20)) // mov al, 6; out 0x20, al
  memory.writeU32(6 * 4, 0x7000)
  const events = vcpu.getVcpuEvents()
  events.exception = { ...events.exception, injected: 1, nr: 6 }
  vcpu.setVcpuEvents(events)
  expect(vcpu.run()).toMatchObject({ type: 'io', port: 0x20, value: 6 })
})

test('setRegs drops a pending exception', (context) => {
  needs('KVM_CAP_EXCEPTION_PAYLOAD')(context)
  using guest = createGuest(HALT)
  const { vm, vcpu } = guest
  vm.enableCap(KVM_CAP_EXCEPTION_PAYLOAD, { args: [1n] })
  const events = vcpu.getVcpuEvents()
  events.exception = { ...events.exception, pending: 1, nr: 6 }
  events.flags |= KVM_VCPUEVENT_VALID_PAYLOAD
  vcpu.setVcpuEvents(events)
  expect(vcpu.getVcpuEvents().exception.pending).toBe(1)
  vcpu.setRegs(vcpu.getRegs())
  expect(vcpu.getVcpuEvents().exception.pending).toBe(0)
})

describe('without interrupt controllers in the kernel', () => {
  test('an interrupt waits for its window and is delivered', () => {
    using guest = interruptible(false)
    const { vcpu } = guest
    expect(vcpu.run().type).toBe('hlt')
    vcpu.interrupt(0x21)
    expect(vcpu.run()).toMatchObject({ type: 'io', port: 0x12, value: 0x21 })
  })

  test('with a split irqchip, one waits at a time', () => {
    using kvm = Kvm.open()
    using vm = kvm.createVm()
    vm.enableCap(KVM_CAP_SPLIT_IRQCHIP, { args: [24n] })
    using vcpu = vm.createVcpu(0)
    vcpu.interrupt(0x21)
    expect(codeOf(() => vcpu.interrupt(0x22))).toBe('EEXIST')
  })

  test('the window is announced when asked for', () => {
    using guest = createGuest([0xfb, ...SPIN]) // sti; jmp $
    const { vcpu } = guest
    expect(vcpu.runState.requestInterruptWindow).toBe(false)
    vcpu.runState.requestInterruptWindow = true
    expect(vcpu.run({ timeoutMs: 10_000 }).type).toBe('irqWindowOpen')
    expect(vcpu.runState.readyForInterruptInjection).toBe(true)
    expect(vcpu.runState.ifFlag).toBe(true)
  })

  test('a vector has 8 bits', () => {
    using guest = createGuest(HALT)
    expect(codeOf(() => guest.vcpu.interrupt(256))).toBe('ERR_OUT_OF_RANGE')
    expect(codeOf(() => guest.vcpu.interrupt('1' as never))).toBe('ERR_INVALID_ARG_TYPE')
  })

  test('the vCPU is runnable and nothing else', () => {
    using guest = createGuest(HALT)
    expect(guest.vcpu.getMpState()).toBe(KVM_MP_STATE_RUNNABLE)
    guest.vcpu.setMpState(KVM_MP_STATE_RUNNABLE)
    expect(codeOf(() => guest.vcpu.setMpState(KVM_MP_STATE_HALTED))).toBe('EINVAL')
  })

  test('there is no virtual APIC page', () => {
    using guest = createGuest(HALT)
    expect(codeOf(() => guest.vcpu.setVapicAddr(0x1000))).toBe('EINVAL')
  })
})

describe('with interrupt controllers in the kernel', () => {
  test('interrupts are theirs', () => {
    using guest = interruptible(true)
    expect(codeOf(() => guest.vcpu.interrupt(0x21))).toBe('ENXIO')
  })

  test('the multiprocessing state comes back', () => {
    using guest = createGuest(HALT, { irqchip: true })
    for (const state of [KVM_MP_STATE_HALTED, KVM_MP_STATE_RUNNABLE]) {
      guest.vcpu.setMpState(state)
      expect(guest.vcpu.getMpState()).toBe(state)
    }
  })

  test('the LAPIC comes back, and its registers can be changed by name', () => {
    using guest = createGuest(HALT, { irqchip: true })
    const { vcpu } = guest
    const regs = vcpu.getLapic()
    vcpu.setLapic(regs)
    expect(vcpu.getLapic()).toEqual(regs)
    vcpu.updateLapic((lapic) => {
      lapic.set('SIVR', 0x1ff)
      lapic.setVector('IRR', 0x41)
    })
    const lapic = new LapicState(vcpu.getLapic())
    expect(lapic.get('SIVR')).toBe(0x1ff)
    expect(lapic.vectors('IRR')).toEqual([0x41])
    expect(lapic.id('xapic')).toBe(0)
  })

  test('task-priority accesses are reported when asked for', () => {
    // mov eax, 0xfee00080; mov dword ptr [rax], 0x20; jmp $
    const code = [0xb8, 0x80, 0x00, 0xe0, 0xfe, 0xc7, 0x00, 0x20, 0x00, 0x00, 0x00, ...SPIN]
    using guest = createGuest(code, { irqchip: true, mode: 'ring0' })
    const { vcpu, memory } = guest
    memory.writeU64(0x2000 + 3 * 8, 0x5007n) // the fourth GiB
    memory.writeU64(0x5000 + ((0xfee0_0000 >>> 21) & 511) * 8, 0xfee0_0083n)
    vcpu.tprAccessReporting(true)
    const exit = vcpu.run({ timeoutMs: 5000 })
    expect(exit).toMatchObject({ type: 'tprAccess', isWrite: true })
    expect(new LapicState(vcpu.getLapic()).get('TPR')).toBe(0x20)
    vcpu.tprAccessReporting(false)
    vcpu.setVapicAddr(0x6000)
  })

  test('an NMI is delivered', () => {
    using guest = interruptible(true)
    guest.vcpu.nmi()
    expect(guest.vcpu.getVcpuEvents().nmi.pending).toBe(1)
    expect(guest.vcpu.run({ timeoutMs: 10_000 })).toMatchObject({
      type: 'io',
      port: 0x12,
      value: 2,
    })
  })
})

describe('system management', () => {
  beforeEach(needs('KVM_CAP_X86_SMM'))

  test('an SMI enters SMM at its handler, RSM leaves it', () => {
    using guest = createGuest([0xe6, 0x10, 0xeb, 0xfc]) // out 0x10, al; again
    const { vm, vcpu, memory } = guest
    const SMBASE = 0x2_0000
    // In SMM the vCPU is in the second address space, which has slots of its own.
    const slot = 0x1_0000
    vm.setUserMemoryRegion({ slot, guestPhysAddr: 0, memorySize: memory.size, memory })
    vcpu.setMsrs([{ index: 0x9e, data: BigInt(SMBASE) }])
    memory.write(SMBASE + 0x8000, Uint8Array.of(0xe6, 0x11, 0x0f, 0xaa)) // out 0x11, al; rsm
    vcpu.smi()
    expect(vcpu.getVcpuEvents().smi.pending).toBe(1)
    expect(vcpu.run()).toMatchObject({ type: 'io', port: 0x11 })
    expect(vcpu.runState.isInSmm).toBe(true)
    expect(vcpu.run()).toMatchObject({ type: 'io', port: 0x10 })
    expect(vcpu.runState.isInSmm).toBe(false)
    expect(vcpu.getRegs().rip).toBeLessThan(BigInt(ENTRY + 4))
  })
})

test('without SMM an SMI is missed by name', (context) => {
  needsNo('KVM_CAP_X86_SMM')(context)
  using guest = createGuest(HALT)
  const missing = { code: 'ERR_KVM_CAP_MISSING', capability: 'KVM_CAP_X86_SMM' }
  expect(thrownBy(() => guest.vcpu.smi())).toMatchObject(missing)
  expect(codeOf(() => guest.vcpu.unsafeIoctl(KVM_SMI))).toBe('ENOTTY')
})
