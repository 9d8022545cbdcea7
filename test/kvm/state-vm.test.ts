// A VM's state beside its vCPUs': chips, timer, routes, clock.

import { afterAll, beforeAll, expect, test } from 'vitest'
import {
  Kvm,
  parseState,
  stringifyState,
  type Vcpu,
  type Vm,
  type VmState,
} from '../../src/index.js'
import { KVM_IRQ_ROUTING_IRQCHIP } from '../../src/uapi/index.js'
import { InterruptedGuest, type Work } from '../helpers/interrupted-guest.js'
import { codeOf } from '../helpers/thrown.js'

let kvm: Kvm
beforeAll(() => {
  kvm = Kvm.open()
})
afterAll(() => kvm.close())

class Pair implements Disposable {
  readonly vm: Vm
  readonly vcpus: Vcpu[]
  constructor(ids: number[], devices = true) {
    this.vm = kvm.createVm()
    if (devices) {
      this.vm.createIrqchip()
      this.vm.createPit2()
    }
    this.vcpus = ids.map((id) => this.vm.createVcpu(id))
  }
  [Symbol.dispose](): void {
    for (const part of [...this.vcpus, this.vm]) part.close()
  }
}

const copy = (state: VmState) => parseState<VmState>(stringifyState(state))

test('chips, timer and routes are those that were saved', () => {
  using first = new Pair([0, 1])
  first.vm.setGsiRouting([
    { gsi: 3, type: KVM_IRQ_ROUTING_IRQCHIP, flags: 0, u: { irqchip: { irqchip: 2, pin: 7 } } },
  ])
  first.vm.irqLine(3, true) // pin 7 of the IOAPIC, masked: it stays there
  const ioapic = first.vm.getIrqchip(2)
  const state = first.vm.saveState(first.vcpus)
  using second = new Pair([0, 1])
  second.vm.restoreState(second.vcpus, copy(state))
  expect(second.vm.getIrqchip(2)).toEqual(ioapic)
  expect(second.vm.getIrqchip(0)).toEqual(first.vm.getIrqchip(0))
  expect(second.vm.gsiRouting).toEqual(state.gsiRouting)
  expect(second.vm.getPit2().flags).toBe(first.vm.getPit2().flags)
})

test('the clock goes on where it stopped', () => {
  using first = new Pair([0])
  first.vm.setClock({ clock: 123_456_789_000_000n })
  const state = first.vm.saveState(first.vcpus)
  using second = new Pair([0])
  second.vm.restoreState(second.vcpus, copy(state))
  const { clock } = second.vm.getClock()
  expect(clock).toBeGreaterThanOrEqual(state.clock.clock)
  expect(clock - state.clock.clock).toBeLessThan(60_000_000_000n)
})

test('a VM without devices in the kernel has none in its state', () => {
  using first = new Pair([0], false)
  const state = first.vm.saveState(first.vcpus)
  expect(state).toMatchObject({ irqchips: [], pit: null, gsiRouting: null })
  using second = new Pair([0], false)
  second.vm.restoreState(second.vcpus, copy(state))
})

test('a guest in the middle of its work goes on', () => {
  const work: Work = { iterations: 100_000, ticks: 100, timer: 'oneShot', period: 500_000 }
  using whole = new InterruptedGuest(kvm)
  whole.load(work)
  whole.finish()
  using first = new InterruptedGuest(kvm)
  first.load(work)
  expect(first.runFor(1)).toBe(false)
  const state = first.vm.saveState([first.vcpu])
  using second = new InterruptedGuest(kvm)
  second.memory.write(0, first.memory.read(0, first.memory.size))
  second.vm.restoreState([second.vcpu], copy(state))
  second.finish()
  expect(second.result()).toBe(whole.result())
})

test('a state needs the vCPUs it has, of this VM', () => {
  using first = new Pair([0, 1])
  const state = first.vm.saveState(first.vcpus)
  using second = new Pair([0, 2])
  const refused = 'ERR_INVALID_ARG_VALUE'
  expect(codeOf(() => second.vm.restoreState(second.vcpus, state))).toBe(refused)
  expect(codeOf(() => second.vm.restoreState(second.vcpus.slice(0, 1), state))).toBe(refused)
  expect(codeOf(() => second.vm.restoreState(first.vcpus, state))).toBe(refused)
  expect(codeOf(() => second.vm.saveState(first.vcpus))).toBe(refused)
  expect(codeOf(() => second.vm.saveState(null as never))).toBe('ERR_INVALID_ARG_TYPE')
})

test('a VM that runs has no state to save', async () => {
  using guest = new InterruptedGuest(kvm)
  guest.load({ iterations: 0x7fff_ffff, ticks: 1, timer: 'oneShot', period: 1_000_000 })
  guest.vcpu.start(() => {})
  // A tick is counted in RAM by the guest itself, which then computes for minutes without an exit.
  while (guest.ticks === 0) await new Promise((resolve) => setTimeout(resolve, 1))
  expect(codeOf(() => guest.vm.saveState([guest.vcpu]))).toBe('ERR_KVM_BUSY')
  await guest.vcpu.stop()
})
