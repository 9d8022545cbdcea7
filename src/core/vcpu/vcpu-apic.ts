// The in-kernel LAPIC's registers, and the old help for guests that touch the task priority a lot.

import {
  KVM_CAP_IRQCHIP,
  KVM_CAP_VAPIC,
  KVM_GET_LAPIC,
  KVM_SET_LAPIC,
  KVM_SET_VAPIC_ADDR,
  KVM_TPR_ACCESS_REPORTING,
} from '../../uapi/index.js'
import { LAPIC_STATE_SIZE, LapicState } from '../../x86/lapic-state.js'
import { bytes, callback, integer, outOfRange } from '../validate.js'
import { VcpuEvents } from './vcpu-events.js'

/** The LAPIC of a vCPU. */
export abstract class VcpuApic extends VcpuEvents {
  /**
   * The in-kernel LAPIC's registers, 1024 bytes in the xAPIC layout; see {@link LapicState} for the
   * two places where the APIC id may be.
   *
   * @ioctl KVM_GET_LAPIC (KVM API 4.57)
   * @capability KVM_CAP_IRQCHIP
   * @throws KvmError `EINVAL` without an in-kernel LAPIC.
   */
  getLapic(): Uint8Array {
    this.capabilities.require(KVM_CAP_IRQCHIP)
    this.request(KVM_GET_LAPIC, 'KVM_GET_LAPIC')
    return this.native.view.u8.slice(0, LAPIC_STATE_SIZE)
  }
  /**
   * Sets them. The APIC base (part of {@link setSregs}) has to say xAPIC or x2APIC mode before.
   *
   * @ioctl KVM_SET_LAPIC (KVM API 4.58)
   * @capability KVM_CAP_IRQCHIP
   */
  setLapic(regs: Uint8Array): void {
    bytes(regs, 'regs')
    if (regs.length !== LAPIC_STATE_SIZE) {
      throw outOfRange('regs.length', `${LAPIC_STATE_SIZE}`, regs.length)
    }
    this.capabilities.require(KVM_CAP_IRQCHIP)
    this.native.view.u8.set(regs)
    this.request(KVM_SET_LAPIC, 'KVM_SET_LAPIC')
  }

  /** Changes LAPIC registers by name: {@link getLapic}, `change`, {@link setLapic}. */
  updateLapic(change: (lapic: LapicState) => void): void {
    callback(change, 'change')
    const lapic = new LapicState(this.getLapic())
    change(lapic)
    this.setLapic(lapic.bytes)
  }

  /**
   * Whether accesses of the guest to its task priority end the run (`'tprAccess'`).
   *
   * @ioctl KVM_TPR_ACCESS_REPORTING (linux/kvm.h)
   * @capability KVM_CAP_VAPIC
   */
  tprAccessReporting(enabled: boolean): void {
    this.capabilities.require(KVM_CAP_VAPIC)
    const { view } = this.native
    view.u32.fill(0, 0, 10)
    view.u32[0] = enabled ? 1 : 0
    this.request(KVM_TPR_ACCESS_REPORTING, 'KVM_TPR_ACCESS_REPORTING')
  }

  /**
   * Where in guest memory the virtual APIC page is that a patched guest uses; 0 for none.
   *
   * @ioctl KVM_SET_VAPIC_ADDR (linux/kvm.h)
   * @capability KVM_CAP_VAPIC
   * @throws KvmError `EINVAL` without an in-kernel LAPIC.
   */
  setVapicAddr(gpa: number): void {
    const address = BigInt(integer(gpa, 'gpa'))
    this.capabilities.require(KVM_CAP_VAPIC)
    this.native.view.u64[0] = address
    this.request(KVM_SET_VAPIC_ADDR, 'KVM_SET_VAPIC_ADDR', undefined, { gpa })
  }
}
