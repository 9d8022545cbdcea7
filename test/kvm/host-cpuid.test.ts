// The CPUID tables of /dev/kvm do not depend on what was asked before.
import { expect, it } from 'vitest'
import { Kvm } from '../../src/index.js'

it('gives the same tables whatever the shared buffer held before', () => {
  using kvm = Kvm.open()
  const emulated = kvm.getEmulatedCpuid()
  const supported = kvm.getSupportedCpuid()
  expect(supported.length).toBeGreaterThan(10)
  expect(emulated.length).toBeGreaterThan(0)
  kvm.getMsrIndexList()
  expect(kvm.getEmulatedCpuid()).toEqual(emulated)
  expect(kvm.getSupportedCpuid()).toEqual(supported)
})
