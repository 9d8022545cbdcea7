// The guest's RAM: slots, memory private to the guest, attributes of pages.

import type { Handle } from '../../binding.js'
import {
  encodeKvmMemoryAttributes,
  GUEST_MEMFD_FLAG_INIT_SHARED,
  GUEST_MEMFD_FLAG_MMAP,
  KVM_CAP_GUEST_MEMFD,
  KVM_CAP_MEMORY_ATTRIBUTES,
  KVM_CAP_NR_MEMSLOTS,
  KVM_CAP_USER_MEMORY2,
  KVM_MEM_GUEST_MEMFD,
  KVM_SET_MEMORY_ATTRIBUTES,
} from '../../uapi/index.js'
import { capabilityMissing, KvmError, kvmError } from '../errors.js'
import { GuestMemfd } from '../memory/guest-memfd.js'
import { type MappedSlot, type MemorySlot, MemorySlots } from '../memory/memory-slots.js'
import { GuestMemory, type MemoryRange } from '../memory.js'
import { integer, object, outOfRange, uint32 } from '../validate.js'
import { VmFile } from './vm-file.js'

const PAGE = 4096
const ENOENT = -2

/** What {@link Vm.setUserMemoryRegion} takes. */
export interface UserMemoryRegion {
  /** Slot number in bits 0 to 15, address space (1 is SMM) in bits 16 to 31. */
  slot: number
  /** `KVM_MEM_LOG_DIRTY_PAGES` (1), `KVM_MEM_READONLY` (2). Default 0. */
  flags?: number
  /** Where the guest sees it. */
  guestPhysAddr: number
  /** Bytes, a multiple of 4096; 0 deletes the slot. */
  memorySize: number
  /** The RAM to map. Not needed to delete a slot. */
  memory?: GuestMemory
  /** Where in `memory` the slot begins, when that is not `guestPhysAddr`. */
  memoryAddress?: number
}

/** What {@link Vm.setUserMemoryRegion2} takes. */
export interface UserMemoryRegion2 extends UserMemoryRegion {
  /** Where private pages are; sets the flag `KVM_MEM_GUEST_MEMFD`. `memory` is then optional. */
  guestMemfd?: GuestMemfd
  /** Where in `guestMemfd` the slot begins. Default 0. */
  guestMemfdOffset?: number
}

/** What {@link Vm.setMemoryAttributes} takes. */
export interface MemoryAttributes {
  /** Guest-physical address, a multiple of 4096. */
  address: number
  /** Bytes, a multiple of 4096. */
  size: number
  /** `KVM_MEMORY_ATTRIBUTE_PRIVATE` (8) or 0: shared. */
  attributes: number
}

interface Backing {
  handle: Handle | null
  offset: number
}
const NOTHING: Backing = { handle: null, offset: 0 }

/** Memory of a VM. */
export abstract class VmMemory extends VmFile {
  /** @internal */
  protected readonly slots: MemorySlots = new MemorySlots(this.native, this.handle)

  /** The memory slots there are, by number. */
  get memorySlots(): readonly MemorySlot[] {
    return this.slots.list().map(({ slot, gpa, size, flags }) => ({ slot, gpa, size, flags }))
  }

  /**
   * Creates, changes, moves or deletes one memory slot.
   *
   * @ioctl KVM_SET_USER_MEMORY_REGION (KVM API 4.35)
   * @capability KVM_CAP_USER_MEMORY
   * @throws KvmError `EEXIST` when it overlaps another slot; `EINVAL` for what the kernel finds
   *   misaligned, or a change that needs the slot to be deleted first; `ERR_KVM_GUEST_FAULT` when
   *   `memory` does not have that range in one region.
   */
  setUserMemoryRegion(region: UserMemoryRegion): void {
    const { slot, flags, range, from, memory } = checkedSlot(region)
    const name = 'KVM_SET_USER_MEMORY_REGION'
    const { handle, offset } =
      range.size === 0 ? NOTHING : backing(name, slot, memory, from, range.size)
    const { native } = this
    const { gpa, size } = range
    const result = native.setUserMemoryRegion(this.handle, slot, flags, gpa, size, handle, offset)
    if (result < 0) this.#refuse(result, name, { slot, flags, gpa, size }, handle, offset)
  }

  /** The slot with that number; undefined when there is none. */
  findSlot(slot: number): MemorySlot | undefined {
    const found = this.slots.get(uint32(slot, 'slot'))
    if (found === undefined) return undefined
    const { gpa, size, flags } = found
    return { slot, gpa, size, flags }
  }

  /**
   * Deletes a slot. A guest that reaches for it then ends its run with an `'mmio'` exit; what its
   * dirty log held is lost.
   *
   * @ioctl KVM_SET_USER_MEMORY_REGION (KVM API 4.35)
   * @throws KvmError `EINVAL` when there is no such slot.
   */
  deleteSlot(slot: number): void {
    this.setUserMemoryRegion({ slot, guestPhysAddr: 0, memorySize: 0 })
  }

  /**
   * Shows a slot's memory at another address.
   *
   * @param gpa A multiple of 4096.
   * @ioctl KVM_SET_USER_MEMORY_REGION (KVM API 4.35)
   * @throws KvmError as {@link setUserMemoryRegion}; `ENOENT` when there is no such slot.
   */
  moveSlot(slot: number, gpa: number): void {
    if (integer(gpa, 'gpa') % PAGE) throw outOfRange('gpa', `a multiple of ${PAGE}`, gpa)
    this.#changeSlot(slot, { gpa })
  }

  /**
   * Starts (`KVM_MEM_LOG_DIRTY_PAGES`) or ends the logging of writes to a slot, while its guest runs.
   * Other flags cannot be changed.
   *
   * @ioctl KVM_SET_USER_MEMORY_REGION (KVM API 4.35)
   * @throws KvmError as {@link setUserMemoryRegion}; `ENOENT` when there is no such slot.
   */
  setSlotFlags(slot: number, flags: number): void {
    this.#changeSlot(slot, { flags: uint32(flags, 'flags') })
  }

  #changeSlot(slot: number, change: { gpa?: number; flags?: number }): void {
    const name = 'KVM_SET_USER_MEMORY_REGION'
    const before = this.slots.get(uint32(slot, 'slot'))
    const { gpa, size, flags, region, offset } = { ...before, ...change } as MappedSlot
    const result = this.native.changeSlot(this.handle, slot, flags ?? 0, gpa ?? 0)
    if (result === ENOENT) {
      throw kvmError(result, { ioctl: name, slot, reason: 'there is no such slot' })
    }
    if (result < 0) this.#explain(result, name, { slot, flags, gpa, size, region, offset })
  }

  /**
   * The same, with a place for the guest's private pages. Such a slot can be deleted but not
   * changed, and can be neither read-only nor logged.
   *
   * @ioctl KVM_SET_USER_MEMORY_REGION2 (KVM API 4.140)
   * @capability KVM_CAP_USER_MEMORY2
   * @throws KvmError as {@link setUserMemoryRegion}; `EINVAL` when `guestMemfd` is another VM's, or
   *   private pages are not for VMs of this type.
   */
  setUserMemoryRegion2(region: UserMemoryRegion2): void {
    const { slot, flags, range, from, memory } = checkedSlot(region)
    const { guestMemfd, guestMemfdOffset = 0 } = region
    integer(guestMemfdOffset, 'region.guestMemfdOffset')
    const name = 'KVM_SET_USER_MEMORY_REGION2'
    const needsMemory = range.size !== 0 && (memory !== undefined || guestMemfd === undefined)
    const { handle, offset } = needsMemory ? backing(name, slot, memory, from, range.size) : NOTHING
    const memfd =
      guestMemfd === undefined ? null : GuestMemfd.handleOf(guestMemfd, 'region.guestMemfd')
    this.capabilities.require(KVM_CAP_USER_MEMORY2)
    const { native } = this
    const { gpa, size } = range
    const allFlags = memfd === null ? flags : withFlag(flags, KVM_MEM_GUEST_MEMFD)
    const result = native.setUserMemoryRegion2(
      this.handle,
      slot,
      allFlags,
      gpa,
      size,
      handle,
      offset,
      memfd,
      guestMemfdOffset,
    )
    if (result < 0) this.#refuse(result, name, { slot, flags: allFlags, gpa, size }, handle, offset)
  }

  /**
   * Maps every region of `memory` where it is, in consecutive slots from `firstSlot` on.
   *
   * @returns The first slot number that is still free.
   */
  mapMemory(memory: GuestMemory, options: { firstSlot?: number; flags?: number } = {}): number {
    const { firstSlot = 0, flags = 0 } = object(options, 'options')
    let slot = integer(firstSlot, 'options.firstSlot', 0, 0xffff)
    for (const { gpa, size, handle, guestMemfd } of GuestMemory.check(memory, 'memory').regions) {
      if (guestMemfd) this.#mapGuestMemfd(slot, flags, gpa, size, handle)
      else this.setUserMemoryRegion({ slot, flags, guestPhysAddr: gpa, memorySize: size, memory })
      slot++
    }
    return slot
  }

  #mapGuestMemfd(slot: number, flags: number, gpa: number, size: number, handle: Handle): void {
    this.capabilities.require(KVM_CAP_USER_MEMORY2)
    const all = withFlag(uint32(flags, 'options.flags'), KVM_MEM_GUEST_MEMFD)
    const result = this.native.setUserMemoryRegion2(
      this.handle,
      slot,
      all,
      gpa,
      size,
      handle,
      0,
      handle,
      0,
    )
    const request = { slot, flags: all, gpa, size }
    if (result < 0) this.#refuse(result, 'KVM_SET_USER_MEMORY_REGION2', request, handle, 0)
  }

  /**
   * Guest RAM of guest_memfds that belong to this VM and that this process sees as well: one of
   * `layout` bytes at address 0, or one for each range. {@link mapMemory} knows what it is. It can
   * be neither logged nor read-only, and no other VM can map it.
   *
   * @throws KvmError `ERR_KVM_CAP_MISSING` where the kernel has none that can be mapped and is
   *   shared from the start (Linux 6.18).
   */
  createGuestMemory(layout: number | readonly MemoryRange[]): GuestMemory {
    const flags = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED
    this.capabilities.require(KVM_CAP_GUEST_MEMFD)
    const known = Math.max(0, this.checkExtension('KVM_CAP_GUEST_MEMFD_FLAGS'))
    if ((known & flags) !== flags) {
      const reason = 'guest_memfd can be had, but not mapped and shared'
      throw capabilityMissing('KVM_CAP_GUEST_MEMFD_FLAGS', { reason })
    }
    const ranges = typeof layout === 'number' ? [{ gpa: 0, size: layout }] : layout
    return GuestMemory.fromGuestMemfds(this.native, ranges, (size) => {
      const handle = this.native.createGuestMemfd(this.handle, size, flags)
      if (typeof handle !== 'number') return handle
      throw kvmError(handle, { ioctl: 'KVM_CREATE_GUEST_MEMFD', size })
    })
  }

  /**
   * Creates memory that is this VM's own, without close-on-exec's usual leak.
   *
   * @param size Bytes, a multiple of 4096.
   * @param flags `GUEST_MEMFD_FLAG_MMAP` (1), `GUEST_MEMFD_FLAG_INIT_SHARED` (2), as far as
   *   `KVM_CAP_GUEST_MEMFD_FLAGS` has them.
   * @ioctl KVM_CREATE_GUEST_MEMFD (KVM API 4.142)
   * @capability KVM_CAP_GUEST_MEMFD
   */
  createGuestMemfd(size: number, flags = 0): GuestMemfd {
    if (integer(size, 'size', PAGE) % PAGE) throw outOfRange('size', 'a multiple of 4096', size)
    uint32(flags, 'flags')
    this.capabilities.require(KVM_CAP_GUEST_MEMFD)
    const handle = this.native.createGuestMemfd(this.handle, size, flags)
    if (typeof handle !== 'number') return new GuestMemfd(this.native, handle, size, flags)
    throw kvmError(handle, {
      ioctl: 'KVM_CREATE_GUEST_MEMFD',
      size,
      reasons: { EINVAL: 'see checkExtension of KVM_CAP_GUEST_MEMFD_FLAGS for the flags it takes' },
    })
  }

  /**
   * Makes pages private to the guest or shared with the host. There is no way to ask; whoever sets
   * attributes keeps track.
   *
   * @ioctl KVM_SET_MEMORY_ATTRIBUTES (KVM API 4.141)
   * @capability KVM_CAP_MEMORY_ATTRIBUTES
   */
  setMemoryAttributes(change: MemoryAttributes): void {
    const { address, size, attributes } = object(change, 'change')
    integer(address, 'change.address')
    integer(size, 'change.size')
    uint32(attributes, 'change.attributes')
    this.capabilities.require(KVM_CAP_MEMORY_ATTRIBUTES)
    this.send(
      KVM_SET_MEMORY_ATTRIBUTES,
      'KVM_SET_MEMORY_ATTRIBUTES',
      (draft) =>
        encodeKvmMemoryAttributes(draft, 0, {
          address,
          size,
          attributes: BigInt(attributes),
          flags: 0n,
        }),
      { gpa: address, size },
    )
  }

  #refuse(
    result: number,
    ioctl: string,
    wanted: MemorySlot,
    memory: Handle | null,
    offset: number,
  ): never {
    const region = memory === null ? 0 : this.native.objectId(memory)
    this.#explain(result, ioctl, { ...wanted, region, offset })
  }

  #explain(result: number, ioctl: string, wanted: MappedSlot): never {
    const { slot, gpa, size } = wanted
    const slotLimit = () => this.checkExtension(KVM_CAP_NR_MEMSLOTS)
    const reason = this.slots.explain(result, wanted, slotLimit)
    const details = { ioctl, slot, gpa, size }
    throw kvmError(result, reason === undefined ? details : { ...details, reason })
  }
}

const withFlag = (flags: number, flag: number) => (flags | flag) >>> 0

function checkedSlot(region: UserMemoryRegion) {
  const { slot, flags = 0, guestPhysAddr, memorySize, memory } = object(region, 'region')
  const { memoryAddress: from = guestPhysAddr } = region
  uint32(slot, 'region.slot')
  uint32(flags, 'region.flags')
  integer(guestPhysAddr, 'region.guestPhysAddr')
  integer(memorySize, 'region.memorySize')
  const range = { gpa: guestPhysAddr, size: memorySize }
  if (memorySize !== 0) {
    if (guestPhysAddr % PAGE || memorySize % PAGE) {
      const wrong = guestPhysAddr % PAGE || memorySize
      throw outOfRange('region', 'aligned to 4096 in address and size', wrong)
    }
    if (integer(from, 'region.memoryAddress') % PAGE) {
      throw outOfRange('region.memoryAddress', 'a multiple of 4096', from)
    }
  }
  return { slot, flags, range, from, memory }
}

/** Where in the native regions the slot's memory is. */
function backing(
  ioctl: string,
  slot: number,
  memory: GuestMemory | undefined,
  gpa: number,
  size: number,
): Backing {
  const region = GuestMemory.check(memory, 'region.memory').regions.find(
    (part) => gpa >= part.gpa && gpa + size <= part.gpa + part.size,
  )
  if (region !== undefined) return { handle: region.handle, offset: gpa - region.gpa }
  throw new KvmError('ERR_KVM_GUEST_FAULT', undefined, 'not in one region of the memory', {
    ioctl,
    slot,
    gpa,
    size,
  })
}
