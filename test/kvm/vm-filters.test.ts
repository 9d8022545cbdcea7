// What a guest may use of its CPU.
// covers: KVM_X86_SET_MSR_FILTER@vm KVM_SET_PMU_EVENT_FILTER@vm

import { afterEach, describe, expect, test } from 'vitest'
import type { MsrFilterRange } from '../../src/index.js'
import { createGuest, type Guest } from '../helpers/guest.js'
import { codeOf, thrownBy } from '../helpers/thrown.js'

let guest: Guest
afterEach(() => guest.close())

const READ = 1
const WRITE = 2
const SYSENTER_CS = 0x174
const FILTERED = 4

// mov ecx, 0x174; rdmsr; out 0x20, al; mov ecx, 0x175; rdmsr; out 0x20, al; wrmsr; out 0x21, al
const CODE = [
  ...[0x66, 0xb9, 0x74, 0x01, 0x00, 0x00, 0x0f, 0x32, 0xe6, 0x20],
  ...[0x66, 0xb9, 0x75, 0x01, 0x00, 0x00, 0x0f, 0x32, 0xe6, 0x20],
  ...[0x0f, 0x30, 0xe6, 0x21],
]

function filtering(range?: Partial<MsrFilterRange>, flags = 0): Guest {
  guest = createGuest(CODE)
  const { vm } = guest
  vm.enableCap('KVM_CAP_X86_USER_SPACE_MSR', { reasons: FILTERED })
  const whole = { flags: READ | WRITE, base: SYSENTER_CS, count: 3, bitmap: Uint8Array.of(0b110) }
  vm.x86SetMsrFilter({ flags, ranges: [{ ...whole, ...range }] })
  return guest
}

describe('MSR filter', () => {
  test('denies what has no bit and allows what has one', () => {
    const { vcpu } = filtering()
    expect(vcpu.run()).toMatchObject({ type: 'rdmsr', index: SYSENTER_CS })
    expect(vcpu.run()).toMatchObject({ type: 'io', port: 0x20 })
    expect(vcpu.run()).toMatchObject({ type: 'io', port: 0x20 })
    expect(vcpu.run()).toMatchObject({ type: 'io', port: 0x21 })
  })

  test('is about the direction it names', () => {
    const { vcpu } = filtering({ flags: WRITE, bitmap: Uint8Array.of(0) })
    expect(vcpu.run()).toMatchObject({ type: 'io', port: 0x20 })
    expect(vcpu.run()).toMatchObject({ type: 'io', port: 0x20 })
    expect(vcpu.run()).toMatchObject({ type: 'wrmsr', index: 0x175 })
  })

  test('can deny by default', () => {
    const { vcpu } = filtering({ base: SYSENTER_CS, count: 1, bitmap: Uint8Array.of(1) }, 1)
    expect(vcpu.run()).toMatchObject({ type: 'io', port: 0x20 })
    expect(vcpu.run()).toMatchObject({ type: 'rdmsr', index: 0x175 })
  })

  test('is removed by one without ranges', () => {
    const { vm, vcpu } = filtering()
    vm.x86SetMsrFilter({ ranges: [] })
    expect(vcpu.run()).toMatchObject({ type: 'io', port: 0x20 })
  })

  test('takes 16 ranges of the largest size', () => {
    const { vm } = filtering()
    const count = 0x3000
    const bitmap = new Uint8Array(count / 8).fill(0xff)
    const ranges = Array.from({ length: 16 }, (_, i) => ({
      flags: READ | WRITE,
      base: 0xc000_0000 + i * count,
      count,
      bitmap,
    }))
    vm.x86SetMsrFilter({ ranges })
    expect(codeOf(() => vm.x86SetMsrFilter({ ranges: [...ranges, ranges[0]!] }))).toBe(
      'ERR_OUT_OF_RANGE',
    )
  })

  test.each([
    ['no MSR', { count: 0 }],
    ['too many MSRs', { count: 0x3001, bitmap: new Uint8Array(0x700) }],
    ['fewer bits than MSRs', { count: 17, bitmap: new Uint8Array(2) }],
  ])('a range with %s is refused', (_what, range) => {
    const { vm } = filtering()
    const whole = { flags: READ, base: 0, count: 1, bitmap: Uint8Array.of(0) }
    const call = () => vm.x86SetMsrFilter({ ranges: [{ ...whole, ...range }] })
    expect(codeOf(call)).toBe('ERR_OUT_OF_RANGE')
  })

  test('a default of deny without a range is refused by the kernel, and explained', () => {
    const { vm } = filtering()
    const error = thrownBy(() => vm.x86SetMsrFilter({ flags: 1, ranges: [] })) as Error
    expect(error).toMatchObject({ code: 'EINVAL' })
    expect(error.message).toContain('deny needs a range')
  })
})

describe('PMU event filter', () => {
  const instructions = 0x00c0n
  test('takes a list, an empty list, and no list that is too long', () => {
    guest = createGuest(CODE)
    const { vm } = guest
    if (vm.checkExtension('KVM_CAP_PMU_EVENT_FILTER') === 0) {
      const call = () => vm.setPmuEventFilter({ action: 0, events: [] })
      expect(codeOf(call)).toBe('ERR_KVM_CAP_MISSING')
      return
    }
    vm.setPmuEventFilter({ action: 0, events: [instructions], fixedCounterBitmap: 1 })
    vm.setPmuEventFilter({ action: 1, events: [] })
    vm.setPmuEventFilter({ action: 0, events: Array.from({ length: 300 }, (_, i) => BigInt(i)) })
    const events = Array.from({ length: 301 }, () => instructions)
    expect(codeOf(() => vm.setPmuEventFilter({ action: 0, events }))).toBe('ERR_OUT_OF_RANGE')
    expect(codeOf(() => vm.setPmuEventFilter({ action: 7, events: [] }))).toBe('EINVAL')
  })
})
