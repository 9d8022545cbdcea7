// A VM: RAM slots, the in-kernel interrupt controllers, vCPUs.

import type { Binding, FileHandle } from '../binding.js'
import {
  encodeKvmEnableCap,
  encodeKvmIrqLevel,
  encodeKvmPitConfig,
  KVM_CHECK_EXTENSION,
  KVM_CREATE_IRQCHIP,
  KVM_CREATE_PIT2,
  KVM_ENABLE_CAP,
  KVM_IRQ_LINE,
  KVM_SET_BOOT_CPU_ID,
  KVM_SET_IDENTITY_MAP_ADDR,
  KVM_SET_TSS_ADDR,
} from '../uapi/index.js'
import { KvmError, kvmError } from './errors.js'
import { KvmFile } from './file.js'
import type { Kvm } from './kvm.js'
import { GuestMemory, type MemoryRange } from './memory.js'
import { integer, invalidArgType, list, object, outOfRange, uint32 } from './validate.js'
import { Vcpu } from './vcpu.js'

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

/** The arguments of a capability, see {@link Vm.enableCap}. */
export interface EnableCap {
  flags?: number
  /** Up to four; what they mean is the capability's affair. */
  args?: readonly bigint[]
}

/**
 * A virtual machine: an address space with slots of RAM, interrupt controllers in the kernel, vCPUs.
 *
 * Closing it closes its file only. The kernel keeps the VM, and this library its RAM, until its
 * vCPUs are closed too.
 */
export class Vm extends KvmFile {
  /** The `/dev/kvm` it was created from. */
  readonly kvm: Kvm
  // For messages only: the kernel knows better.
  readonly #slots = new Map<number, MemoryRange>()

  private constructor(native: Binding, handle: FileHandle, kvm: Kvm) {
    super(native, handle)
    this.kvm = kvm
  }

  /** @internal */
  static adopt(native: Binding, handle: FileHandle, kvm: Kvm): Vm {
    return new Vm(native, handle, kvm)
  }

  /**
   * What KVM says of a capability for this VM: 0 when it is absent, else 1 or a value with the
   * capability's own meaning.
   *
   * @ioctl KVM_CHECK_EXTENSION (KVM API 4.4) @capability KVM_CAP_CHECK_EXTENSION_VM
   */
  checkExtension(capability: number): number {
    const number = uint32(capability, 'capability')
    return this.request(KVM_CHECK_EXTENSION, 'KVM_CHECK_EXTENSION', number)
  }

  /**
   * Turns a capability on for this VM.
   *
   * @ioctl KVM_ENABLE_CAP (KVM API 4.37) @capability KVM_CAP_ENABLE_CAP_VM
   */
  enableCap(capability: number, options: EnableCap = {}): number {
    const { flags = 0, args = [] } = object(options, 'options')
    const given = list(args, 'options.args')
    if (given.length > 4) throw invalidArgType('options.args', 'a list of up to 4 bigints', args)
    const padded = [...given, 0n, 0n, 0n, 0n].slice(0, 4)
    encodeKvmEnableCap(this.native.view, 0, { cap: capability, flags, args: padded })
    return this.request(KVM_ENABLE_CAP, 'KVM_ENABLE_CAP', undefined, {
      capability: `capability ${capability}`,
    })
  }

  /**
   * Creates a vCPU. Its id is also its initial APIC id; ids may have gaps.
   *
   * @ioctl KVM_CREATE_VCPU (KVM API 4.7)
   * @throws KvmError `EEXIST` for an id in use, `EINVAL` above `KVM_CAP_MAX_VCPU_ID`.
   */
  createVcpu(vcpuId = 0): Vcpu {
    uint32(vcpuId, 'vcpuId')
    const handle = this.native.createVcpu(this.handle, vcpuId)
    if (typeof handle === 'number') throw kvmError(handle, { ioctl: 'KVM_CREATE_VCPU', vcpuId })
    return Vcpu.adopt(this.native, handle, this, vcpuId)
  }

  /**
   * Creates, changes, moves or deletes one memory slot.
   *
   * @ioctl KVM_SET_USER_MEMORY_REGION (KVM API 4.35) @capability KVM_CAP_USER_MEMORY
   * @throws KvmError `EEXIST` when it overlaps another slot; `EINVAL` for what the kernel finds
   *   misaligned, or a change that needs the slot to be deleted first; `ERR_KVM_GUEST_FAULT` when
   *   `memory` does not have that range in one region.
   */
  setUserMemoryRegion(region: UserMemoryRegion): void {
    const { slot, flags = 0, guestPhysAddr, memorySize, memory } = object(region, 'region')
    const { memoryAddress: from = guestPhysAddr } = region
    uint32(slot, 'region.slot')
    uint32(flags, 'region.flags')
    integer(guestPhysAddr, 'region.guestPhysAddr')
    integer(memorySize, 'region.memorySize')
    const range = { gpa: guestPhysAddr, size: memorySize }
    if (memorySize === 0) {
      this.#setSlot(slot, flags, range, null, 0)
      this.#slots.delete(slot)
      return
    }
    if (guestPhysAddr % 4096 || memorySize % 4096) {
      throw outOfRange(
        'region',
        'aligned to 4096 in address and size',
        guestPhysAddr % 4096 || memorySize,
      )
    }
    if (integer(from, 'region.memoryAddress') % 4096) {
      throw outOfRange('region.memoryAddress', 'a multiple of 4096', from)
    }
    const backing = GuestMemory.check(memory, 'region.memory').regions.find(
      (part) => from >= part.gpa && from + memorySize <= part.gpa + part.size,
    )
    if (backing === undefined) {
      throw new KvmError('ERR_KVM_GUEST_FAULT', undefined, 'not in one region of the memory', {
        ioctl: 'KVM_SET_USER_MEMORY_REGION',
        slot,
        gpa: from,
        size: memorySize,
      })
    }
    this.#setSlot(slot, flags, range, backing.handle, from - backing.gpa)
    this.#slots.set(slot, range)
  }

  /**
   * Maps every region of `memory` where it is, in consecutive slots from `firstSlot` on.
   *
   * @returns The first slot number that is still free.
   */
  mapMemory(memory: GuestMemory, options: { firstSlot?: number; flags?: number } = {}): number {
    const { firstSlot = 0, flags = 0 } = object(options, 'options')
    let slot = integer(firstSlot, 'options.firstSlot', 0, 0xffff)
    for (const { gpa, size } of GuestMemory.check(memory, 'memory').ranges) {
      this.setUserMemoryRegion({ slot, flags, guestPhysAddr: gpa, memorySize: size, memory })
      slot++
    }
    return slot
  }

  #setSlot(
    slot: number,
    flags: number,
    { gpa, size }: MemoryRange,
    region: Parameters<Binding['setUserMemoryRegion']>[5],
    offset: number,
  ): void {
    const { native, handle } = this
    const result = native.setUserMemoryRegion(handle, slot, flags, gpa, size, region, offset)
    if (result >= 0) return
    const details = { ioctl: 'KVM_SET_USER_MEMORY_REGION', slot, gpa, size }
    const reason = this.#explainSlot(result, slot, gpa, size)
    throw kvmError(result, reason === undefined ? details : { ...details, reason })
  }

  #explainSlot(result: number, slot: number, gpa: number, size: number): string | undefined {
    const space = slot >>> 16
    for (const [other, range] of this.#slots) {
      if (other === slot || other >>> 16 !== space) continue
      if (gpa < range.gpa + range.size && range.gpa < gpa + size) return `overlaps slot ${other}`
    }
    const before = this.#slots.get(slot)
    if (result === -22 && before !== undefined && before.size !== size) {
      return size === 0 ? undefined : 'a slot cannot change its size: delete it first'
    }
    if (result === -22 && size === 0 && before === undefined) return 'there is no such slot'
    return undefined
  }

  /**
   * Puts PIC, IOAPIC and, for vCPUs created later, LAPICs into the kernel. Before the first vCPU.
   *
   * @ioctl KVM_CREATE_IRQCHIP (KVM API 4.24) @capability KVM_CAP_IRQCHIP
   */
  createIrqchip(): void {
    this.request(KVM_CREATE_IRQCHIP, 'KVM_CREATE_IRQCHIP')
  }

  /**
   * Adds an 8254 timer to the in-kernel interrupt controllers.
   *
   * @param flags `KVM_PIT_SPEAKER_DUMMY` (1) also answers port 0x61.
   * @ioctl KVM_CREATE_PIT2 (KVM API 4.71) @capability KVM_CAP_PIT2
   */
  createPit2(flags = 0): void {
    encodeKvmPitConfig(this.native.view, 0, { flags })
    this.request(KVM_CREATE_PIT2, 'KVM_CREATE_PIT2')
  }

  /**
   * Sets the level of an input of the in-kernel interrupt controllers.
   *
   * @ioctl KVM_IRQ_LINE (KVM API 4.25) @capability KVM_CAP_IRQCHIP
   */
  irqLine(gsi: number, level: boolean): void {
    encodeKvmIrqLevel(this.native.view, 0, { irq: uint32(gsi, 'gsi'), level: level ? 1 : 0 })
    this.request(KVM_IRQ_LINE, 'KVM_IRQ_LINE')
  }

  /**
   * Where kvm_intel puts the three pages it needs for real mode without unrestricted guest; below
   * 4 GiB, where no slot is.
   *
   * @ioctl KVM_SET_TSS_ADDR (KVM API 4.36) @capability KVM_CAP_SET_TSS_ADDR
   */
  setTssAddr(gpa: number): void {
    this.request(KVM_SET_TSS_ADDR, 'KVM_SET_TSS_ADDR', uint32(gpa, 'gpa'), { gpa })
  }

  /**
   * Where kvm_intel puts the one-page identity map it needs likewise. Before the first vCPU.
   *
   * @ioctl KVM_SET_IDENTITY_MAP_ADDR (KVM API 4.42) @capability KVM_CAP_SET_IDENTITY_MAP_ADDR
   */
  setIdentityMapAddr(gpa: number): void {
    this.native.view.u64[0] = BigInt(integer(gpa, 'gpa'))
    this.request(KVM_SET_IDENTITY_MAP_ADDR, 'KVM_SET_IDENTITY_MAP_ADDR', undefined, { gpa })
  }

  /**
   * Which vCPU is the bootstrap processor; 0 unless said. Before the first vCPU.
   *
   * @ioctl KVM_SET_BOOT_CPU_ID (KVM API 4.41) @capability KVM_CAP_SET_BOOT_CPU_ID
   */
  setBootCpuId(vcpuId: number): void {
    this.request(KVM_SET_BOOT_CPU_ID, 'KVM_SET_BOOT_CPU_ID', uint32(vcpuId, 'vcpuId'), { vcpuId })
  }
}
