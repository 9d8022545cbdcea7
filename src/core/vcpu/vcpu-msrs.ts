// Model-specific registers, any number at a time.

import { encodeKvmMsrEntry, KVM_GET_MSRS, KVM_SET_MSRS, type StructView } from '../../uapi/index.js'
import { withDraft } from '../draft.js'
import { kvmError } from '../errors.js'
import { list, uint32 } from '../validate.js'
import { VcpuCpuid } from './vcpu-cpuid.js'

/** The kernel takes at most this many MSRs in one call. */
const MSR_BATCH = 255
const HEADER = 8
const ENTRY = 16
const EINVAL = -22

/** One MSR and its value. */
export interface MsrEntry {
  index: number
  data: bigint
}

/** MSRs of a vCPU. */
export abstract class VcpuMsrs extends VcpuCpuid {
  /**
   * Reads MSRs, any number of them.
   *
   * @ioctl KVM_GET_MSRS (KVM API 4.18)
   * @throws KvmError naming in `msr` the first one that KVM refuses to read.
   */
  getMsrs(indices: readonly number[]): MsrEntry[] {
    const wanted = list(indices, 'indices')
    const entries: MsrEntry[] = []
    for (let from = 0; from < wanted.length; from += MSR_BATCH) {
      withDraft((draft) => {
        const { u32, u64 } = draft
        const count = Math.min(MSR_BATCH, wanted.length - from)
        for (let i = 0; i < count; i++) {
          u32[indexAt(i)] = uint32(wanted[from + i], 'indices')
          u32[indexAt(i) + 1] = 0
        }
        this.#transferMsrs(KVM_GET_MSRS, 'KVM_GET_MSRS', count, draft)
        for (let i = 0; i < count; i++) {
          entries.push({ index: u32[indexAt(i)]!, data: u64[dataAt(i)]! })
        }
      })
    }
    return entries
  }

  /**
   * Writes MSRs in order, any number of them.
   *
   * @ioctl KVM_SET_MSRS (KVM API 4.19)
   * @throws KvmError naming in `msr` the one that KVM refused; those before it are written.
   */
  setMsrs(entries: readonly MsrEntry[]): void {
    const all = list(entries, 'entries').slice()
    for (let from = 0; from < all.length; from += MSR_BATCH) {
      withDraft((draft) => {
        const count = Math.min(MSR_BATCH, all.length - from)
        for (let i = 0; i < count; i++) {
          encodeKvmMsrEntry(draft, HEADER + i * ENTRY, all[from + i]!)
        }
        this.#transferMsrs(KVM_SET_MSRS, 'KVM_SET_MSRS', count, draft)
      })
    }
  }

  // KERNEL: both requests return how many MSRs they got through and stop at the first they refuse.
  #transferMsrs(request: number, name: string, count: number, draft: StructView): void {
    draft.u32[0] = count
    draft.u32[1] = 0
    const done = this.request(request, name, draft.buffer as ArrayBuffer)
    if (done === count) return
    throw kvmError(EINVAL, {
      ioctl: name,
      msr: draft.u32[indexAt(done)]!,
      vcpuId: this.id,
      reason: 'KVM refuses this MSR',
    })
  }
}

/** Where the fields of struct kvm_msr_entry are, in words of their sizes. */
const indexAt = (i: number) => (HEADER + i * ENTRY) / 4
const dataAt = (i: number) => (HEADER + i * ENTRY) / 8 + 1
