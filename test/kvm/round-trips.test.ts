// Every get/set pair of the API: what was read is taken back, and read again it is the same.

import { readFileSync } from 'node:fs'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { KvmError, msrRegId, type Vcpu, type Vm } from '../../src/index.js'
import {
  KVM_VCPU_TSC_CTRL,
  KVM_VCPU_TSC_OFFSET,
  KVM_XEN_ATTR_TYPE_LONG_MODE,
  KVM_XEN_VCPU_ATTR_TYPE_VCPU_ID,
} from '../../src/uapi/index.js'
import { withoutApicIds } from '../helpers/apic-id.js'
import { createGuest, type Guest, HALT } from '../helpers/guest.js'

let guest: Guest
let empty: Vm
beforeEach(() => {
  guest = createGuest(HALT, { irqchip: true, mode: 'ring0' })
  guest.vm.createPit2()
  guest.vcpu.setCpuid2(guest.kvm.getSupportedCpuid())
  empty = guest.kvm.createVm()
})
afterEach(() => {
  empty.close()
  guest.close()
})

const IA32_TSC = 0x10
const IA32_EFER = 0xc000_0080
const HV_CLOCKS = [0x4000_0010, 0x4000_0020]

/** Every MSR of the list that can be written, but clocks. */
function writableMsrs(vcpu: Vcpu): number[] {
  return guest.kvm.getMsrIndexList().filter((index) => {
    if (index === IA32_TSC || HV_CLOCKS.includes(index)) return false
    try {
      vcpu.setMsrs(vcpu.getMsrs([index]))
      return true
    } catch {
      return false
    }
  })
}

interface Pair {
  get: () => unknown
  // biome-ignore lint/suspicious/noExplicitAny: what get() gave
  set: (value: any) => void
  /** What of it has to be the same. */
  compared?: (value: never) => unknown
}

/** Setting a timer's state starts its channels anew: the moment of that is the kernel's. */
const timeless = ({ channels }: { channels: { count_load_time: bigint }[] }) =>
  channels.map(({ count_load_time: _, ...rest }) => rest)

/** By the request that reads. */
const pairs: Record<string, (guest: Guest) => Pair> = {
  'KVM_GET_IRQCHIP@vm': ({ vm }) => ({
    get: () => [0, 1, 2].map((chip) => vm.getIrqchip(chip)),
    set: (chips) => {
      for (const chip of chips) vm.setIrqchip(chip)
    },
  }),
  'KVM_GET_PIT@vm': ({ vm }) => ({
    get: () => vm.getPit(),
    set: (state) => vm.setPit(state),
    compared: timeless,
  }),
  'KVM_GET_PIT2@vm': ({ vm }) => ({
    get: () => vm.getPit2(),
    set: (state) => vm.setPit2(state),
    compared: timeless,
  }),
  'KVM_GET_CLOCK@vm': ({ vm }) => ({
    get: () => vm.getClock(),
    set: (clock) => vm.setClock(clock),
    // It runs: within a day.
    compared: ({ clock }: { clock: bigint }) => clock / 86_400_000_000_000n,
  }),
  'KVM_GET_NR_MMU_PAGES@vm': ({ vm }) => ({
    get: () => vm.getNrMmuPages(),
    set: (pages) => vm.setNrMmuPages(pages),
  }),
  // Set before the first vCPU.
  'KVM_GET_TSC_KHZ@vm': () => ({
    get: () => empty.getTscKhz(),
    set: (rate) => empty.setTscKhz(rate),
  }),
  'KVM_XEN_HVM_GET_ATTR@vm': ({ vm }) => ({
    get: () => vm.xenHvmGetAttr(KVM_XEN_ATTR_TYPE_LONG_MODE),
    set: (attr) => vm.xenHvmSetAttr(attr),
  }),
  'KVM_GET_REGS@vcpu': ({ vcpu }) => ({
    get: () => vcpu.getRegs(),
    set: (regs) => vcpu.setRegs(regs),
  }),
  'KVM_GET_SREGS@vcpu': ({ vcpu }) => ({
    get: () => vcpu.getSregs(),
    set: (sregs) => vcpu.setSregs(sregs),
  }),
  'KVM_GET_SREGS2@vcpu': ({ vcpu }) => ({
    get: () => vcpu.getSregs2(),
    set: (sregs) => vcpu.setSregs2(sregs),
  }),
  'KVM_GET_FPU@vcpu': ({ vcpu }) => ({
    get: () => vcpu.getFpu(),
    set: (fpu) => vcpu.setFpu(fpu),
  }),
  'KVM_GET_XSAVE@vcpu': ({ vcpu }) => ({
    get: () => vcpu.getXsave(),
    set: (area) => vcpu.setXsave(area),
  }),
  'KVM_GET_XCRS@vcpu': ({ vcpu }) => ({
    get: () => vcpu.getXcrs(),
    set: (xcrs) => vcpu.setXcrs(xcrs),
  }),
  'KVM_GET_DEBUGREGS@vcpu': ({ vcpu }) => ({
    get: () => vcpu.getDebugregs(),
    set: (debugregs) => vcpu.setDebugregs(debugregs),
  }),
  'KVM_GET_LAPIC@vcpu': ({ vcpu }) => ({
    get: () => vcpu.getLapic(),
    set: (lapic) => vcpu.setLapic(lapic),
  }),
  'KVM_GET_MP_STATE@vcpu': ({ vcpu }) => ({
    get: () => vcpu.getMpState(),
    set: (state) => vcpu.setMpState(state),
  }),
  'KVM_GET_VCPU_EVENTS@vcpu': ({ vcpu }) => ({
    get: () => vcpu.getVcpuEvents(),
    set: (events) => vcpu.setVcpuEvents(events),
  }),
  'KVM_GET_CPUID2@vcpu': ({ vcpu }) => ({
    get: () => withoutApicIds(vcpu.getCpuid2()),
    set: (table) => vcpu.setCpuid2(table),
  }),
  'KVM_GET_MSRS@vcpu': ({ vcpu }) => {
    const indices = writableMsrs(vcpu)
    expect(indices.length).toBeGreaterThan(20)
    return { get: () => vcpu.getMsrs(indices), set: (entries) => vcpu.setMsrs(entries) }
  },
  'KVM_GET_TSC_KHZ@vcpu': ({ vcpu }) => ({
    get: () => vcpu.getTscKhz(),
    set: (rate) => vcpu.setTscKhz(rate),
  }),
  'KVM_GET_ONE_REG@vcpu': ({ vcpu }) => ({
    get: () =>
      [...vcpu.getRegList(), msrRegId(IA32_EFER)].map((id) => ({ id, value: vcpu.getOneReg(id) })),
    set: (registers) => {
      for (const { id, value } of registers) vcpu.setOneReg(id, value)
    },
  }),
  'KVM_GET_NESTED_STATE@vcpu': ({ vcpu }) => ({
    get: () => vcpu.getNestedState(),
    set: (state) => vcpu.setNestedState(state),
  }),
  'KVM_XEN_VCPU_GET_ATTR@vcpu': ({ vcpu }) => ({
    get: () => vcpu.xenVcpuGetAttr(KVM_XEN_VCPU_ATTR_TYPE_VCPU_ID),
    set: (attr) => vcpu.xenVcpuSetAttr(attr),
  }),
  'KVM_GET_DEVICE_ATTR@vcpu': ({ vcpu }) => ({
    get: () => vcpu.getDeviceAttr(KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET),
    set: (offset) => vcpu.setDeviceAttr(KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, offset),
  }),
}

/** The VFIO device, the only one on x86, has nothing to read. */
const WRITE_ONLY = ['KVM_GET_DEVICE_ATTR@device']

test('these are all the pairs that the API has', () => {
  const path = new URL('../../reference/kvm-ioctls.json', import.meta.url)
  const rows: { name: string; scopes: string[] }[] = JSON.parse(readFileSync(path, 'utf8'))
  const all = new Set(rows.flatMap(({ name, scopes }) => scopes.map((scope) => `${name}@${scope}`)))
  const readable = [...all].filter(
    (key) => key.includes('_GET_') && all.has(key.replace('_GET_', '_SET_')),
  )
  expect([...Object.keys(pairs), ...WRITE_ONLY].sort()).toEqual(readable.sort())
})

test.for(Object.entries(pairs))('%s', ([, make], { skip }) => {
  const { get, set, compared = (value: never) => value } = make(guest)
  const before = answerOrRefusal(get)
  if (before instanceof KvmError) return skip(before.message)
  set(before)
  expect(compared(get() as never)).toEqual(compared(before as never))
})

/** A kernel without the capability, or one that has dropped the request, says so. */
function answerOrRefusal(get: () => unknown): unknown {
  try {
    return get()
  } catch (error) {
    if (error instanceof KvmError && /^(ERR_KVM_CAP_MISSING|ENOTTY)$/.test(error.code)) return error
    throw error
  }
}
