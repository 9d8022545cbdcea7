// The VM's notion of time.
// covers: KVM_GET_CLOCK@vm KVM_SET_CLOCK@vm KVM_GET_TSC_KHZ@vm KVM_SET_TSC_KHZ@vm

import { afterEach, beforeEach, expect, test } from 'vitest'
import { Kvm, type Vm } from '../../src/index.js'
import { KVM_CLOCK_REALTIME } from '../../src/uapi/index.js'

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

test('the clock runs', () => {
  const { clock } = vm.getClock()
  expect(vm.getClock().clock).toBeGreaterThan(clock)
})

test('the clock goes on from what it is set to', () => {
  const hour = 3_600_000_000_000n
  vm.setClock({ clock: hour })
  const { clock } = vm.getClock()
  expect(clock).toBeGreaterThanOrEqual(hour)
  expect(clock).toBeLessThan(2n * hour)
})

test('what was read can be written, and the clock never falls behind it', () => {
  const before = vm.getClock()
  vm.setClock(before)
  expect(vm.getClock().clock).toBeGreaterThanOrEqual(before.clock)
})

test('with the wall time of the reading, the clock is advanced by what passed since', (context) => {
  const before = vm.getClock()
  if ((before.flags & KVM_CLOCK_REALTIME) === 0) {
    expect(before.realtime).toBe(0n)
    context.skip('KVM_GET_CLOCK gives no wall time here: the host’s clock is not its TSC')
  }
  const hour = 3_600_000_000_000n
  vm.setClock({ ...before, realtime: before.realtime - hour })
  expect(vm.getClock().clock).toBeGreaterThan(before.clock + hour)
})

test('the TSC rate for new vCPUs is read, written and read the same; 0 is the host’s', () => {
  const rate = vm.getTscKhz()
  expect(rate).toBeGreaterThan(0)
  vm.setTscKhz(rate)
  expect(vm.getTscKhz()).toBe(rate)
  // Which Linux measures more closely in its first seconds.
  vm.setTscKhz(0)
  expect(Math.abs(vm.getTscKhz() - rate)).toBeLessThan(rate / 100)
})
