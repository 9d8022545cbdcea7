// The bit-table mechanism, and the tables of control, flag and debug registers made with it.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  address,
  type BitFields,
  choice,
  decodeBits,
  describeBits,
  encodeBits,
  field,
  fieldMask,
  flag,
  flagBits,
  knownBits,
  unknownBits,
  wide,
} from '../../src/x86/bitfields.js'
import {
  CR0,
  CR3,
  CR3_32BIT,
  CR3_NO_PCID,
  CR3_PAE,
  CR4,
  CR8,
} from '../../src/x86/control-registers.js'
import { DR6, DR6_RESET, DR7, DR7_RESET } from '../../src/x86/debug-registers.js'
import { EFER } from '../../src/x86/efer.js'
import { RFLAGS, RFLAGS_RESET } from '../../src/x86/rflags.js'
import { SELECTOR } from '../../src/x86/selector.js'
import { XCR0, XSS } from '../../src/x86/xcr0.js'

const TABLES: Record<string, BitFields> = {
  CR0,
  CR3,
  CR3_32BIT,
  CR3_NO_PCID,
  CR3_PAE,
  CR4,
  CR8,
  DR6,
  DR7,
  EFER,
  RFLAGS,
  SELECTOR,
  XCR0,
  XSS,
}

describe.each(Object.entries(TABLES))('%s', (_name, table) => {
  it('names no bit twice', () => {
    let seen = 0n
    for (const f of Object.values(table)) {
      expect(seen & fieldMask(f)).toBe(0n)
      seen |= fieldMask(f)
    }
  })

  it('encodes what it decodes, and keeps unnamed bits of the base', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (value) => {
        const decoded = decodeBits(table, value)
        expect(encodeBits(table, decoded)).toBe(value & knownBits(table))
        expect(encodeBits(table, decoded, unknownBits(table, value))).toBe(value)
      }),
    )
  })
})

describe('bit tables', () => {
  const mixed = {
    on: flag(0),
    count: field(1, 3),
    mode: choice(4, 2, { fixed: 0, nmi: 2 }),
    base: address(12, 40),
    top: wide(60, 4),
  }

  it('gives each kind its type', () => {
    expect(decodeBits(mixed, 0xf00f_ffff_ffff_f02bn)).toEqual({
      on: true,
      count: 5,
      mode: 'nmi',
      base: 0xf_ffff_ffff_f000,
      top: 0xfn,
    })
  })

  it('leaves a choice without a name as a number', () => {
    expect(decodeBits(mixed, 0x30n).mode).toBe(3)
    expect(encodeBits(mixed, { mode: 3 })).toBe(0x30n)
  })

  it('describes what is set', () => {
    expect(describeBits(CR0, 0x80050033n)).toBe('PE MP ET NE WP AM PG')
    expect(describeBits(mixed, 0x0000_0123_4567_802bn)).toBe(
      'on count=5 mode=nmi base=0x12345678000',
    )
    expect(describeBits(EFER, 0x8000_0000n)).toBe('0x80000000')
    expect(describeBits(EFER, 0)).toBe('')
  })

  it('combines flags by name', () => {
    expect(flagBits(CR4, 'PAE', 'PGE')).toBe(0xa0n)
    expect(flagBits(CR4)).toBe(0n)
  })

  it.each([
    [{ count: 8 }],
    [{ count: -1 }],
    [{ count: 1.5 }],
    [{ mode: 'smi' }],
    [{ base: 0x1001 }],
    [{ base: 2 ** 52 }],
    [{ top: 16n }],
    [{ nothing: true }],
  ])('refuses %o', (values) => {
    expect(() => encodeBits(mixed as BitFields, values as never)).toThrow(
      expect.objectContaining({ name: 'RangeError', code: 'ERR_OUT_OF_RANGE' }),
    )
  })
})

describe('known values', () => {
  // Worked examples: a Linux guest's usual register values, taken apart by hand from the manual.
  it('reads a 64-bit kernel’s registers', () => {
    expect(describeBits(CR4, 0x3506f0n)).toBe(
      'PSE PAE MCE PGE OSFXSR OSXMMEXCPT FSGSBASE OSXSAVE SMEP SMAP',
    )
    expect(describeBits(EFER, 0xd01n)).toBe('SCE LME LMA NXE')
    expect(decodeBits(CR3, 0x8000_0001_0234_5007n)).toMatchObject({
      PCID: 7,
      base: 0x1_0234_5000,
      noFlush: true,
    })
    expect(describeBits(RFLAGS, 0x3246n)).toBe('fixed1 PF ZF IF IOPL=3')
    expect(describeBits(XCR0, 0xe7n)).toBe('X87 SSE AVX OPMASK ZMM_Hi256 Hi16_ZMM')
  })

  it('knows the reset values', () => {
    expect(describeBits(RFLAGS, RFLAGS_RESET)).toBe('fixed1')
    expect(unknownBits(DR6, DR6_RESET)).toBe(0xfffe07f0n)
    expect(DR6_RESET | knownBits(DR6)).toBe(0xffffefffn)
    expect(decodeBits(DR7, DR7_RESET)).toMatchObject({ fixed1: true, L0: false, LEN3: '1' })
  })

  it('encodes a 4-byte data watchpoint', () => {
    expect(encodeBits(DR7, { L1: true, RW1: 'write', LEN1: '4' }, DR7_RESET)).toBe(0xd00404n)
  })
})
