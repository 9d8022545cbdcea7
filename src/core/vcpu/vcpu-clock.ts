// A vCPU's notion of time: its TSC's rate and offset, and kvmclock.

import {
  encodeKvmDeviceAttr,
  KVM_CAP_GET_TSC_KHZ,
  KVM_CAP_KVMCLOCK_CTRL,
  KVM_CAP_TSC_CONTROL,
  KVM_CAP_VCPU_ATTRIBUTES,
  KVM_GET_TSC_KHZ,
  KVM_HAS_DEVICE_ATTR,
  KVM_KVMCLOCK_CTRL,
  KVM_SET_TSC_KHZ,
} from '../../uapi/index.js'
import { check, kvmError } from '../errors.js'
import { uint64 } from '../uint64.js'
import { integer, uint32 } from '../validate.js'
import { VcpuApic } from './vcpu-apic.js'
import { offered } from './vcpu-file.js'

const EINVAL = -22
const ENXIO = -6

/** Time of a vCPU. */
export abstract class VcpuClock extends VcpuApic {
  /**
   * The rate of the guest's TSC in kHz.
   *
   * @ioctl KVM_GET_TSC_KHZ (KVM API 4.56)
   * @capability KVM_CAP_GET_TSC_KHZ
   */
  getTscKhz(): number {
    this.capabilities.require(KVM_CAP_GET_TSC_KHZ)
    return this.request(KVM_GET_TSC_KHZ, 'KVM_GET_TSC_KHZ')
  }
  /**
   * Sets it; 0 is the host's. A CPU that cannot scale the TSC (no KVM_CAP_TSC_CONTROL) takes only
   * rates not below the host's, and approximates them.
   *
   * @ioctl KVM_SET_TSC_KHZ (KVM API 4.55)
   * @capability KVM_CAP_TSC_CONTROL
   */
  setTscKhz(tscKhz: number): void {
    const value = integer(tscKhz, 'tscKhz', 0, 0xffff_ffff)
    const result = this.ioctl(KVM_SET_TSC_KHZ, value)
    if (result >= 0) return
    const scales = offered(this, KVM_CAP_TSC_CONTROL) > 0
    const details = { ioctl: 'KVM_SET_TSC_KHZ', vcpuId: this.id }
    const reason = `this host cannot give a TSC of ${value} kHz: it lacks KVM_CAP_TSC_CONTROL`
    throw kvmError(result, result === EINVAL && !scales ? { ...details, reason } : details)
  }

  /**
   * Tells the guest, through kvmclock, that it was paused, so that its watchdogs do not bark.
   *
   * @ioctl KVM_KVMCLOCK_CTRL (KVM API 4.70)
   * @capability KVM_CAP_KVMCLOCK_CTRL
   * @throws KvmError `EINVAL` when the guest does not use kvmclock.
   */
  kvmclockCtrl(): void {
    this.capabilities.require(KVM_CAP_KVMCLOCK_CTRL)
    this.request(KVM_KVMCLOCK_CTRL, 'KVM_KVMCLOCK_CTRL')
  }

  /**
   * Whether the vCPU has an attribute.
   *
   * @ioctl KVM_HAS_DEVICE_ATTR (KVM API 4.81)
   * @capability KVM_CAP_VCPU_ATTRIBUTES
   */
  hasDeviceAttr(group: number, attr: number): boolean {
    const name = { group: uint32(group, 'group'), attr: BigInt(integer(attr, 'attr')) }
    this.capabilities.require(KVM_CAP_VCPU_ATTRIBUTES)
    encodeKvmDeviceAttr(this.native.view, 0, { ...name, flags: 0, addr: 0n })
    const result = this.ioctl(KVM_HAS_DEVICE_ATTR)
    if (result === ENXIO) return false
    check(result, 'KVM_HAS_DEVICE_ATTR', { vcpuId: this.id })
    return true
  }
  /**
   * The value of an attribute: `KVM_VCPU_TSC_OFFSET` of the group `KVM_VCPU_TSC_CTRL` is what is
   * added to the host's TSC to give the guest's, modulo 2^64.
   *
   * @ioctl KVM_GET_DEVICE_ATTR (KVM API 4.80)
   * @capability KVM_CAP_VCPU_ATTRIBUTES
   * @throws KvmError `ENXIO` for one that the vCPU does not have.
   */
  getDeviceAttr(group: number, attr: number): bigint {
    const value = new BigUint64Array(1)
    this.#deviceAttr('getDeviceAttr', 'KVM_GET_DEVICE_ATTR', group, attr, value)
    return value[0]!
  }
  /**
   * Sets an attribute.
   *
   * @ioctl KVM_SET_DEVICE_ATTR (KVM API 4.80)
   * @capability KVM_CAP_VCPU_ATTRIBUTES
   * @throws KvmError `ENXIO` for one that the vCPU does not have.
   */
  setDeviceAttr(group: number, attr: number, value: bigint): void {
    const number = BigUint64Array.of(uint64(value, 'value'))
    this.#deviceAttr('setDeviceAttr', 'KVM_SET_DEVICE_ATTR', group, attr, number)
  }

  #deviceAttr(
    method: 'getDeviceAttr' | 'setDeviceAttr',
    name: string,
    group: number,
    attr: number,
    value: BigUint64Array,
  ): void {
    uint32(group, 'group')
    integer(attr, 'attr')
    this.capabilities.require(KVM_CAP_VCPU_ATTRIBUTES)
    const result = this.native[method](this.handle, group, attr, new Uint8Array(value.buffer))
    check(result, name, { vcpuId: this.id })
  }
}
