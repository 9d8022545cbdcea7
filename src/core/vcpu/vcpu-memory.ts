// Guest memory as one vCPU sees it.

import {
  encodeKvmPreFaultMemory,
  KVM_CAP_PRE_FAULT_MEMORY,
  KVM_PRE_FAULT_MEMORY,
} from '../../uapi/index.js'
import type { MemoryRange } from '../memory.js'
import { integer } from '../validate.js'
import { VcpuXen } from './vcpu-xen.js'

/** Memory of a vCPU. */
export abstract class VcpuMemory extends VcpuXen {
  /**
   * Fills the second-level page tables for a range, so that the guest does not fault there later.
   *
   * @param gpa a multiple of 4096, as is `size`
   * @returns What is left to do: call again until its size is 0, or use {@link populateMemory}.
   * @ioctl KVM_PRE_FAULT_MEMORY (KVM API 4.143)
   * @capability KVM_CAP_PRE_FAULT_MEMORY
   * @throws KvmError `ENOENT` where no slot is, `EOPNOTSUPP` without two-dimensional paging.
   */
  preFaultMemory(gpa: number, size: number): MemoryRange {
    const range = { gpa: integer(gpa, 'gpa'), size: integer(size, 'size') }
    this.capabilities.require(KVM_CAP_PRE_FAULT_MEMORY)
    const { view } = this.native
    encodeKvmPreFaultMemory(view, 0, { ...range, flags: 0n })
    this.request(KVM_PRE_FAULT_MEMORY, 'KVM_PRE_FAULT_MEMORY', undefined, range)
    return { gpa: Number(view.u64[0]), size: Number(view.u64[1]) }
  }

  /** {@link preFaultMemory} to the end of the range. */
  populateMemory(gpa: number, size: number): void {
    let left: MemoryRange = { gpa, size }
    do left = this.preFaultMemory(left.gpa, left.size)
    while (left.size > 0)
  }
}
