// Model-specific registers, any number at a time.

import {
  decodeKvmMsrEntry,
  encodeKvmMsrEntry,
  KVM_GET_MSRS,
  KVM_SET_MSRS,
  type StructView,
} from '../../uapi/index.js'
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
    const entries = list(indices, 'indices').map((index) => ({
      index: uint32(index, 'indices'),
      data: 0n,
    }))
    return batches(entries).flatMap((batch) =>
      withDraft((draft) => {
        this.#transferMsrs(KVM_GET_MSRS, 'KVM_GET_MSRS', batch, draft)
        return batch.map((_, i) => msrEntry(draft, i))
      }),
    )
  }

  /**
   * Writes MSRs in order, any number of them.
   *
   * @ioctl KVM_SET_MSRS (KVM API 4.19)
   * @throws KvmError naming in `msr` the one that KVM refused; those before it are written.
   */
  setMsrs(entries: readonly MsrEntry[]): void {
    for (const batch of batches(list(entries, 'entries'))) {
      withDraft((draft) => this.#transferMsrs(KVM_SET_MSRS, 'KVM_SET_MSRS', batch, draft))
    }
  }

  // KERNEL: both requests return how many MSRs they got through and stop at the first they refuse.
  #transferMsrs(
    request: number,
    name: string,
    batch: readonly MsrEntry[],
    draft: StructView,
  ): void {
    for (let i = 0; i < batch.length; i++) encodeKvmMsrEntry(draft, HEADER + i * ENTRY, batch[i]!)
    draft.u32[0] = batch.length
    draft.u32[1] = 0
    const done = this.request(request, name, draft.buffer as ArrayBuffer)
    if (done === batch.length) return
    throw kvmError(EINVAL, {
      ioctl: name,
      msr: msrEntry(draft, done).index,
      vcpuId: this.id,
      reason: 'KVM refuses this MSR',
    })
  }
}

function batches(entries: readonly MsrEntry[]): MsrEntry[][] {
  const count = Math.ceil(entries.length / MSR_BATCH)
  return Array.from({ length: count }, (_, i) => entries.slice(i * MSR_BATCH, (i + 1) * MSR_BATCH))
}

function msrEntry(view: StructView, i: number): MsrEntry {
  const { index, data } = decodeKvmMsrEntry(view, HEADER + i * ENTRY)
  return { index, data }
}
