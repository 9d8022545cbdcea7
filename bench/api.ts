// The vCPU's own ioctls, every field decoded, against the bare ioctl in C; our own cost of those that
// matter most (bench/api-bare.ts); and the codecs alone.

import { Kvm, type Vcpu } from 'node-kvm'
import {
  encodeKvmCpuidEntry2,
  encodeKvmMsrEntry,
  encodeKvmSregs2,
  KVM_GET_CPUID2,
  KVM_GET_MSRS,
  KVM_SET_CPUID2,
  KVM_SET_MSRS,
  KVM_SET_SREGS2,
  type KvmCpuidEntry2,
  type StructView,
} from 'node-kvm/uapi'
import type { Benchmark, Context } from './benchmark.js'
import { BARE_ADDON, type CGuest } from './build.js'
import { codecRows } from './codec.js'
import { createGuest, PORT_LOOP } from './guests.js'
import { keep } from './keep.js'
import { bytesOf, type Method, methodRow, registerRows } from './registers.js'
import type { Goal, Report, Row } from './report.js'

const LEAVES = 100
const MSRS = 40
const LIST_HEADER = 8

const LISTS: Goal = { extraNs: 10_000 }

/** Registers, CPUID and MSRs by ioctl, and the codecs. */
export const benchmark: Benchmark = async (context): Promise<Report> => {
  using kvm = Kvm.open()
  const bare = context.runApart('api-bare', { NODE_KVM_ADDON: BARE_ADDON })
  const rows = [...bare.rows, ...methodRows(context, kvm), ...codecRows(context)]
  return { rows, allocations: [] }
}

function methodRows(context: Context, kvm: Kvm): Row[] {
  const cpuid = leaves(kvm)
  const setCpuid = listOf(cpuid, 40, encodeKvmCpuidEntry2)
  const indices = writableMsrs(kvm)
  const measure = <T>(method: Method<T>): Row => methodRow(context, kvm, method, prepareBoth)
  const prepareBoth = (vcpu: Vcpu, guest: CGuest) => {
    vcpu.setCpuid2(cpuid)
    context.loops.ioctlLoop(guest, KVM_SET_CPUID2, setCpuid, 1)
  }
  const getMsrs = (vcpu: Vcpu) => vcpu.getMsrs(indices)
  return [
    ...registerRows(context, kvm, prepareBoth),
    measure({
      name: 'setSregs2',
      request: KVM_SET_SREGS2,
      prepare: (vcpu) => vcpu.getSregs2(),
      argument: (sregs) => bytesOf(1024, (view) => encodeKvmSregs2(view, 0, sregs)),
      ours: (vcpu, sregs, count) => {
        for (let i = 0; i < count; i++) vcpu.setSregs2(sregs)
      },
    }),
    measure({
      name: `getCpuid2, ${LEAVES} leaves`,
      goal: LISTS,
      request: KVM_GET_CPUID2,
      prepare: () => undefined,
      argument: () => setCpuid.slice(0),
      ours: (vcpu, _, count) => {
        let last: unknown
        for (let i = 0; i < count; i++) last = vcpu.getCpuid2()
        keep(last)
      },
    }),
    measure({
      name: `setCpuid2, ${LEAVES} leaves`,
      goal: LISTS,
      request: KVM_SET_CPUID2,
      prepare: () => cpuid,
      argument: () => setCpuid,
      ours: (vcpu, table, count) => {
        for (let i = 0; i < count; i++) vcpu.setCpuid2(table)
      },
    }),
    measure({
      name: `getMsrs, ${indices.length}`,
      goal: LISTS,
      request: KVM_GET_MSRS,
      prepare: getMsrs,
      argument: (entries) => listOf(entries, 16, encodeKvmMsrEntry),
      ours: (vcpu, _, count) => {
        let last: unknown
        for (let i = 0; i < count; i++) last = vcpu.getMsrs(indices)
        keep(last)
      },
    }),
    measure({
      name: `setMsrs, ${indices.length}`,
      goal: LISTS,
      request: KVM_SET_MSRS,
      prepare: getMsrs,
      argument: (entries) => listOf(entries, 16, encodeKvmMsrEntry),
      ours: (vcpu, entries, count) => {
        for (let i = 0; i < count; i++) vcpu.setMsrs(entries)
      },
    }),
  ]
}

/** {@link MSRS} of them, the same one several times where there are fewer. */
function writableMsrs(kvm: Kvm): number[] {
  const vcpu = createGuest(kvm, PORT_LOOP)
  const isWritable = (index: number) => {
    try {
      vcpu.setMsrs(vcpu.getMsrs([index]))
      return true
    } catch {
      return false
    }
  }
  const all = kvm.getMsrIndexList().filter(isWritable)
  return Array.from({ length: MSRS }, (_, i) => all[i % all.length]!)
}

/** What this KVM supports, made up to {@link LEAVES} with leaves that nothing reads. */
function leaves(kvm: Kvm): KvmCpuidEntry2[] {
  const table = kvm.getSupportedCpuid().slice(0, LEAVES)
  const last = table.at(-1)!
  for (let leaf = 0x4000_1000; table.length < LEAVES; leaf++)
    table.push({ ...last, function: leaf })
  return table
}

/** A count, padding, and the entries: as kvm_cpuid2 and kvm_msrs are. */
function listOf<T>(
  entries: readonly T[],
  size: number,
  encode: (view: StructView, offset: number, entry: T) => void,
): ArrayBuffer {
  return bytesOf(LIST_HEADER + entries.length * size, (view) => {
    view.u32[0] = entries.length
    entries.forEach((entry, i) => {
      encode(view, LIST_HEADER + i * size, entry)
    })
  })
}
