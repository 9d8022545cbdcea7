// Register ids, against the numbers of KVM API 4.68.
import { expect, test } from 'vitest'
import { GUEST_SSP_REG_ID, msrRegId } from '../../src/core/vcpu/reg-id.js'
import { codeOf } from '../helpers/thrown.js'

test('an MSR and the shadow-stack pointer', () => {
  expect(msrRegId(0xc000_0082)).toBe(0x2030_0002_c000_0082n)
  expect(GUEST_SSP_REG_ID).toBe(0x2030_0003_0000_0000n)
})

test('an MSR has 32 bits', () => {
  expect(codeOf(() => msrRegId(2 ** 32))).toBe('ERR_OUT_OF_RANGE')
  expect(codeOf(() => msrRegId('1' as never))).toBe('ERR_INVALID_ARG_TYPE')
})
