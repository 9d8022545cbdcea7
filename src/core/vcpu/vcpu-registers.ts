// A vCPU's registers: general, segment, control, debug; and the translation they imply.

import {
  decodeKvmDebugregs,
  decodeKvmSregs,
  decodeKvmSregs2,
  decodeKvmTranslation,
  encodeKvmDebugregs,
  encodeKvmRegs,
  encodeKvmSregs,
  encodeKvmSregs2,
  encodeKvmTranslation,
  KVM_CAP_DEBUGREGS,
  KVM_CAP_SREGS2,
  KVM_GET_DEBUGREGS,
  KVM_GET_REGS,
  KVM_GET_SREGS,
  KVM_GET_SREGS2,
  KVM_SET_DEBUGREGS,
  KVM_SET_REGS,
  KVM_SET_SREGS,
  KVM_SET_SREGS2,
  KVM_TRANSLATE,
  type KvmDebugregs,
  type KvmRegs,
  type KvmSregs,
  type KvmSregs2,
} from '../../uapi/index.js'
import { object } from '../validate.js'
import { decodeRegs } from './decode-regs.js'
import { VcpuFile } from './vcpu-file.js'

/** Where a linear address leads, see {@link Vcpu.translate}. */
export interface Translation {
  /** Whether the guest's page tables map the address. */
  valid: boolean
  /** Guest-physical address; meaningless unless `valid`. */
  gpa: number
}

/** Registers of a vCPU. */
export abstract class VcpuRegisters extends VcpuFile {
  /**
   * General-purpose registers, RIP and RFLAGS.
   *
   * @ioctl KVM_GET_REGS (KVM API 4.11)
   * @throws KvmError `EINVAL` when the guest's state is encrypted.
   */
  getRegs(): KvmRegs {
    this.request(KVM_GET_REGS, 'KVM_GET_REGS')
    return decodeRegs(this.view)
  }
  /**
   * Sets them. An exception that is pending is dropped: restore {@link setVcpuEvents} afterwards.
   *
   * @ioctl KVM_SET_REGS (KVM API 4.12)
   */
  setRegs(regs: KvmRegs): void {
    // No draft: the codec of a flat struct has read every field before it writes the first.
    encodeKvmRegs(this.view, 0, object(regs, 'regs'))
    this.request(KVM_SET_REGS, 'KVM_SET_REGS')
  }

  /** Changes the registers named, and no others: {@link getRegs} and {@link setRegs} in one. */
  updateRegs(changes: Partial<KvmRegs>): void {
    this.setRegs({ ...this.getRegs(), ...object(changes, 'changes') })
  }

  /**
   * Segments, control registers, tables, EFER, APIC base, and the external interrupt that waits to
   * be injected.
   *
   * @ioctl KVM_GET_SREGS (KVM API 4.13)
   */
  getSregs(): KvmSregs {
    this.request(KVM_GET_SREGS, 'KVM_GET_SREGS')
    return decodeKvmSregs(this.view, 0)
  }
  /**
   * Sets them. Of `interrupt_bitmap` at most one bit has a meaning: that interrupt is injected.
   *
   * @ioctl KVM_SET_SREGS (KVM API 4.14)
   * @throws KvmError `EINVAL` for a combination the CPU cannot be in.
   */
  setSregs(sregs: KvmSregs): void {
    object(sregs, 'sregs')
    this.send(KVM_SET_SREGS, 'KVM_SET_SREGS', (draft) => encodeKvmSregs(draft, 0, sregs))
  }

  /** Changes the registers named, and no others: {@link getSregs} and {@link setSregs} in one. */
  updateSregs(changes: Partial<KvmSregs>): void {
    this.setSregs({ ...this.getSregs(), ...object(changes, 'changes') })
  }

  /**
   * As {@link getSregs} without the interrupt, but with the four page-directory pointers of PAE
   * paging: `flags` has `KVM_SREGS2_FLAGS_PDPTRS_VALID` when they count.
   *
   * @ioctl KVM_GET_SREGS2 (KVM API 4.131)
   * @capability KVM_CAP_SREGS2
   */
  getSregs2(): KvmSregs2 {
    this.capabilities.require(KVM_CAP_SREGS2)
    this.request(KVM_GET_SREGS2, 'KVM_GET_SREGS2')
    return decodeKvmSregs2(this.view, 0)
  }
  /**
   * Sets them. With `KVM_SREGS2_FLAGS_PDPTRS_VALID` the pointers are loaded as given; without it KVM
   * reads them from guest memory.
   *
   * @ioctl KVM_SET_SREGS2 (KVM API 4.132)
   * @capability KVM_CAP_SREGS2
   * @throws KvmError `EINVAL` for a combination the CPU cannot be in.
   */
  setSregs2(sregs: KvmSregs2): void {
    object(sregs, 'sregs')
    this.capabilities.require(KVM_CAP_SREGS2)
    this.send(KVM_SET_SREGS2, 'KVM_SET_SREGS2', (draft) => encodeKvmSregs2(draft, 0, sregs))
  }

  /**
   * DR0 to DR3, DR6, DR7.
   *
   * @ioctl KVM_GET_DEBUGREGS (KVM API 4.33)
   * @capability KVM_CAP_DEBUGREGS
   */
  getDebugregs(): KvmDebugregs {
    this.capabilities.require(KVM_CAP_DEBUGREGS)
    this.request(KVM_GET_DEBUGREGS, 'KVM_GET_DEBUGREGS')
    return decodeKvmDebugregs(this.native.view, 0)
  }
  /**
   * Sets the guest's own debug registers; see {@link setGuestDebug} for the VMM's. `flags` must be 0.
   *
   * @ioctl KVM_SET_DEBUGREGS (KVM API 4.34)
   * @capability KVM_CAP_DEBUGREGS
   */
  setDebugregs(debugregs: KvmDebugregs): void {
    object(debugregs, 'debugregs')
    this.capabilities.require(KVM_CAP_DEBUGREGS)
    this.send(KVM_SET_DEBUGREGS, 'KVM_SET_DEBUGREGS', (draft) =>
      encodeKvmDebugregs(draft, 0, debugregs),
    )
  }

  /**
   * Translates a linear address with the guest's current paging. What the struct says of access
   * rights is left out: x86 always reports writeable and not user.
   *
   * @ioctl KVM_TRANSLATE (KVM API 4.15)
   */
  translate(linearAddress: bigint): Translation {
    const { view } = this.native
    encodeKvmTranslation(view, 0, {
      linear_address: linearAddress,
      physical_address: 0,
      valid: 0,
      writeable: 0,
      usermode: 0,
    })
    this.request(KVM_TRANSLATE, 'KVM_TRANSLATE')
    // KERNEL: an address that is not mapped comes back with all bits of physical_address set.
    if (view.u8[16] === 0) return { valid: false, gpa: 0 }
    return { valid: true, gpa: decodeKvmTranslation(view, 0).physical_address }
  }
}
