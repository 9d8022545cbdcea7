// Devices in the kernel, and the VM's statistics.

import { KVM_CAP_BINARY_STATS_FD, KVM_CREATE_DEVICE_TEST } from '../../uapi/index.js'
import { Device } from '../device.js'
import { kvmError } from '../errors.js'
import { StatsFd } from '../stats-fd.js'
import { object, uint32 } from '../validate.js'
import { type MmuSummary, mmuSummary } from '../vcpu/mmu-summary.js'
import type { Vm } from '../vm.js'
import { VmConfidential } from './vm-confidential.js'

/** What {@link Vm.createDevice} takes. */
export interface CreateDevice {
  /** `KVM_DEV_TYPE_*`; on x86 `KVM_DEV_TYPE_VFIO` (4). */
  type: number
  /** `KVM_CREATE_DEVICE_TEST` (1): only asks whether it could be created. */
  flags?: number
}

/** Devices and statistics of a VM. */
export abstract class VmDevices extends VmConfidential {
  /**
   * Creates a device in the kernel.
   *
   * @returns The device; undefined when `flags` only asks.
   * @ioctl KVM_CREATE_DEVICE (KVM API 4.79)
   * @capability KVM_CAP_DEVICE_CTRL
   * @throws KvmError `ENODEV` for a type the kernel does not have, `EBUSY` for a second VFIO device.
   */
  createDevice(options: CreateDevice & { flags: 1 }): undefined
  createDevice(options: CreateDevice & { flags?: 0 }): Device
  createDevice(options: CreateDevice): Device | undefined
  createDevice(options: CreateDevice): Device | undefined {
    const { type, flags = 0 } = object(options, 'options')
    uint32(type, 'options.type')
    uint32(flags, 'options.flags')
    // KERNEL: on x86 devices are there long before the capability that announces them (6.7).
    const handle = this.native.createDevice(this.handle, type, flags)
    if (typeof handle !== 'number') {
      return new Device(this.native, handle, this as unknown as Vm, type)
    }
    if (handle >= 0 && flags === KVM_CREATE_DEVICE_TEST) return undefined
    throw kvmError(handle, {
      ioctl: 'KVM_CREATE_DEVICE',
      reasons: { ENODEV: `this kernel has no device of type ${type}` },
    })
  }

  /**
   * The VM's statistics: MMU, TLB, pages. Close what you get; it keeps the kernel's VM alive.
   *
   * @ioctl KVM_GET_STATS_FD (KVM API 4.133)
   * @capability KVM_CAP_BINARY_STATS_FD
   */
  getStatsFd(): StatsFd {
    this.capabilities.require(KVM_CAP_BINARY_STATS_FD)
    return StatsFd.of(this.native, this.handle)
  }

  /**
   * What KVM's MMU did for this VM up to now: mappings by page size, TLB flushes. Opens and closes the
   * statistics each time; {@link mmuSummary} reads open ones.
   *
   * @ioctl KVM_GET_STATS_FD (KVM API 4.133)
   * @capability KVM_CAP_BINARY_STATS_FD
   */
  mmu(): MmuSummary {
    using stats = this.getStatsFd()
    return mmuSummary(stats)
  }
}
