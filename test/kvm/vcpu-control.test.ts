// Signals during KVM_RUN.
// covers: KVM_SET_SIGNAL_MASK@vcpu KVM_RUN@vcpu

import { expect, test } from 'vitest'
import { createGuest, HALT, SPIN } from '../helpers/guest.js'
import { codeOf } from '../helpers/thrown.js'

const ALL = 2n ** 64n - 1n

test('with every signal blocked a run can still be ended', () => {
  using guest = createGuest(SPIN)
  const { vcpu } = guest
  vcpu.setSignalMask(ALL)
  expect(vcpu.run({ timeoutMs: 20 }).type).toBe('intr')
  vcpu.kick()
  expect(vcpu.run().type).toBe('intr')
  vcpu.setSignalMask(null)
  expect(vcpu.run({ timeoutMs: 20 }).type).toBe('intr')
})

test('so can a vCPU on a thread of its own', async () => {
  using guest = createGuest(SPIN)
  guest.vcpu.setSignalMask(ALL)
  guest.vcpu.start(() => {})
  await guest.vcpu.stop()
})

test('a mask that lets everything through leaves the guest running', () => {
  using guest = createGuest(HALT)
  guest.vcpu.setSignalMask(0n)
  expect(guest.vcpu.run().type).toBe('hlt')
})

test('a mask is 64 bits or null', () => {
  using guest = createGuest(HALT)
  expect(codeOf(() => guest.vcpu.setSignalMask(-1n))).toBe('ERR_OUT_OF_RANGE')
  expect(codeOf(() => guest.vcpu.setSignalMask(1n << 64n))).toBe('ERR_OUT_OF_RANGE')
  expect(codeOf(() => guest.vcpu.setSignalMask(0 as never))).toBe('ERR_INVALID_ARG_TYPE')
  expect(codeOf(() => guest.vcpu.setSignalMask(undefined as never))).toBe('ERR_INVALID_ARG_TYPE')
})
