// MSR names and fields, and the VMX capability registers.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type BitFields,
  decodeBits,
  describeBits,
  encodeBits,
  fieldMask,
  knownBits,
} from '../../src/x86/bitfields.js'
import { LAPIC_REGISTERS } from '../../src/x86/lapic-registers.js'
import { MSR } from '../../src/x86/msr.js'
import * as fields from '../../src/x86/msr-fields.js'
import { describeMsr, msrEntries, msrName, msrNumber } from '../../src/x86/msr-names.js'
import {
  decodeVmxCapabilities,
  decodeVmxControls,
  VMX_BASIC,
  VMX_EPT_VPID_CAP,
  VMX_MISC,
} from '../../src/x86/vmx-capabilities.js'
import * as controls from '../../src/x86/vmx-controls.js'

// The reset values live beside the tables; only objects are tables.
const exported: Record<string, unknown> = {
  ...fields,
  ...controls,
  VMX_BASIC,
  VMX_EPT_VPID_CAP,
  VMX_MISC,
}
const tables = Object.entries(exported).filter(
  (entry): entry is [string, BitFields] => typeof entry[1] === 'object',
)

describe('MSR names', () => {
  it('are one to one', () => {
    const entries = msrEntries()
    expect(new Set(entries.map(([name]) => name)).size).toBe(entries.length)
    expect(new Set(entries.map(([, number]) => number)).size).toBe(entries.length)
    for (const [name, number] of entries) {
      expect(msrNumber(name)).toBe(number)
      expect(msrName(number)).toBe(name)
      expect(number).toBe(number >>> 0)
    }
  })

  it.each([
    ['IA32_EFER', 0xc0000080],
    ['IA32_MC3_STATUS', 0x40d],
    ['IA32_MC2_CTL2', 0x282],
    ['IA32_MTRR_PHYSMASK9', 0x213],
    ['IA32_X2APIC_SIVR', 0x80f],
    ['IA32_X2APIC_ICR', 0x830],
    ['PERF_CTR5', 0xc001020b],
    ['MCA_STATUS1', 0xc0002011],
    ['HV_X64_MSR_STIMER3_COUNT', 0x400000b7],
    ['MSR_KVM_POLL_CONTROL', 0x4b564d05],
    ['VM_HSAVE_PA', 0xc0010117],
  ])('%s is 0x%s', (name, number) => {
    expect(msrNumber(name)).toBe(number)
  })

  it('are shown with their number', () => {
    expect(describeMsr(MSR.IA32_TSC_DEADLINE)).toBe('IA32_TSC_DEADLINE (0x6e0)')
    expect(describeMsr(0x12345)).toBe('MSR 0x12345')
    expect(msrNumber('IA32_NOTHING')).toBeUndefined()
  })

  it('leave out APIC registers that x2APIC mode does not have', () => {
    const names = Object.keys(LAPIC_REGISTERS).filter(
      (name) => msrNumber(`IA32_X2APIC_${name}`) === undefined,
    )
    expect(names).toEqual(['APR', 'RRD', 'DFR', 'ICR2'])
  })
})

describe.each(tables)('%s', (_name, table) => {
  it('names no bit twice and survives a round trip', () => {
    const total = Object.values(table).reduce((sum, f) => sum + f.width, 0)
    expect(knownBits(table).toString(2).replaceAll('0', '').length).toBe(total)
    expect(Object.values(table).every((f) => fieldMask(f) < 2n ** 64n)).toBe(true)
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (value) => {
        expect(encodeBits(table, decodeBits(table, value))).toBe(value & knownBits(table))
      }),
    )
  })
})

describe('MSR fields', () => {
  it('read reset values as the manual states them', () => {
    expect(decodeBits(fields.APIC_BASE, fields.APIC_BASE_RESET)).toEqual({
      BSP: true,
      EXTD: false,
      EN: true,
      base: 0xfee00000,
    })
    expect(Object.values(decodeBits(fields.PAT, fields.PAT_RESET))).toEqual([
      'WB',
      'WT',
      'UC-',
      'UC',
      'WB',
      'WT',
      'UC-',
      'UC',
    ])
  })

  it('read what Linux programs', () => {
    // STAR with __KERNEL_CS 0x10 and __USER32_CS 0x23.
    expect(decodeBits(fields.STAR, 0x0023_0010_0000_0000n)).toEqual({
      eip: 0,
      syscallCs: 0x10,
      sysretCs: 0x23,
    })
    expect(describeBits(fields.MTRR_DEF_TYPE, 0xc06n)).toBe('type=WB FE E')
    expect(describeBits(fields.FEATURE_CONTROL, 5n)).toBe('locked vmxOutsideSmx')
  })
})

describe('VMX capabilities', () => {
  // The layout of a Skylake-SP server, from the manual's definitions.
  const skylake = new Map<number, bigint>([
    [MSR.IA32_VMX_BASIC, 0x00da_0400_0000_0004n],
    [MSR.IA32_VMX_PINBASED_CTLS, 0x0000_007f_0000_0016n],
    [MSR.IA32_VMX_TRUE_PINBASED_CTLS, 0x0000_00ff_0000_0016n],
    [MSR.IA32_VMX_PROCBASED_CTLS, 0xfff9_fffe_0401_e172n],
    [MSR.IA32_VMX_TRUE_PROCBASED_CTLS, 0xfff9_fffe_0400_6172n],
    [MSR.IA32_VMX_PROCBASED_CTLS2, 0x0000_10fb_0000_0000n],
    [MSR.IA32_VMX_MISC, 0x0000_0000_0000_01e5n],
    [MSR.IA32_VMX_EPT_VPID_CAP, 0x0000_0f01_0633_4141n],
    [MSR.IA32_VMX_CR0_FIXED0, 0x8000_0021n],
    [MSR.IA32_VMX_CR0_FIXED1, 0xffff_ffffn],
  ])

  it('are decoded together', () => {
    const caps = decodeVmxCapabilities((msr) => skylake.get(msr))
    expect(caps.basic).toMatchObject({
      revision: 4,
      regionSize: 0x400,
      memoryType: 'WB',
      trueControls: true,
      dualMonitor: true,
      insOutsInformation: true,
    })
    expect(caps.eptVpid).toMatchObject({
      executeOnly: true,
      pageWalkLength4: true,
      pageWalkLength5: false,
      memoryTypeUC: true,
      memoryTypeWB: true,
      pages2M: true,
      pages1G: true,
      invept: true,
      accessedDirty: true,
      inveptSingleContext: true,
      inveptAllContexts: true,
      invvpid: true,
      invvpidSingleContextRetainingGlobals: true,
    })
    expect(caps.misc).toMatchObject({ preemptionTimerTscBit: 5, activityHlt: true, cr3Targets: 0 })
    expect(caps.secondary?.supported).toContain('unrestrictedGuest')
    expect(caps.secondary?.settings.virtualizeApicAccesses).toBe('flexible')
    expect(caps.secondary?.settings.descriptorTableExiting).toBe('fixed-0')
    expect(caps.cr0).toEqual({ fixed0: 0x80000021n, fixed1: 0xffffffffn })
    expect(caps.exit).toBeUndefined()
    expect(caps.cr4).toBeUndefined()
  })

  it('prefer the TRUE registers when they exist', () => {
    const plain = decodeVmxControls(
      controls.VMX_PRIMARY_CONTROLS,
      skylake.get(MSR.IA32_VMX_PROCBASED_CTLS)!,
    )
    expect(plain.settings.cr3LoadExiting).toBe('fixed-1')
    const caps = decodeVmxCapabilities((msr) => skylake.get(msr))
    expect(caps.primary?.settings.cr3LoadExiting).toBe('flexible')
    expect(caps.pin?.settings.processPostedInterrupts).toBe('flexible')
    const old = new Map(skylake).set(MSR.IA32_VMX_BASIC, 0x005a_0400_0000_0004n)
    const oldCaps = decodeVmxCapabilities((msr) => old.get(msr))
    expect(oldCaps.pin?.settings.processPostedInterrupts).toBe('fixed-0')
  })

  it('put allowed bits in the right halves', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (value) => {
        const c = decodeVmxControls(controls.VMX_EXIT_CONTROLS, value)
        expect((BigInt(c.allowed1) << 32n) + BigInt(c.allowed0)).toBe(value)
        for (const [name, f] of Object.entries(controls.VMX_EXIT_CONTROLS)) {
          const mayBe1 = (value >> BigInt(32 + f.lsb)) & 1n
          expect(c.supported.includes(name as never)).toBe(mayBe1 === 1n)
        }
      }),
    )
  })
})
