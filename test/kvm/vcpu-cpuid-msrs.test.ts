// CPUID tables, MSRs in batches, machine checks.
// covers: KVM_SET_CPUID@vcpu KVM_SET_CPUID2@vcpu KVM_GET_CPUID2@vcpu KVM_GET_SUPPORTED_HV_CPUID@vcpu
// covers: KVM_GET_MSRS@vcpu KVM_SET_MSRS@vcpu KVM_X86_SETUP_MCE@vcpu KVM_X86_SET_MCE@vcpu

import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { KVM_GET_SUPPORTED_HV_CPUID, type KvmCpuidEntry2 } from '../../src/uapi/index.js'
import { withoutApicIds } from '../helpers/apic-id.js'
import { createGuest, ENTRY, type Guest, HALT } from '../helpers/guest.js'
import { needs, needsNo } from '../helpers/probe.js'
import { expectMissing } from '../helpers/refusal.js'
import { codeOf, thrownBy } from '../helpers/thrown.js'

let guest: Guest
beforeEach(() => {
  guest = createGuest(HALT, { mode: 'ring0' })
})
afterEach(() => guest.close())

describe('CPUID', () => {
  test('a table comes back', () => {
    const { kvm, vcpu } = guest
    const table = kvm.getSupportedCpuid()
    vcpu.setCpuid2(table)
    const kept = vcpu.getCpuid2()
    const nameOf = (leaf: KvmCpuidEntry2) => [leaf.function, leaf.index, leaf.flags].join()
    const names = kept.map(nameOf)
    const lost = table.filter((leaf) => !names.includes(nameOf(leaf)))
    // KERNEL: 6.18 was seen to leave out leaves of zeros, which is what a guest reads there anyway.
    expect(lost.filter(({ eax, ebx, ecx, edx }) => (eax | ebx | ecx | edx) !== 0)).toEqual([])
    expect(names).toEqual(table.filter((leaf) => !lost.includes(leaf)).map(nameOf))
    vcpu.setCpuid2(kept)
    expect(withoutApicIds(vcpu.getCpuid2())).toEqual(withoutApicIds(kept))
  })

  test('is what the guest reads', () => {
    using reader = createGuest([0x0f, 0xa2, 0xf4], { mode: 'ring0' }) // cpuid; hlt
    const leaf = { function: 0x4000_0000, index: 0, flags: 0 }
    reader.vcpu.setCpuid2([{ ...leaf, eax: 0x11, ebx: 0x22, ecx: 0x33, edx: 0x44 }])
    reader.vcpu.updateRegs({ rax: 0x4000_0000n, rcx: 0n })
    expect(reader.vcpu.run().type).toBe('hlt')
    expect(reader.vcpu.getRegs()).toMatchObject({ rax: 0x11n, rbx: 0x22n, rcx: 0x33n, rdx: 0x44n })
  })

  test('the old form becomes leaves without an index', () => {
    const { vcpu } = guest
    vcpu.setCpuid([{ function: 0, eax: 1, ebx: 0x756e6547, ecx: 0x6c65746e, edx: 0x49656e69 }])
    const leaf = { function: 0, index: 0, flags: 0, eax: 1, ebx: 0x756e6547 }
    expect(vcpu.getCpuid2()[0]).toMatchObject(leaf)
  })

  test('after the first run only the same table is taken', () => {
    const { kvm, vcpu } = guest
    const table = kvm.getSupportedCpuid()
    vcpu.setCpuid2(table)
    expect(vcpu.run().type).toBe('hlt')
    const other = table.map((leaf) => (leaf.function === 0 ? { ...leaf, eax: 1 } : leaf))
    expect(codeOf(() => vcpu.setCpuid2(other))).toBe('EINVAL')
    vcpu.setCpuid2(vcpu.getCpuid2())
  })

  test('the leaves of Hyper-V begin with its signature', (context) => {
    needs('KVM_CAP_HYPERV_CPUID')(context)
    const [first] = guest.vcpu.getSupportedHvCpuid()
    expect(first).toMatchObject({ function: 0x4000_0000 })
    const name = new Uint8Array(Uint32Array.of(first!.ebx, first!.ecx, first!.edx).buffer)
    expect(Buffer.from(name).toString('latin1')).toMatch(/Linux KVM Hv|Microsoft Hv/)
  })

  test('without Hyper-V the capability is named', (context) => {
    needsNo('KVM_CAP_HYPERV_CPUID')(context)
    const { vcpu } = guest
    expectMissing(vcpu, 'KVM_CAP_HYPERV_CPUID', KVM_GET_SUPPORTED_HV_CPUID, () =>
      vcpu.getSupportedHvCpuid(),
    )
  })
})

describe('MSRs', () => {
  const SYSENTER_CS = 0x174
  const SYSENTER_ESP = 0x175
  const LSTAR = 0xc000_0082
  const UNKNOWN = 0xdead_beef

  test('come back', () => {
    const entries = [
      { index: SYSENTER_CS, data: 0x10n },
      { index: LSTAR, data: 0xffff_8000_0000_1000n },
    ]
    guest.vcpu.setMsrs(entries)
    expect(guest.vcpu.getMsrs([SYSENTER_CS, LSTAR])).toEqual(entries)
  })

  test.each([0, 1, 254, 255, 256, 510, 511, 1000])('%i at once are read and written', (count) => {
    const { vcpu } = guest
    const entries = Array.from({ length: count }, (_, i) => ({
      index: i % 2 ? SYSENTER_ESP : SYSENTER_CS,
      data: BigInt(i + 1),
    }))
    vcpu.setMsrs(entries)
    expect(vcpu.getMsrs(entries.map(({ index }) => index))).toHaveLength(count)
    if (count > 1) {
      const last = vcpu.getMsrs([SYSENTER_CS, SYSENTER_ESP]).map(({ data }) => Number(data))
      expect(new Set(last)).toEqual(new Set([count - 1, count]))
    }
  })

  test.each([0, 100, 254, 255, 300])(
    'the one refused at %i is named, those before are set',
    (at) => {
      const { vcpu } = guest
      const entries = Array.from({ length: 400 }, (_, i) =>
        i === at ? { index: UNKNOWN, data: 0n } : { index: SYSENTER_CS, data: BigInt(i + 1) },
      )
      vcpu.setMsrs([{ index: SYSENTER_CS, data: 0n }])
      const refused = { code: 'EINVAL', msr: UNKNOWN }
      expect(thrownBy(() => vcpu.setMsrs(entries))).toMatchObject(refused)
      expect(vcpu.getMsrs([SYSENTER_CS])[0]!.data).toBe(BigInt(at))
      expect(thrownBy(() => vcpu.getMsrs(entries.map(({ index }) => index)))).toMatchObject(refused)
    },
  )

  test('every one KVM lists can be read, and written back', () => {
    using full = createGuest(HALT, { irqchip: true })
    const { kvm, vcpu } = full
    vcpu.setCpuid2(kvm.getSupportedCpuid())
    const { msrs } = vcpu.saveState()
    expect(msrs.length).toBeGreaterThan(20)
    for (const entry of msrs) vcpu.setMsrs([entry])
  })
})

const MCG_CAP = 0x179
const MC0_STATUS = 0x401
const VALID_CORRECTED = 1n << 63n
describe('machine checks', () => {
  beforeEach(needs('KVM_CAP_MCE'))

  test('the number of banks is what was set up', () => {
    const { kvm, vcpu } = guest
    const cap = (kvm.x86GetMceCapSupported() & ~0xffn) | 7n
    vcpu.x86SetupMce(cap)
    // KERNEL: for a guest on AMD, all but the count and the control register go.
    expect([cap, cap & 0x1ffn]).toContain(vcpu.getMsrs([MCG_CAP])[0]!.data)
    expect(codeOf(() => vcpu.getMsrs([0x400 + 4 * 32]))).toBe('EINVAL')
  })

  test.each([
    ['no bank', 0n],
    ['too many', 33n],
    ['a feature that is none', 1n << 63n],
  ])('%s is refused', (_what, cap) => {
    expect(codeOf(() => guest.vcpu.x86SetupMce(cap))).toBe('EINVAL')
  })

  test('a corrected error is logged in its bank', () => {
    const { vcpu } = guest
    vcpu.x86SetupMce(4n)
    vcpu.x86SetMce({
      status: VALID_CORRECTED | 5n,
      addr: 0x1234n,
      misc: 0n,
      mcg_status: 0n,
      bank: 0,
    })
    expect(vcpu.getMsrs([MC0_STATUS])[0]!.data & 0xffffn).toBe(5n)
    expect(vcpu.getMsrs([MC0_STATUS + 1])[0]!.data).toBe(0x1234n)
  })

  test('a bank that is none is refused, and a status that is not valid', () => {
    const mce = { status: VALID_CORRECTED, addr: 0n, misc: 0n, mcg_status: 0n, bank: 4 }
    guest.vcpu.x86SetupMce(4n)
    expect(codeOf(() => guest.vcpu.x86SetMce(mce))).toBe('EINVAL')
    expect(codeOf(() => guest.vcpu.x86SetMce({ ...mce, bank: 0, status: 0n }))).toBe('EINVAL')
  })

  test('an uncorrected error that the guest cannot take shuts it down', () => {
    const { vcpu } = guest
    vcpu.x86SetupMce((1n << 8n) | 4n)
    // CR4.MCE is clear, so there is no #MC to raise (SDM vol. 3B §17.8).
    vcpu.setMsrs([
      { index: 0x17b, data: 0xffff_ffff_ffff_ffffn },
      { index: 0x400, data: 0xffff_ffff_ffff_ffffn },
    ])
    const status = VALID_CORRECTED | (1n << 61n) | (1n << 60n)
    vcpu.x86SetMce({ status, addr: 0n, misc: 0n, mcg_status: 4n, bank: 0 })
    vcpu.updateRegs({ rip: BigInt(ENTRY) })
    expect(vcpu.run().type).toBe('shutdown')
  })
})
