// Registers, one kind at a time: what was read can be written, and what was written is read.
// covers: KVM_GET_REGS@vcpu KVM_SET_REGS@vcpu KVM_GET_SREGS@vcpu KVM_SET_SREGS@vcpu
// covers: KVM_GET_SREGS2@vcpu KVM_SET_SREGS2@vcpu KVM_GET_DEBUGREGS@vcpu KVM_SET_DEBUGREGS@vcpu
// covers: KVM_TRANSLATE@vcpu KVM_GET_FPU@vcpu KVM_SET_FPU@vcpu KVM_GET_XSAVE@vcpu KVM_SET_XSAVE@vcpu
// covers: KVM_GET_XSAVE2@vcpu KVM_GET_XCRS@vcpu KVM_SET_XCRS@vcpu
// covers: KVM_GET_ONE_REG@vcpu KVM_SET_ONE_REG@vcpu KVM_GET_REG_LIST@vcpu

import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { msrRegId } from '../../src/index.js'
import { KVM_GET_ONE_REG, KVM_GET_REG_LIST, KVM_GET_XSAVE2 } from '../../src/uapi/index.js'
import { createGuest, type Guest, HALT } from '../helpers/guest.js'
import { capability, needs, needsNo } from '../helpers/probe.js'
import { codeOf, thrownBy } from '../helpers/thrown.js'

let guest: Guest
beforeEach(() => {
  guest = createGuest(HALT, { mode: 'ring0' })
})
afterEach(() => guest.close())

test('general registers keep all 64 bits', () => {
  const { vcpu } = guest
  const names = 'rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15'.split(' ')
  const values = names.map((name, i) => [name, 0xfedc_ba98_7654_3210n + BigInt(i)])
  const regs = {
    ...vcpu.getRegs(),
    ...Object.fromEntries(values),
    rip: 0x1234_5678n,
    rflags: 0x246n,
  }
  vcpu.setRegs(regs)
  expect(vcpu.getRegs()).toEqual(regs)
})

test('general registers of several vCPUs, read in turn, are each their own and stay what they were', () => {
  using other = createGuest(HALT, { mode: 'ring0' })
  guest.vcpu.updateRegs({ rax: 1n, rbx: 2n ** 64n - 1n })
  other.vcpu.updateRegs({ rax: 3n, rbx: 0n })
  const first = guest.vcpu.getRegs()
  for (let i = 0; i < 3; i++) {
    expect(other.vcpu.getRegs()).toMatchObject({ rax: 3n, rbx: 0n })
    expect(guest.vcpu.getRegs()).toEqual(first)
    guest.vcpu.updateRegs({ rcx: BigInt(i) })
    expect(guest.vcpu.getRegs()).toEqual({ ...first, rcx: BigInt(i) })
    guest.vcpu.setRegs(first)
  }
  expect(first).toMatchObject({ rax: 1n, rbx: 2n ** 64n - 1n })
})

test('updateRegs changes what it names and nothing else', () => {
  const { vcpu } = guest
  const before = vcpu.getRegs()
  vcpu.updateRegs({ rdx: 7n })
  expect(vcpu.getRegs()).toEqual({ ...before, rdx: 7n })
})

test('special registers come back as they were read', () => {
  const { vcpu } = guest
  const sregs = vcpu.getSregs()
  vcpu.setSregs(sregs)
  expect(vcpu.getSregs()).toEqual(sregs)
})

test('updateSregs changes what it names and nothing else', () => {
  const { vcpu } = guest
  const before = vcpu.getSregs()
  vcpu.updateSregs({ cr2: 0xdead_beefn })
  expect(vcpu.getSregs()).toEqual({ ...before, cr2: 0xdead_beefn })
})

describe('special registers, second form', () => {
  beforeEach(needs('KVM_CAP_SREGS2'))

  test('come back as they were read', () => {
    const { vcpu } = guest
    const sregs = vcpu.getSregs2()
    vcpu.setSregs2(sregs)
    expect(vcpu.getSregs2()).toEqual(sregs)
  })

  test('agree with the first form', () => {
    const { vcpu } = guest
    const { interrupt_bitmap: _, ...first } = vcpu.getSregs()
    expect(vcpu.getSregs2()).toMatchObject(first)
  })

  test('refuse a flag that is none', () => {
    const { vcpu } = guest
    const sregs = { ...vcpu.getSregs2(), flags: 0x8000n }
    expect(codeOf(() => vcpu.setSregs2(sregs))).toBe('EINVAL')
  })
})

test('debug registers come back', () => {
  const { vcpu } = guest
  const debugregs = vcpu.getDebugregs()
  const changed = { ...debugregs, db: [0x1000n, 0x2000n, 0x3000n, 0xffff_8000_0000_0000n] }
  vcpu.setDebugregs(changed)
  expect(vcpu.getDebugregs()).toEqual(changed)
  expect(codeOf(() => vcpu.setDebugregs({ ...changed, flags: 1n }))).toBe('EINVAL')
})

describe('translate', () => {
  test('follows the page tables', () => {
    const { vcpu, memory } = guest
    expect(vcpu.translate(0x20_1234n)).toEqual({ valid: true, gpa: 0x20_1234 })
    // The third large page, moved to guest-physical 0x600000.
    memory.writeU64(0x3000 + 2 * 8, 0x60_0087n)
    vcpu.updateSregs({}) // drops what KVM remembers of the tables
    expect(vcpu.translate(0x40_0042n)).toEqual({ valid: true, gpa: 0x60_0042 })
  })

  test('tells that nothing is mapped', () => {
    expect(guest.vcpu.translate(0x40_0000_0000n)).toEqual({ valid: false, gpa: 0 })
  })

  test('takes only 64-bit bigints', () => {
    expect(codeOf(() => guest.vcpu.translate(0 as never))).toBe('ERR_INVALID_ARG_TYPE')
    expect(codeOf(() => guest.vcpu.translate(-1n))).toBe('ERR_OUT_OF_RANGE')
  })
})

test('FPU state comes back', () => {
  const { vcpu } = guest
  const fpu = vcpu.getFpu()
  fpu.xmm[5] = Uint8Array.from({ length: 16 }, (_, i) => i * 16 + 1)
  fpu.fpr[2] = Uint8Array.from({ length: 16 }, (_, i) => (i < 10 ? i + 100 : 0))
  vcpu.setFpu(fpu)
  expect(vcpu.getFpu()).toEqual(fpu)
})

describe('XSAVE', () => {
  /** Offset of XMM3 in the legacy region (SDM vol. 1 table 10-2). */
  const XMM3 = 160 + 3 * 16
  const XSTATE_BV = 512

  test('the area comes back and is the FPU state of before', () => {
    const { vcpu } = guest
    const area = vcpu.getXsave()
    expect(area).toHaveLength(4096)
    area.fill(0xa5, XMM3, XMM3 + 16)
    area[XSTATE_BV]! |= 3
    vcpu.setXsave(area)
    expect(vcpu.getXsave()).toEqual(area)
    expect(vcpu.getFpu().xmm[3]).toEqual(new Uint8Array(16).fill(0xa5))
  })

  test('the second form is as long as the capability says', (context) => {
    needs('KVM_CAP_XSAVE2')(context)
    const { vcpu } = guest
    expect(vcpu.xsaveSize).toBe(Math.max(4096, capability('KVM_CAP_XSAVE2')))
    const area = vcpu.getXsave2()
    expect(area).toHaveLength(vcpu.xsaveSize)
    area.fill(0x5a, XMM3, XMM3 + 16)
    area[XSTATE_BV]! |= 3
    vcpu.setXsave(area)
    expect(vcpu.getXsave2()).toEqual(area)
    expect(area.subarray(0, 4096)).toEqual(vcpu.getXsave())
  })

  test('the second form is missed by name', (context) => {
    needsNo('KVM_CAP_XSAVE2')(context)
    const missing = { code: 'ERR_KVM_CAP_MISSING', capability: 'KVM_CAP_XSAVE2' }
    expect(thrownBy(() => guest.vcpu.getXsave2())).toMatchObject(missing)
    const area = new ArrayBuffer(8192)
    expect(codeOf(() => guest.vcpu.unsafeIoctl(KVM_GET_XSAVE2, area))).toMatch(/^E(INVAL|NOTTY)$/)
  })

  test('reserved bits are refused', () => {
    const area = guest.vcpu.getXsave()
    area.fill(0xff, XSTATE_BV, XSTATE_BV + 64)
    expect(codeOf(() => guest.vcpu.setXsave(area))).toBe('EINVAL')
  })
})

describe('XCR0', () => {
  test('comes back', () => {
    const { kvm, vcpu } = guest
    vcpu.setCpuid2(kvm.getSupportedCpuid())
    const xcrs = vcpu.getXcrs()
    expect(xcrs).toContainEqual({ xcr: 0, value: 1n })
    vcpu.setXcrs(xcrs)
    expect(vcpu.getXcrs()).toEqual(xcrs)
  })

  test('must have its x87 bit', () => {
    expect(codeOf(() => guest.vcpu.setXcrs([{ xcr: 0, value: 0n }]))).toBe('EINVAL')
  })

  test('takes at most 16', () => {
    const many = new Array(17).fill({ xcr: 0, value: 1n })
    expect(codeOf(() => guest.vcpu.setXcrs(many))).toBe('ERR_OUT_OF_RANGE')
  })
})

const LSTAR = 0xc000_0082
describe('single registers', () => {
  beforeEach(needs('KVM_CAP_ONE_REG'))

  test('an MSR by id is that MSR', () => {
    const { vcpu } = guest
    vcpu.setOneReg(msrRegId(LSTAR), 0xffff_8000_1234_5678n)
    expect(vcpu.getMsrs([LSTAR])[0]!.data).toBe(0xffff_8000_1234_5678n)
    vcpu.setMsrs([{ index: LSTAR, data: 77n }])
    expect(vcpu.getOneReg(msrRegId(LSTAR))).toBe(77n)
  })

  test('all that are listed can be read', () => {
    const { vcpu } = guest
    for (const id of vcpu.getRegList()) expect(vcpu.getOneReg(id)).toBeTypeOf('bigint')
  })

  test.each([
    ['of another architecture', 0x6030_0000_0010_0000n],
    ['of another size', 0x2020_0002_c000_0082n],
    ['longer than any', 0x20f0_0002_c000_0082n],
    ['of an MSR that is none', msrRegId(0xdead_beef)],
  ])('one %s is refused', (_what, id) => {
    expect(codeOf(() => guest.vcpu.getOneReg(id))).toBe('EINVAL')
    expect(codeOf(() => guest.vcpu.setOneReg(id, 0n))).toBe('EINVAL')
  })
})

describe('single registers on a kernel without them', () => {
  beforeEach(needsNo('KVM_CAP_ONE_REG'))

  test.each<[string, (guest: Guest) => unknown]>([
    ['getOneReg', ({ vcpu }) => vcpu.getOneReg(msrRegId(LSTAR))],
    ['setOneReg', ({ vcpu }) => vcpu.setOneReg(msrRegId(LSTAR), 0n)],
    ['getRegList', ({ vcpu }) => vcpu.getRegList()],
  ])('%s names the capability', (_name, call) => {
    const missing = { code: 'ERR_KVM_CAP_MISSING', capability: 'KVM_CAP_ONE_REG' }
    expect(thrownBy(() => call(guest))).toMatchObject(missing)
  })

  test.each([KVM_GET_ONE_REG, KVM_GET_REG_LIST])('the kernel does not know 0x%x', (request) => {
    expect(codeOf(() => guest.vcpu.unsafeIoctl(request, new ArrayBuffer(64)))).toMatch(/^E/)
  })
})
