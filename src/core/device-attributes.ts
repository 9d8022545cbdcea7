// Attributes of files: numbers in the kernel's groups. Shared by all files that have them.

import type { Binding, BoundHandle, Handle } from '../binding.js'
import { encodeKvmDeviceAttr, KVM_HAS_DEVICE_ATTR } from '../uapi/index.js'
import { check, type KvmErrorDetails } from './errors.js'
import { integer, outOfRange, uint32 } from './validate.js'

const ENXIO = -6

/** What the files that have attributes share. */
export class DeviceAttributes {
  readonly #native: Binding
  readonly #file: BoundHandle

  constructor(native: Binding, file: BoundHandle) {
    this.#native = native
    this.#file = file
  }

  has(group: number, attr: number): boolean {
    checkName(group, attr)
    encodeKvmDeviceAttr(this.#native.view, 0, { flags: 0, group, attr: BigInt(attr), addr: 0n })
    const result = this.#file.ioctl(KVM_HAS_DEVICE_ATTR)
    if (result === ENXIO) return false
    check(result, 'KVM_HAS_DEVICE_ATTR')
    return true
  }

  get(group: number, attr: number, size: number): Uint8Array {
    checkName(group, attr)
    const value = new Uint8Array(size)
    const result = this.#native.getDeviceAttr(this.#file, group, attr, value)
    check(result, 'KVM_GET_DEVICE_ATTR', details(group, attr))
    return value
  }

  set(group: number, attr: number, value: Uint8Array | Handle): void {
    checkName(group, attr)
    const result = this.#native.setDeviceAttr(this.#file, group, attr, value)
    check(result, 'KVM_SET_DEVICE_ATTR', details(group, attr))
  }
}

/** Longest value; the kernel alone knows how long each is, and gets this much room. */
export const MAX_ATTRIBUTE_SIZE = 4096

/** The size of a value that a user asks for. */
export function attributeSize(size: unknown): number {
  if (size === 0) throw outOfRange('size', '>= 1', size)
  return integer(size, 'size', 1, MAX_ATTRIBUTE_SIZE)
}

/** Throws unless both are numbers of an attribute. */
export function checkName(group: unknown, attr: unknown): void {
  uint32(group, 'group')
  integer(attr, 'attr')
}

const details = (group: number, attr: number): KvmErrorDetails => ({
  reasons: {
    ENXIO: `there is no attribute ${attr} in group ${group}`,
    EPERM: 'this file has no attributes of that direction',
    ENOTTY: 'this file has no attributes',
  },
})
