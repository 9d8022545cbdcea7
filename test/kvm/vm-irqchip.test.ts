// The interrupt controllers in the kernel.
// covers: KVM_CREATE_IRQCHIP@vm KVM_IRQ_LINE@vm KVM_IRQ_LINE_STATUS@vm
// covers: KVM_GET_IRQCHIP@vm KVM_SET_IRQCHIP@vm

import { afterEach, beforeEach, describe, expect, test } from 'vitest'
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

const MASTER = 0
const IOAPIC = 2

describe('with interrupt controllers', () => {
  beforeEach(() => vm.createIrqchip())

  test.each([0, 1, 2])('chip %i can be read, written back and read the same', (chip) => {
    const state = vm.getIrqchip(chip)
    vm.setIrqchip(state)
    expect(vm.getIrqchip(chip)).toEqual(state)
  })

  test('a change to the PIC and to the IOAPIC is read back', () => {
    const pic = vm.getIrqchip(MASTER)
    vm.setIrqchip({
      chip_id: MASTER,
      chip: { pic: { ...pic.chip.pic!, irq_base: 0x20, imr: 0xfb } },
    })
    expect(vm.getIrqchip(MASTER).chip.pic).toMatchObject({ irq_base: 0x20, imr: 0xfb })

    const { ioapic } = vm.getIrqchip(IOAPIC).chip
    const redirtbl = ioapic!.redirtbl.map((entry, pin) => (pin === 5 ? { bits: 0x1_0031n } : entry))
    vm.setIrqchip({ chip_id: IOAPIC, chip: { ioapic: { ...ioapic!, redirtbl } } })
    expect(vm.getIrqchip(IOAPIC).chip.ioapic!.redirtbl[5]!.bits).toBe(0x1_0031n)
  })

  test('a raised line is seen by the PIC until it is lowered', () => {
    const pic = vm.getIrqchip(MASTER).chip.pic!
    // Level triggered, or the request would stay.
    vm.setIrqchip({ chip_id: MASTER, chip: { pic: { ...pic, elcr: 1 << 5 } } })
    vm.irqLine(5, true)
    expect(vm.getIrqchip(MASTER).chip.pic!.irr & (1 << 5)).not.toBe(0)
    vm.irqLine(5, false)
    expect(vm.getIrqchip(MASTER).chip.pic!.irr & (1 << 5)).toBe(0)
  })

  test('the status tells a new edge from one that is still pending', () => {
    const raised = vm.irqLineStatus(3, true)
    vm.irqLineStatus(3, false)
    const again = vm.irqLineStatus(3, true)
    expect(raised).not.toBe(0)
    expect(again).toBe(0)
  })

  test('there is no fourth chip', () => {
    const error = thrownBy(() => vm.getIrqchip(3)) as Error
    expect(error).toMatchObject({ code: 'EINVAL', ioctl: 'KVM_GET_IRQCHIP' })
    expect(error.message).toContain('IOAPIC')
  })

  test('they cannot be made twice', () => {
    expect(codeOf(() => vm.createIrqchip())).toBe('EEXIST')
  })
})

describe('without them', () => {
  test('lines and chips are refused, with the cure', () => {
    for (const call of [
      () => vm.irqLine(1, true),
      () => vm.irqLineStatus(1, true),
      () => vm.getIrqchip(0),
    ]) {
      const error = thrownBy(call) as Error
      expect(error).toMatchObject({ code: 'ENXIO' })
      expect(error.message).toContain('createIrqchip')
    }
  })

  test('a vCPU rules them out', () => {
    vm.createVcpu(0).close()
    const error = thrownBy(() => vm.createIrqchip()) as Error
    expect(error).toMatchObject({ code: 'EINVAL' })
    expect(error.message).toContain('before the first vCPU')
  })

  test('split ones are not read', () => {
    vm.enableCap('KVM_CAP_SPLIT_IRQCHIP', { routes: 24 })
    expect(codeOf(() => vm.getIrqchip(0))).toBe('ENXIO')
    expect(codeOf(() => vm.createIrqchip())).toBe('EEXIST')
  })
})
