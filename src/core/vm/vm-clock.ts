// The VM's notion of time: kvmclock, and the TSC rate that new vCPUs get.

import {
  decodeKvmClockData,
  encodeKvmClockData,
  KVM_CAP_ADJUST_CLOCK,
  KVM_CAP_GET_TSC_KHZ,
  KVM_CLOCK_REALTIME,
  KVM_GET_CLOCK,
  KVM_GET_TSC_KHZ,
  KVM_SET_CLOCK,
  KVM_SET_TSC_KHZ,
  type KvmClockData,
} from '../../uapi/index.js'
import { object, uint32 } from '../validate.js'
import { VmEvents } from './vm-events.js'

/** What {@link Vm.setClock} takes; what is not given is 0. */
export type ClockToSet = Pick<KvmClockData, 'clock'> & Partial<KvmClockData>

/** Time of a VM. */
export abstract class VmClock extends VmEvents {
  /**
   * The VM's clock in nanoseconds, and, where `flags` has `KVM_CLOCK_REALTIME` and
   * `KVM_CLOCK_HOST_TSC`, the host's wall time (ns since 1970) and TSC of the same moment.
   *
   * @ioctl KVM_GET_CLOCK (KVM API 4.29)
   * @capability KVM_CAP_ADJUST_CLOCK
   */
  getClock(): KvmClockData {
    this.capabilities.require(KVM_CAP_ADJUST_CLOCK)
    this.request(KVM_GET_CLOCK, 'KVM_GET_CLOCK')
    return decodeKvmClockData(this.native.view, 0)
  }

  /**
   * Sets the VM's clock. With `KVM_CLOCK_REALTIME` in `flags`, it is advanced by the wall time that
   * passed since `realtime`. The flags that only {@link getClock} gives are left out.
   *
   * @ioctl KVM_SET_CLOCK (KVM API 4.30)
   * @capability KVM_CAP_ADJUST_CLOCK
   */
  setClock(clock: ClockToSet): void {
    const { clock: nanoseconds, flags = 0, realtime = 0n, host_tsc = 0n } = object(clock, 'clock')
    uint32(flags, 'clock.flags')
    this.capabilities.require(KVM_CAP_ADJUST_CLOCK)
    this.send(KVM_SET_CLOCK, 'KVM_SET_CLOCK', (draft) =>
      encodeKvmClockData(draft, 0, {
        clock: nanoseconds,
        flags: flags & KVM_CLOCK_REALTIME,
        realtime,
        host_tsc,
      }),
    )
  }

  /**
   * The TSC rate of vCPUs that are created from now on, in kHz.
   *
   * @ioctl KVM_GET_TSC_KHZ (KVM API 4.56)
   * @capability KVM_CAP_GET_TSC_KHZ
   * @throws KvmError `ENOTTY` before Linux 5.19, where only vCPUs have it.
   */
  getTscKhz(): number {
    this.capabilities.require(KVM_CAP_GET_TSC_KHZ)
    return this.request(KVM_GET_TSC_KHZ, 'KVM_GET_TSC_KHZ', undefined, OF_VCPUS_ONLY)
  }

  /**
   * Sets it; 0 is the host's rate. Before the first vCPU. Where `KVM_CAP_VM_TSC_CONTROL` is 0, the
   * CPU cannot scale its TSC, and vCPUs of another rate than the host's are refused or off.
   *
   * @ioctl KVM_SET_TSC_KHZ (KVM API 4.55)
   * @capability KVM_CAP_VM_TSC_CONTROL
   * @throws KvmError `EINVAL` for a rate that the host cannot give its guests.
   */
  setTscKhz(tscKhz: number): void {
    uint32(tscKhz, 'tscKhz')
    this.request(KVM_SET_TSC_KHZ, 'KVM_SET_TSC_KHZ', tscKhz, OF_VCPUS_ONLY)
  }
}

const OF_VCPUS_ONLY = {
  reasons: {
    EINVAL: 'the host cannot give its guests this rate, or the VM has vCPUs already',
    ENOTTY: 'before Linux 5.19 only vCPUs have a rate of their own',
  },
}
