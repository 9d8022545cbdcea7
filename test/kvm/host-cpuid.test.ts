// The CPUID tables of /dev/kvm do not depend on what was asked before.
import { expect, it } from 'vitest'
import { Kvm } from '../../src/index.js'
import { withoutApicIds } from '../helpers/apic-id.js'

const supportedCpuid = (kvm: Kvm) => withoutApicIds(kvm.getSupportedCpuid())

it('gives the same tables whatever the shared buffer held before', () => {
  using kvm = Kvm.open()
  const emulated = kvm.getEmulatedCpuid()
  const supported = supportedCpuid(kvm)
  expect(supported.length).toBeGreaterThan(10)
  expect(emulated.length).toBeGreaterThan(0)
  kvm.getMsrIndexList()
  expect(kvm.getEmulatedCpuid()).toEqual(emulated)
  expect(supportedCpuid(kvm)).toEqual(supported)
})
