// The MSRs that belong to a vCPU's state, and their order.

import { KvmError } from '../errors.js'
import type { Kvm } from '../kvm.js'
import type { MsrEntry } from '../vcpu/vcpu-msrs.js'
import type { Vcpu } from '../vcpu.js'

/** IA32_MCG_CAP (SDM vol. 4 table 2-2). */
export const MCG_CAP = 0x179
const IA32_TSC = 0x10
const IA32_TSC_DEADLINE = 0x6e0

const range = (first: number, count: number) => Array.from({ length: count }, (_, i) => first + i)

// KVM keeps the memory types but does not list them (SDM vol. 3A §13.11.2): variable ranges, fixed
// ranges, default type.
const MTRRS = [...range(0x200, 16), 0x250, 0x258, 0x259, ...range(0x268, 8), 0x2ff]

/** IA32_MCi_CTL, _STATUS, _ADDR and _MISC of every bank: how many there are is the vCPU's affair. */
function bankMsrs(vcpu: Vcpu): number[] {
  const [capability] = existing(vcpu, [MCG_CAP])
  return capability === undefined ? [] : range(0x400, 4 * Number(capability.data & 0xffn))
}

const listed = new WeakMap<Kvm, readonly number[]>()

function listOf(kvm: Kvm): readonly number[] {
  const known = listed.get(kvm)
  if (known !== undefined) return known
  const list = kvm.getMsrIndexList()
  listed.set(kvm, list)
  return list
}

/** All MSRs of the vCPU that can be read, in the order in which {@link writeMsrs} wants them. */
export function readMsrs(vcpu: Vcpu): MsrEntry[] {
  const all = new Set([...listOf(vcpu.vm.kvm), ...MTRRS, ...bankMsrs(vcpu)])
  // ORDER: the TSC late, so that the guest sees little of the time this takes; its deadline after it,
  // being a time of this TSC, and after the LAPIC.
  for (const last of [IA32_TSC, IA32_TSC_DEADLINE]) {
    if (all.delete(last)) all.add(last)
  }
  return existing(vcpu, [...all])
}

/** The MSRs among `indices` that the vCPU has. */
function existing(vcpu: Vcpu, indices: readonly number[]): MsrEntry[] {
  const left = new Set(indices)
  while (left.size > 0) {
    try {
      return vcpu.getMsrs([...left])
    } catch (error) {
      const refused = refusedMsr(error)
      if (refused === undefined) throw error
      left.delete(refused)
    }
  }
  return []
}

/** Writes MSRs in order. One that cannot be written is no matter as long as it has its value. */
export function writeMsrs(vcpu: Vcpu, entries: readonly MsrEntry[]): void {
  for (let rest = entries; rest.length > 0; ) {
    try {
      vcpu.setMsrs(rest)
      return
    } catch (error) {
      const refused = refusedMsr(error)
      const at = rest.findIndex(({ index }) => index === refused)
      const [now] = refused === undefined ? [] : existing(vcpu, [refused])
      if (now === undefined || now.data !== rest[at]?.data) throw error
      rest = rest.slice(at + 1)
    }
  }
}

function refusedMsr(error: unknown): number | undefined {
  return error instanceof KvmError ? error.msr : undefined
}
