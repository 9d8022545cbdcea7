// The words of KVM_SET_GUEST_DEBUG, against DR7's own description.
import { describe, expect, test } from 'vitest'
import { type GuestDebugOptions, guestDebug } from '../../src/core/vcpu/guest-debug.js'
import { DR7, decodeBits } from '../../src/x86/index.js'
import { codeOf } from '../helpers/thrown.js'

test('nothing asked for is nothing, so that it ends debugging', () => {
  expect(guestDebug({}).control).toBe(0)
})

test.each<[GuestDebugOptions, number]>([
  [{ singleStep: true }, 0x3],
  [{ singleStep: true, blockIrq: true }, 0x10_0003],
  [{ softwareBreakpoints: true }, 0x1_0001],
  [{ breakpoints: [{ address: 0n }] }, 0x2_0001],
  [{ injectDb: true }, 0x4_0001],
  [{ injectBp: true }, 0x8_0001],
])('%o sets those bits and ENABLE', (options, control) => {
  expect(guestDebug(options).control).toBe(control)
})

describe('hardware breakpoints', () => {
  const { arch } = guestDebug({
    breakpoints: [
      { address: 0x1000n },
      { address: 0xffff_8000_0000_2000n, on: 'write', length: 8 },
      { address: 0x3000n, on: 'readWrite', length: 4 },
      { address: 0x60n, on: 'io', length: 2 },
    ],
  })
  const dr7 = arch.debugreg[7]!

  test('have their addresses in DR0 to DR3', () => {
    expect(arch.debugreg.slice(0, 4)).toEqual([0x1000n, 0xffff_8000_0000_2000n, 0x3000n, 0x60n])
  })

  test('are enabled, with their kind and length', () => {
    expect(decodeBits(DR7, dr7)).toMatchObject({
      ...{ G0: true, G1: true, G2: true, G3: true, L0: false },
      ...{ RW0: 'execute', RW1: 'write', RW2: 'readWrite', RW3: 'io' },
      ...{ LEN0: '1', LEN1: '8', LEN2: '4', LEN3: '2' },
    })
  })
})

test.each<[string, unknown, string]>([
  ['null', null, 'ERR_INVALID_ARG_TYPE'],
  ['what is no list', { breakpoints: {} }, 'ERR_INVALID_ARG_TYPE'],
  ['a fifth', { breakpoints: new Array(5).fill({ address: 0n }) }, 'ERR_OUT_OF_RANGE'],
  ['a number for an address', { breakpoints: [{ address: 0 }] }, 'ERR_INVALID_ARG_TYPE'],
  [
    'a length that is none',
    { breakpoints: [{ address: 0n, on: 'write', length: 3 }] },
    'ERR_OUT_OF_RANGE',
  ],
  ['more than a byte of code', { breakpoints: [{ address: 0n, length: 2 }] }, 'ERR_OUT_OF_RANGE'],
  ['a kind that is none', { breakpoints: [{ address: 0n, on: 'read' }] }, 'ERR_OUT_OF_RANGE'],
])('%s is refused', (_what, options, code) => {
  expect(codeOf(() => guestDebug(options as GuestDebugOptions))).toBe(code)
})
