// Devices that live in the kernel, made by KVM_CREATE_DEVICE.

import type { Binding, BoundHandle } from '../binding.js'
import { attributeSize, DeviceAttributes, MAX_ATTRIBUTE_SIZE } from './device-attributes.js'
import { KvmFile } from './file.js'
import { PlainFile } from './plain-file.js'
import { bytes, outOfRange } from './validate.js'
import type { Vm } from './vm.js'

/**
 * A device in the kernel. On x86 there is one type, `KVM_DEV_TYPE_VFIO` (4): it is told of the VFIO
 * groups and devices that the VM is given, so that KVM can adapt to them.
 *
 * It keeps the kernel's VM alive until it is closed.
 */
export class Device extends KvmFile {
  /** The VM it belongs to. */
  readonly vm: Vm
  /** `KVM_DEV_TYPE_*`. */
  readonly type: number
  readonly #attributes: DeviceAttributes

  /** @internal */
  constructor(native: Binding, handle: BoundHandle, vm: Vm, type: number) {
    super(native, handle)
    this.vm = vm
    this.type = type
    this.#attributes = new DeviceAttributes(native, handle)
  }

  /**
   * Whether it has an attribute: a number in a group (`KVM_DEV_VFIO_FILE` and so on).
   *
   * @ioctl KVM_HAS_DEVICE_ATTR (KVM API 4.81)
   * @capability KVM_CAP_DEVICE_CTRL
   */
  hasDeviceAttr(group: number, attr: number): boolean {
    return this.#attributes.has(group, attr)
  }

  /**
   * Reads an attribute.
   *
   * @param size Bytes of its value, at most 4096.
   * @ioctl KVM_GET_DEVICE_ATTR (KVM API 4.80)
   * @capability KVM_CAP_DEVICE_CTRL
   * @throws KvmError `EPERM` for devices without attributes to read, as VFIO is.
   */
  getDeviceAttr(group: number, attr: number, size: number): Uint8Array {
    return this.#attributes.get(group, attr, attributeSize(size))
  }

  /**
   * Writes an attribute.
   *
   * @param value Its bytes, or the file that the attribute is about: for `KVM_DEV_VFIO_FILE_ADD` and
   *   `KVM_DEV_VFIO_FILE_DEL` a VFIO group or device, see {@link PlainFile.open}.
   * @ioctl KVM_SET_DEVICE_ATTR (KVM API 4.80)
   * @capability KVM_CAP_DEVICE_CTRL
   * @throws KvmError `ENXIO` when there is no such attribute; what else the device says.
   */
  setDeviceAttr(group: number, attr: number, value: Uint8Array | PlainFile): void {
    if (value instanceof PlainFile) {
      this.#attributes.set(group, attr, PlainFile.handleOf(value, 'value'))
      return
    }
    const { length } = bytes(value, 'value')
    if (length > MAX_ATTRIBUTE_SIZE) {
      throw outOfRange('value.length', `<= ${MAX_ATTRIBUTE_SIZE}`, length)
    }
    this.#attributes.set(group, attr, value)
  }
}
