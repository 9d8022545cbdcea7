// The ring in which the kernel notes the pages that a vCPU wrote. KVM API 8.29; an entry is struct
// kvm_dirty_gfn of linux/kvm.h.

import { binding } from '../../binding.js'
import {
  KVM_CAP_DIRTY_LOG_RING,
  KVM_DIRTY_GFN_F_DIRTY,
  KVM_DIRTY_GFN_F_RESET,
} from '../../uapi/index.js'
import { capabilityText } from '../capabilities/capability-number.js'
import { closedError, KvmError, kvmError } from '../errors.js'
import { callback } from '../validate.js'
import { Vcpu } from '../vcpu.js'
import { type DirtyRings, dirtyRingsOf } from '../vm/vm-file.js'

const rings = new WeakMap<Vcpu, DirtyRing>()
/** The entry that comes next; entries taken since the last reset; overflows; resets seen. */
const NEXT = 0
const SINCE_RESET = 1
const OVERFLOWS = 2
const RESETS = 3
/** An entry in 32-bit words: flags, slot, page (low, high). */
const ENTRY = 4
// KERNEL: entries that a full ring holds at least: the smallest has 256, of which 64 stay free.
const SURELY_USED = 128

/**
 * The dirty ring of one vCPU, where `KVM_CAP_DIRTY_LOG_RING` is enabled for its VM and its slots have
 * `KVM_MEM_LOG_DIRTY_PAGES`. Collect what is in it, then {@link Vm.resetDirtyRings}, then read the
 * pages; in time: a vCPU whose ring is nearly full ends its runs with a `'dirtyRingFull'` exit.
 * {@link DirtyTracker} does all of it.
 *
 * A KVM that interprets guest code looks only now and then whether the ring is full, and writes over
 * entries that nobody has seen yet. This is noticed, see {@link overflows}.
 */
export class DirtyRing {
  /** The vCPU that fills it. */
  readonly vcpu: Vcpu
  readonly #words: Int32Array
  readonly #entries: number
  readonly #vm: DirtyRings
  /** In words, which the native side reads and writes: see NEXT. */
  readonly #place = new Uint32Array(new ArrayBuffer(16))

  private constructor(vcpu: Vcpu, vm: DirtyRings, ring: ArrayBuffer) {
    this.vcpu = vcpu
    this.#words = new Int32Array(ring)
    this.#entries = vm.size / (ENTRY * 4)
    this.#vm = vm
    this.#place[RESETS] = vm.resets
  }

  /**
   * The ring of a vCPU; always the same object, which knows how far it was collected.
   *
   * @throws KvmError `EINVAL` when the VM has no dirty rings; `ERR_KVM_BUSY` while the vCPU runs.
   */
  static of(vcpu: Vcpu): DirtyRing {
    const handle = Vcpu.handleOf(vcpu)
    const known = rings.get(vcpu)
    if (known !== undefined && !vcpu.closed) return known
    const vm = dirtyRingsOf(vcpu.vm)
    if (vm.size === 0) {
      throw new KvmError('EINVAL', 22, 'the VM has no dirty rings', {
        capability: capabilityText(KVM_CAP_DIRTY_LOG_RING),
        reason: 'enable the capability before the first vCPU',
        vcpuId: vcpu.id,
      })
    }
    const mapped = binding().mapDirtyRing(vm.handle, handle, vm.size)
    if (typeof mapped === 'number') throw kvmError(mapped, { syscall: 'mmap', vcpuId: vcpu.id })
    const ring = new DirtyRing(vcpu, vm, mapped)
    rings.set(vcpu, ring)
    return ring
  }

  /**
   * How often entries were overwritten before they were collected. Pages that were written are then
   * unknown, and further writes to them may not be noticed until the logging of their slots was
   * turned off and on again. Always 0 where the processor runs the guest.
   */
  get overflows(): number {
    return this.#place[OVERFLOWS]!
  }

  /**
   * Hands every entry to `each`, oldest first, and marks it as collected: the slot (its number in
   * bits 0 to 15, the address space in bits 16 to 31) and the page within it. A page may come twice.
   *
   * @returns How many there were.
   * @throws KvmError `ERR_KVM_CLOSED` when the vCPU was closed.
   */
  collect(each: (slot: number, page: number) => void): number {
    callback(each, 'each')
    if (this.vcpu.closed) throw closedError({ vcpuId: this.vcpu.id })
    this.#noteReset()
    const words = this.#words
    let count = 0
    while (this.#hasRoom()) {
      const at = this.#next * ENTRY
      // ORDER: the kernel writes the entry before its flag, and this reads them the other way round.
      if (Atomics.load(words, at) !== KVM_DIRTY_GFN_F_DIRTY) {
        if (this.overflows > 0 && this.#skipStale()) continue
        return count
      }
      const slot = words[at + 1]! >>> 0
      const page = (words[at + 2]! >>> 0) + words[at + 3]! * 2 ** 32
      this.#take(at)
      count++
      each(slot, page)
    }
    return count
  }

  /** @internal What `harvestRings` is given of it. */
  get words(): readonly [ring: Int32Array, place: Uint32Array] {
    return [this.#words, this.#place]
  }

  /** @internal After an overflow: whether there are entries behind some that were collected before. */
  skipStale(): boolean {
    return this.overflows > 0 && this.#hasRoom() && this.#skipStale()
  }

  /**
   * @internal For a vCPU that says its ring is full when there is nothing in it: gives back entries
   * that the kernel counts as used. Only after an overflow; a running vCPU's ring must not be given.
   */
  giveBackStale(): void {
    if (this.overflows === 0) return
    this.#noteReset()
    for (let i = 0; i < SURELY_USED && this.#hasRoom(); i++) {
      this.#take(this.#next * ENTRY)
    }
  }

  #take(at: number): void {
    this.#place[NEXT] = this.#next + 1 === this.#entries ? 0 : this.#next + 1
    Atomics.store(this.#words, at, KVM_DIRTY_GFN_F_RESET)
    this.#noteTaken()
  }

  #noteTaken(): void {
    const taken = ++this.#place[SINCE_RESET]!
    // KERNEL: a vCPU exits when 64 entries or more are free; a ring without any was overrun.
    if (taken === this.#entries) this.#place[OVERFLOWS]!++
  }

  #noteReset(): void {
    if (this.#place[RESETS] === this.#vm.resets) return
    this.#place[RESETS] = this.#vm.resets
    this.#place[SINCE_RESET] = 0
  }

  get #next(): number {
    return this.#place[NEXT]!
  }

  #hasRoom(): boolean {
    return this.#place[SINCE_RESET]! < this.#entries
  }

  /**
   * After an overflow: the kernel counts on from entries that were collected already, by the number
   * of those it has overwritten. Skips them, when what comes behind them shows how many they are.
   */
  #skipStale(): boolean {
    const isDirty = (entry: number) =>
      Atomics.load(this.#words, (entry % this.#entries) * ENTRY) === KVM_DIRTY_GFN_F_DIRTY
    let distance = 1
    while (distance < this.#entries && !isDirty(this.#next + distance)) distance++
    if (distance === this.#entries) return false
    // ORDER: the kernel fills entries one after the other, so this one is dirty by now unless it is
    // stale.
    if (isDirty(this.#next)) return true
    for (let i = 0; i < distance && this.#hasRoom(); i++) {
      this.#take(this.#next * ENTRY)
    }
    return true
  }
}
