// Time that KVM writes into guest memory: kvmclock and steal time.

import { expect, test } from 'vitest'
import {
  enableKvmclock,
  enableStealTime,
  pvClockNanoseconds,
  readPvClock,
  readStealTime,
} from '../../src/index.js'
import { createGuest, OUT_LOOP } from '../helpers/guest.js'
import { codeOf } from '../helpers/thrown.js'

const PAGE = 0xc000

test('kvmclock says what KVM_GET_CLOCK says', () => {
  using guest = createGuest(OUT_LOOP)
  const { vm, vcpu, memory } = guest
  vcpu.setCpuid2(guest.kvm.getSupportedCpuid())
  enableKvmclock(vcpu, PAGE)
  const before = vm.getClock().clock
  vcpu.run()
  const clock = readPvClock(memory, PAGE)
  expect(clock.version).toBeGreaterThan(0)
  expect(clock.tscToSystemMul).toBeGreaterThan(0)
  const [start, after] = [pvClockNanoseconds(clock, clock.tscTimestamp), vm.getClock().clock]
  // Both are kept with rounding of their own.
  expect(start).toBeGreaterThan(before - 1_000_000_000n)
  expect(start).toBeLessThanOrEqual(after + 1_000_000n)
  // A second of cycles is a second.
  const second = BigInt(vcpu.getTscKhz()) * 1000n
  const elapsed = pvClockNanoseconds(clock, clock.tscTimestamp + second) - start
  expect(Number(elapsed) / 1e9).toBeCloseTo(1, 2)
})

test('the clock is set forward, and the page follows', () => {
  using guest = createGuest(OUT_LOOP)
  const { vm, vcpu, memory } = guest
  vcpu.setCpuid2(guest.kvm.getSupportedCpuid())
  enableKvmclock(vcpu, PAGE)
  vcpu.run()
  const hour = 3_600_000_000_000n
  const first = readPvClock(memory, PAGE)
  vm.setClock({ clock: hour })
  vcpu.run()
  const second = readPvClock(memory, PAGE)
  expect(second.version).toBeGreaterThan(first.version)
  expect(pvClockNanoseconds(second, second.tscTimestamp)).toBeGreaterThanOrEqual(hour)
})

test('KVMCLOCK_CTRL tells of a pause', () => {
  using guest = createGuest(OUT_LOOP)
  const { vcpu, memory } = guest
  vcpu.setCpuid2(guest.kvm.getSupportedCpuid())
  enableKvmclock(vcpu, PAGE)
  vcpu.run()
  expect(readPvClock(memory, PAGE).guestPaused).toBe(false)
  vcpu.kvmclockCtrl()
  vcpu.run()
  expect(readPvClock(memory, PAGE).guestPaused).toBe(true)
})

test('steal time is written at entry', () => {
  using guest = createGuest(OUT_LOOP)
  const { vcpu, memory } = guest
  vcpu.setCpuid2(guest.kvm.getSupportedCpuid())
  enableStealTime(vcpu, PAGE)
  vcpu.run()
  const { version, steal } = readStealTime(memory, PAGE)
  expect(version).toBeGreaterThan(0)
  expect(steal).toBeGreaterThanOrEqual(0n)
})

test('places that are none are refused', () => {
  using guest = createGuest(OUT_LOOP)
  expect(codeOf(() => enableKvmclock(guest.vcpu, 2))).toBe('ERR_OUT_OF_RANGE')
  expect(codeOf(() => enableStealTime(guest.vcpu, 32))).toBe('ERR_OUT_OF_RANGE')
})

test('a version that stays odd is no clock', () => {
  using guest = createGuest(OUT_LOOP)
  guest.memory.writeU32(PAGE, 1)
  guest.memory.writeU32(PAGE + 8, 1)
  expect(() => readPvClock(guest.memory, PAGE)).toThrow('version')
  expect(() => readStealTime(guest.memory, PAGE)).toThrow('version')
})
