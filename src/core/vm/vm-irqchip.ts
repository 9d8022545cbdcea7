// The interrupt controllers in the kernel and their lines.

import {
  decodeKvmIrqchip,
  encodeKvmIrqchip,
  KVM_CAP_IRQ_INJECT_STATUS,
  KVM_CAP_IRQCHIP,
  KVM_CREATE_IRQCHIP,
  KVM_GET_IRQCHIP,
  KVM_IRQ_LINE,
  KVM_IRQ_LINE_STATUS,
  KVM_SET_IRQCHIP,
  type KvmIrqchip,
} from '../../uapi/index.js'
import { object, uint32 } from '../validate.js'
import { VmMmu } from './vm-mmu.js'

const NEEDS_IRQCHIP = {
  ENXIO: 'the VM has no interrupt controllers in the kernel: createIrqchip() makes them',
  EINVAL: 'there is no such chip: 0 and 1 are the PICs, 2 is the IOAPIC',
}

const LINE = { reasons: NEEDS_IRQCHIP }

/** Interrupt controllers of a VM. */
export abstract class VmIrqchip extends VmMmu {
  /**
   * Puts PIC, IOAPIC and, for vCPUs created later, LAPICs into the kernel. Before the first vCPU.
   *
   * @ioctl KVM_CREATE_IRQCHIP (KVM API 4.24)
   * @capability KVM_CAP_IRQCHIP
   * @throws KvmError `EEXIST` when there are some, split ones included; `EINVAL` after a vCPU.
   */
  createIrqchip(): void {
    this.capabilities.require(KVM_CAP_IRQCHIP)
    this.request(KVM_CREATE_IRQCHIP, 'KVM_CREATE_IRQCHIP', undefined, {
      reasons: {
        EEXIST: 'the VM has its interrupt controllers already',
        EINVAL: 'they must be created before the first vCPU',
      },
    })
  }

  /**
   * Sets the level of an input of the in-kernel interrupt controllers. An edge takes a call with
   * `true` and one with `false`.
   *
   * @ioctl KVM_IRQ_LINE (KVM API 4.25)
   * @capability KVM_CAP_IRQCHIP
   * @throws KvmError `ENXIO` without interrupt controllers in the kernel.
   */
  irqLine(gsi: number, level: boolean): void {
    this.#putLine(gsi, level)
    const result = this.issue(KVM_IRQ_LINE)
    if (result < 0) throw this.issueError(result, 'KVM_IRQ_LINE', KVM_CAP_IRQCHIP, LINE)
  }

  // struct kvm_irq_level by hand: a device may raise its line a million times a second.
  #putLine(gsi: number, level: boolean): void {
    const { u32 } = this.view
    u32[0] = uint32(gsi, 'gsi')
    u32[1] = level ? 1 : 0
  }

  /**
   * The same, and what became of it.
   *
   * @returns To how many LAPICs it was delivered; 0: the last one was still pending; below 0: masked
   *   or otherwise ignored.
   * @ioctl KVM_IRQ_LINE_STATUS (linux/kvm.h)
   * @capability KVM_CAP_IRQ_INJECT_STATUS
   */
  irqLineStatus(gsi: number, level: boolean): number {
    this.capabilities.require(KVM_CAP_IRQ_INJECT_STATUS)
    this.#putLine(gsi, level)
    this.request(KVM_IRQ_LINE_STATUS, 'KVM_IRQ_LINE_STATUS', undefined, LINE)
    return this.view.i32[0]!
  }

  /**
   * The state of a chip.
   *
   * @param chipId `KVM_IRQCHIP_PIC_MASTER` (0), `_PIC_SLAVE` (1), `KVM_IRQCHIP_IOAPIC` (2).
   * @ioctl KVM_GET_IRQCHIP (KVM API 4.26)
   * @capability KVM_CAP_IRQCHIP
   * @throws KvmError `ENXIO` without a full set in the kernel, `EINVAL` for another number.
   */
  getIrqchip(chipId: number): KvmIrqchip {
    uint32(chipId, 'chipId')
    this.capabilities.require(KVM_CAP_IRQCHIP)
    const { view } = this.native
    view.u32[0] = chipId
    view.u32[1] = 0
    this.request(KVM_GET_IRQCHIP, 'KVM_GET_IRQCHIP', undefined, { reasons: NEEDS_IRQCHIP })
    return decodeKvmIrqchip(view, 0)
  }

  /**
   * Writes what {@link getIrqchip} reads.
   *
   * @ioctl KVM_SET_IRQCHIP (KVM API 4.27)
   * @capability KVM_CAP_IRQCHIP
   */
  setIrqchip(irqchip: KvmIrqchip): void {
    object(irqchip, 'irqchip')
    this.capabilities.require(KVM_CAP_IRQCHIP)
    this.send(KVM_SET_IRQCHIP, 'KVM_SET_IRQCHIP', (draft) => encodeKvmIrqchip(draft, 0, irqchip), {
      reasons: NEEDS_IRQCHIP,
    })
  }
}
