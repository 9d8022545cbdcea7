// The routing table, and messages that need none.
// covers: KVM_SET_GSI_ROUTING@vm KVM_SIGNAL_MSI@vm

import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Kvm, type Vcpu, type Vm } from '../../src/index.js'
import {
  KVM_IRQ_ROUTING_IRQCHIP,
  KVM_IRQ_ROUTING_MSI,
  type KvmIrqRoutingEntry,
} from '../../src/uapi/index.js'
import { encodeMsi } from '../../src/x86/index.js'
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

const message = (vector: number) => encodeMsi({ destination: 0, vector })
const msiRoute = (gsi: number, vector: number): KvmIrqRoutingEntry => ({
  gsi,
  type: KVM_IRQ_ROUTING_MSI,
  flags: 0,
  u: { msi: { ...message(vector), devid: 0 } },
})
const pinRoute = (gsi: number, irqchip: number, pin: number): KvmIrqRoutingEntry => ({
  gsi,
  type: KVM_IRQ_ROUTING_IRQCHIP,
  flags: 0,
  u: { irqchip: { irqchip, pin } },
})

const SVR = 0xf0
const IRR = 0x200

/** A LAPIC takes interrupts once its software enable bit is set. */
function enableLapic(vcpu: Vcpu): void {
  const registers = vcpu.getLapic()
  new DataView(registers.buffer).setUint32(SVR, 0x1ff, true)
  vcpu.setLapic(registers)
}

/** Whether a vector is requested. */
function requested(vcpu: Vcpu, vector: number): boolean {
  const word = new DataView(vcpu.getLapic().buffer).getUint32(IRR + (vector >> 5) * 0x10, true)
  return (word & (1 << (vector & 31))) !== 0
}

describe.each([
  ['all', () => vm.createIrqchip()],
  ['split', () => vm.enableCap('KVM_CAP_SPLIT_IRQCHIP', { routes: 24 })],
] as const)('with %s interrupt controllers', (_name, create) => {
  let vcpu: Vcpu
  beforeEach(() => {
    create()
    vcpu = vm.createVcpu(0)
    enableLapic(vcpu)
  })
  afterEach(() => vcpu.close())

  test('a message arrives', () => {
    expect(vm.signalMsi(message(0x41))).toBeGreaterThan(0)
    expect(requested(vcpu, 0x41)).toBe(true)
    expect(requested(vcpu, 0x42)).toBe(false)
  })

  test('a message to a LAPIC that is not there arrives nowhere', () => {
    expect(vm.signalMsi(encodeMsi({ destination: 9, vector: 0x41 }))).toBeLessThanOrEqual(0)
    expect(requested(vcpu, 0x41)).toBe(false)
  })

  test('a route leads a line to a message', () => {
    vm.setGsiRouting([msiRoute(30, 0x55)])
    vm.irqLine(30, true)
    expect(requested(vcpu, 0x55)).toBe(true)
  })

  test('a new table replaces the old one', () => {
    vm.setGsiRouting([msiRoute(30, 0x55)])
    vm.setGsiRouting([msiRoute(30, 0x56)])
    vm.irqLine(30, true)
    expect(requested(vcpu, 0x55)).toBe(false)
    expect(requested(vcpu, 0x56)).toBe(true)
  })

  test('an empty table is one', () => {
    vm.setGsiRouting([])
    vm.irqLine(30, true)
    expect(requested(vcpu, 0x55)).toBe(false)
  })

  test('as many routes as the kernel says, the last one works', () => {
    const count = Math.min(vm.checkExtension('KVM_CAP_IRQ_ROUTING'), 4096)
    vm.setGsiRouting(Array.from({ length: count }, (_, gsi) => msiRoute(gsi, 0x20 + (gsi % 0xd0))))
    vm.irqLine(count - 1, true)
    expect(requested(vcpu, 0x20 + ((count - 1) % 0xd0))).toBe(true)
  })

  test('a GSI out of range is refused with an explanation', () => {
    const error = thrownBy(() => vm.setGsiRouting([msiRoute(4096, 0x55)])) as Error
    expect(error).toMatchObject({ code: 'EINVAL', ioctl: 'KVM_SET_GSI_ROUTING' })
    expect(error.message).toContain('GSI')
  })

  test('so is a table that is too long, before the kernel sees it', () => {
    const entries = Array.from({ length: 4097 }, (_, gsi) => msiRoute(gsi, 0x55))
    expect(codeOf(() => vm.setGsiRouting(entries))).toBe('ERR_OUT_OF_RANGE')
  })
})

test('a route leads a line to a pin of the PIC', () => {
  vm.createIrqchip()
  vm.setGsiRouting([pinRoute(40, 0, 6)])
  vm.irqLine(40, true)
  expect(vm.getIrqchip(0).chip.pic!.irr & (1 << 6)).not.toBe(0)
})

test('without interrupt controllers neither is possible', () => {
  expect(codeOf(() => vm.signalMsi(message(0x41)))).toBe('EINVAL')
  expect(codeOf(() => vm.setGsiRouting([msiRoute(30, 0x55)]))).toBe('EINVAL')
})
