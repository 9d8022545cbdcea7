// A vCPU's notion of time: its TSC's rate and offset, and kvmclock.

import {
  KVM_CAP_GET_TSC_KHZ,
  KVM_CAP_KVMCLOCK_CTRL,
  KVM_CAP_TSC_CONTROL,
  KVM_GET_TSC_KHZ,
  KVM_KVMCLOCK_CTRL,
  KVM_SET_TSC_KHZ,
} from '../uapi/index.js'
import { kvmError } from './errors.js'
import { integer } from './validate.js'
import { VcpuApic } from './vcpu-apic.js'

const EINVAL = -22

/** Time of a vCPU. */
export abstract class VcpuClock extends VcpuApic {
  /** The rate of the guest's TSC in kHz. @ioctl KVM_GET_TSC_KHZ (KVM API 4.56) @capability KVM_CAP_GET_TSC_KHZ */
  getTscKhz(): number {
    this.capabilities.require(KVM_CAP_GET_TSC_KHZ)
    return this.request(KVM_GET_TSC_KHZ, 'KVM_GET_TSC_KHZ')
  }
  /**
   * Sets it; 0 is the host's. A CPU that cannot scale the TSC (no KVM_CAP_TSC_CONTROL) takes only
   * rates not below the host's, and approximates them.
   *
   * @ioctl KVM_SET_TSC_KHZ (KVM API 4.55) @capability KVM_CAP_TSC_CONTROL
   */
  setTscKhz(tscKhz: number): void {
    const value = integer(tscKhz, 'tscKhz', 0, 0xffff_ffff)
    const result = this.handle.ioctl(KVM_SET_TSC_KHZ, value)
    if (result >= 0) return
    const scales = this.capabilities.value(KVM_CAP_TSC_CONTROL) > 0
    const details = { ioctl: 'KVM_SET_TSC_KHZ', vcpuId: this.id }
    const reason = `this host cannot give a TSC of ${value} kHz: it lacks KVM_CAP_TSC_CONTROL`
    throw kvmError(result, result === EINVAL && !scales ? { ...details, reason } : details)
  }

  /**
   * Tells the guest, through kvmclock, that it was paused, so that its watchdogs do not bark.
   *
   * @ioctl KVM_KVMCLOCK_CTRL (KVM API 4.70) @capability KVM_CAP_KVMCLOCK_CTRL
   * @throws KvmError `EINVAL` when the guest does not use kvmclock.
   */
  kvmclockCtrl(): void {
    this.capabilities.require(KVM_CAP_KVMCLOCK_CTRL)
    this.request(KVM_KVMCLOCK_CTRL, 'KVM_KVMCLOCK_CTRL')
  }
}
