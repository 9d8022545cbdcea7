// The ring in which the kernel keeps a guest's writes to coalesced ranges. KVM API 4.116; the layout
// is struct kvm_coalesced_mmio_ring of linux/kvm.h.

import { KVM_COALESCED_MMIO_PAGE_OFFSET, type StructView } from '../../uapi/index.js'
import { closedError } from '../errors.js'
import { callback } from '../validate.js'
import { Vcpu } from '../vcpu.js'

const PAGE = 4096
const RING = KVM_COALESCED_MMIO_PAGE_OFFSET * PAGE
const HEADER = 8
const ENTRY = 24
const ENTRIES = Math.floor((PAGE - HEADER) / ENTRY)
const FIRST = RING / 4
const LAST = FIRST + 1

/** A write of the guest that did not exit. */
export interface CoalescedWrite {
  /** Guest-physical address, or port. */
  address: number
  /** Whether `address` is a port. */
  pio: boolean
  /** What was written, 1 to 8 bytes, little endian. */
  data: Uint8Array
}

/**
 * The writes that {@link Vm.registerCoalescedMmio} kept. There is one ring for all of a VM, which each
 * of its vCPUs shows; 169 writes fit, and then the next one exits as usual.
 *
 * Drain it after every exit, before the exit is handled: what is in it came first.
 */
export class CoalescedRing {
  readonly #vcpu: Vcpu
  readonly #page: StructView

  /** @param vcpu Any vCPU of the VM. */
  constructor(vcpu: Vcpu) {
    this.#page = Vcpu.pageOf(vcpu)
    this.#vcpu = vcpu
  }

  /**
   * Hands every write to `each`, in their order, and takes it out of the ring. A write that `each`
   * throws at is taken out; those after it stay.
   *
   * THREAD: one at a time for all of a VM.
   *
   * @returns How many there were.
   * @throws KvmError `ERR_KVM_CLOSED` when the vCPU was closed.
   */
  drain(each: (write: CoalescedWrite) => void): number {
    callback(each, 'each')
    if (this.#vcpu.closed) throw closedError({ vcpuId: this.#vcpu.id })
    const { u32 } = this.#page
    let count = 0
    for (;;) {
      const first = Atomics.load(u32, FIRST)
      if (first >= ENTRIES || first === Atomics.load(u32, LAST)) return count
      const write = this.#entry(first)
      // ORDER: the entry is free for the kernel as soon as `first` has passed it: copied before.
      Atomics.store(u32, FIRST, (first + 1) % ENTRIES)
      count++
      each(write)
    }
  }

  #entry(index: number): CoalescedWrite {
    const { u8, u32, u64 } = this.#page
    const at = RING + HEADER + index * ENTRY
    const length = Math.min(u32[at / 4 + 2]!, 8)
    return {
      address: Number(u64[at / 8]),
      pio: u32[at / 4 + 3] !== 0,
      data: u8.slice(at + 16, at + 16 + length),
    }
  }
}
