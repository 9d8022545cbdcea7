// The ring in which the kernel notes the pages that a vCPU wrote. KVM API 8.29; an entry is struct
// kvm_dirty_gfn of linux/kvm.h.

import { binding } from '../binding.js'
import {
  KVM_CAP_DIRTY_LOG_RING,
  KVM_DIRTY_GFN_F_DIRTY,
  KVM_DIRTY_GFN_F_RESET,
  StructView,
} from '../uapi/index.js'
import { capabilityText } from './capability-number.js'
import { closedError, KvmError, kvmError } from './errors.js'
import { callback } from './validate.js'
import { Vcpu } from './vcpu.js'
import { dirtyRingOf } from './vm-file.js'

const ENTRY = 16

/** A page that a vCPU wrote. */
export interface DirtyPage {
  /** The slot: its number in bits 0 to 15, the address space in bits 16 to 31. */
  slot: number
  /** The page within the slot. */
  page: number
}

/**
 * The dirty ring of one vCPU, where `KVM_CAP_DIRTY_LOG_RING` is enabled for its VM and its slots have
 * `KVM_MEM_LOG_DIRTY_PAGES`. Collect what is in it, then {@link Vm.resetDirtyRings}, then read the
 * pages; in time: a vCPU whose ring is nearly full ends its runs with a `'dirty-ring-full'` exit.
 */
export class DirtyRing {
  readonly #vcpu: Vcpu
  readonly #view: StructView
  readonly #entries: number
  #next = 0

  /**
   * Maps the ring, from its beginning: there is one of these for a vCPU, made before the first
   * collection.
   *
   * @throws KvmError `EINVAL` when the VM has no dirty rings; `ERR_KVM_BUSY` while the vCPU runs.
   */
  constructor(vcpu: Vcpu) {
    const handle = Vcpu.handleOf(vcpu)
    const vm = dirtyRingOf(vcpu.vm)
    if (vm.size === 0) {
      throw new KvmError('EINVAL', 22, 'the VM has no dirty rings', {
        capability: capabilityText(KVM_CAP_DIRTY_LOG_RING),
        reason: 'enable the capability before the first vCPU',
        vcpuId: vcpu.id,
      })
    }
    const ring = binding().mapDirtyRing(vm.handle, handle, vm.size)
    if (typeof ring === 'number') throw kvmError(ring, { syscall: 'mmap', vcpuId: vcpu.id })
    this.#vcpu = vcpu
    this.#view = new StructView(ring)
    this.#entries = vm.size / ENTRY
  }

  /**
   * Hands every entry to `each`, oldest first, and marks it as collected. A page may come twice.
   *
   * @returns How many there were.
   * @throws KvmError `ERR_KVM_CLOSED` when the vCPU was closed.
   */
  collect(each: (page: DirtyPage) => void): number {
    callback(each, 'each')
    if (this.#vcpu.closed) throw closedError({ vcpuId: this.#vcpu.id })
    const { u32, u64 } = this.#view
    for (let count = 0; ; count++) {
      const at = this.#next * ENTRY
      // ORDER: the kernel writes the entry before its flag, and this reads them the other way round.
      if (Atomics.load(u32, at / 4) !== KVM_DIRTY_GFN_F_DIRTY) return count
      const page = { slot: u32[at / 4 + 1]!, page: Number(u64[at / 8 + 1]) }
      this.#next = (this.#next + 1) % this.#entries
      Atomics.store(u32, at / 4, KVM_DIRTY_GFN_F_RESET)
      each(page)
    }
  }
}
