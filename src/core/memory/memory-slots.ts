// The memory slots of a VM, as the native side keeps them for all threads, and why the kernel may
// have refused a change: it only says EINVAL.

import type { Binding, FileHandle } from '../../binding.js'
import { KVM_MEM_GUEST_MEMFD, KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY } from '../../uapi/index.js'
import type { MemoryRange } from '../memory.js'

const EINVAL = -22
const EEXIST = -17
const SPACE = 0x1_0000
const PAGE = 4096
const MAX_PAGES = 2 ** 31 - 1
const KNOWN_FLAGS = KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY | KVM_MEM_GUEST_MEMFD
/** Doubles that the native side writes for a slot. */
const FIELDS = 6

/** A memory slot: where the guest sees it, in bytes. */
export interface MemorySlot extends MemoryRange {
  /** Slot number in bits 0 to 15, address space (1 is SMM) in bits 16 to 31. */
  readonly slot: number
  /** `KVM_MEM_LOG_DIRTY_PAGES` (1), `KVM_MEM_READONLY` (2), `KVM_MEM_GUEST_MEMFD` (4). */
  readonly flags: number
}

/** @internal A slot with what it maps. */
export interface MappedSlot extends MemorySlot {
  /** Number of the region of memory; 0 without. */
  readonly region: number
  readonly offset: number
}

/** The slots of one VM. */
export class MemorySlots {
  readonly #native: Binding
  readonly #vm: FileHandle
  readonly #one = new Float64Array(FIELDS)
  readonly #oneBytes = new Uint8Array(this.#one.buffer)

  constructor(native: Binding, vm: FileHandle) {
    this.#native = native
    this.#vm = vm
  }

  /** The slot with that number; undefined when there is none. */
  get(slot: number): MappedSlot | undefined {
    const found = this.#native.listSlots(this.#vm, slot, this.#oneBytes)
    return found === 1 && this.#one[0] === slot ? decode(this.#one, 0) : undefined
  }

  /** All of them, by number. */
  list(): MappedSlot[] {
    const slots: MappedSlot[] = []
    const some = new Float64Array(FIELDS * 64)
    for (let first = 0; ; ) {
      const count = this.#read(first, some)
      for (let i = 0; i < count; i++) slots.push(decode(some, i * FIELDS))
      if (count < 64) return slots
      first = slots.at(-1)!.slot + 1
    }
  }

  #read(first: number, into: Float64Array): number {
    return this.#native.listSlots(this.#vm, first, new Uint8Array(into.buffer))
  }

  /** Why the kernel refused to make a slot what `wanted` says; undefined when there is no telling. */
  explain(result: number, wanted: MappedSlot, slotLimit: () => number): string | undefined {
    if (result === EEXIST) return this.#overlap(wanted)
    if (result !== EINVAL) return undefined
    const before = this.get(wanted.slot)
    const { size, gpa, flags } = wanted
    if (size === 0) return before === undefined ? 'there is no such slot' : undefined
    if ((flags & ~KNOWN_FLAGS) !== 0)
      return `unknown flags 0x${(flags & ~KNOWN_FLAGS).toString(16)}`
    const limit = slotLimit()
    if (wanted.slot % SPACE >= limit) return `this kernel has slots 0 to ${limit - 1}`
    if (wanted.slot >= SPACE * 2) return 'there are address spaces 0 and 1 (SMM)'
    if (size / PAGE > MAX_PAGES) return 'a slot has at most 2^31 - 1 pages'
    if (before === undefined) return addressReason(gpa, size) ?? flagsReason(flags)
    return changeReason(before, wanted) ?? addressReason(gpa, size)
  }

  #overlap({ slot, gpa, size }: MemorySlot): string | undefined {
    const other = this.list().find(
      (other) =>
        other.slot !== slot &&
        Math.floor(other.slot / SPACE) === Math.floor(slot / SPACE) &&
        gpa < other.gpa + other.size &&
        other.gpa < gpa + size,
    )
    if (other === undefined) return undefined
    const end = other.gpa + other.size
    return `overlaps slot ${other.slot} (0x${other.gpa.toString(16)} to 0x${end.toString(16)})`
  }
}

function decode(fields: Float64Array, at: number): MappedSlot {
  return {
    slot: fields[at]!,
    flags: fields[at + 1]!,
    gpa: fields[at + 2]!,
    size: fields[at + 3]!,
    region: fields[at + 4]!,
    offset: fields[at + 5]!,
  }
}

function changeReason(before: MappedSlot, wanted: MappedSlot): string | undefined {
  if (before.size !== wanted.size) return 'a slot cannot change its size: delete it first'
  if (((before.flags | wanted.flags) & KVM_MEM_GUEST_MEMFD) !== 0) {
    return 'a slot of a guest_memfd cannot be changed: delete it first'
  }
  if (((before.flags ^ wanted.flags) & KVM_MEM_READONLY) !== 0) {
    return 'a slot cannot change between read-only and writable: delete it first'
  }
  if (before.region !== wanted.region || before.offset !== wanted.offset) {
    return 'a slot cannot change its memory: delete it first'
  }
  return undefined
}

function flagsReason(flags: number): string | undefined {
  const both = KVM_MEM_GUEST_MEMFD | KVM_MEM_LOG_DIRTY_PAGES
  return (flags & both) === both ? 'pages of a guest_memfd cannot be logged' : undefined
}

function addressReason(gpa: number, size: number): string | undefined {
  // KERNEL: what is above the CPU's own limit differs from host to host.
  return gpa + size > 2 ** 46 ? 'beyond the physical addresses that KVM can map here' : undefined
}
