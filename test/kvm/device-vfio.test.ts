// Devices in the kernel: on x86 there is one, for VFIO.
// covers: KVM_CREATE_DEVICE@vm KVM_HAS_DEVICE_ATTR@device KVM_GET_DEVICE_ATTR@device
// covers: KVM_SET_DEVICE_ATTR@device

import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Device, Kvm, PlainFile, type Vm } from '../../src/index.js'
import {
  KVM_CREATE_DEVICE_TEST,
  KVM_DEV_TYPE_FLIC,
  KVM_DEV_TYPE_VFIO,
  KVM_DEV_VFIO_FILE,
  KVM_DEV_VFIO_FILE_ADD,
  KVM_DEV_VFIO_FILE_DEL,
} from '../../src/uapi/index.js'
import { codeOf, thrownBy } from '../helpers/thrown.js'

const NO_DEVICE = 'this kernel has no VFIO device (ENODEV)'

let kvm: Kvm
let vm: Vm
let device: Device | undefined
beforeEach(() => {
  kvm = Kvm.open()
  vm = kvm.createVm()
  // A module of its own may have it, which a kernel need not have.
  if (isThere(vm)) device = vm.createDevice({ type: KVM_DEV_TYPE_VFIO })
})
afterEach(() => {
  device?.close()
  device = undefined
  vm.close()
  kvm.close()
})

function isThere(vm: Vm): boolean {
  try {
    vm.createDevice({ type: KVM_DEV_TYPE_VFIO, flags: KVM_CREATE_DEVICE_TEST })
    return true
  } catch (error) {
    expect(error).toMatchObject({ code: 'ENODEV', ioctl: 'KVM_CREATE_DEVICE' })
    return false
  }
}

test('a type that x86 does not have is refused, whether asked or created', () => {
  const type = KVM_DEV_TYPE_FLIC
  for (const flags of [0, KVM_CREATE_DEVICE_TEST]) {
    const error = thrownBy(() => vm.createDevice({ type, flags })) as Error
    expect(error).toMatchObject({ code: 'ENODEV' })
    expect(error.message).toContain(`${type}`)
  }
})

test('there is one for VFIO in a VM', ({ skip }) => {
  if (device === undefined) return skip(NO_DEVICE)
  expect([device.type, device.closed]).toEqual([KVM_DEV_TYPE_VFIO, false])
  expect(device.vm).toBe(vm)
  expect(codeOf(() => vm.createDevice({ type: KVM_DEV_TYPE_VFIO }))).toBe('EBUSY')
})

test('it can add and forget files, and nothing else', ({ skip }) => {
  if (device === undefined) return skip(NO_DEVICE)
  expect(device.hasDeviceAttr(KVM_DEV_VFIO_FILE, KVM_DEV_VFIO_FILE_ADD)).toBe(true)
  expect(device.hasDeviceAttr(KVM_DEV_VFIO_FILE, KVM_DEV_VFIO_FILE_DEL)).toBe(true)
  expect(device.hasDeviceAttr(KVM_DEV_VFIO_FILE, 99)).toBe(false)
  expect(device.hasDeviceAttr(99, 0)).toBe(false)
})

test('a file that is not VFIO’s is refused', ({ skip }) => {
  if (device === undefined) return skip(NO_DEVICE)
  const file = PlainFile.open('/dev/null')
  const set = (attr: number) => () => device!.setDeviceAttr(KVM_DEV_VFIO_FILE, attr, file)
  expect(codeOf(set(KVM_DEV_VFIO_FILE_ADD))).toBe('EINVAL')
  expect(codeOf(set(KVM_DEV_VFIO_FILE_DEL))).toBe('ENOENT')
  file.close()
  expect(codeOf(set(KVM_DEV_VFIO_FILE_ADD))).toBe('ERR_KVM_CLOSED')
})

test('bytes are passed on, and read as a descriptor by this device', ({ skip }) => {
  if (device === undefined) return skip(NO_DEVICE)
  const noFile = Uint8Array.of(0xff, 0xff, 0xff, 0xff)
  const set = () => device!.setDeviceAttr(KVM_DEV_VFIO_FILE, KVM_DEV_VFIO_FILE_ADD, noFile)
  expect(codeOf(set)).toBe('EBADF')
})

test('it has nothing to read', ({ skip }) => {
  if (device === undefined) return skip(NO_DEVICE)
  const error = thrownBy(() => device!.getDeviceAttr(KVM_DEV_VFIO_FILE, KVM_DEV_VFIO_FILE_ADD, 4))
  expect(error).toMatchObject({ code: 'EPERM', ioctl: 'KVM_GET_DEVICE_ATTR' })
})

test('it outlives its VM, and is closed once and for all', ({ skip }) => {
  if (device === undefined) return skip(NO_DEVICE)
  vm.close()
  expect(device.hasDeviceAttr(KVM_DEV_VFIO_FILE, KVM_DEV_VFIO_FILE_ADD)).toBe(true)
  device.close()
  device.close()
  for (const call of [
    () => device!.hasDeviceAttr(0, 0),
    () => device!.getDeviceAttr(0, 0, 4),
    () => device!.setDeviceAttr(0, 0, new Uint8Array(4)),
    () => device!.unsafeIoctl(0x4018_aee3),
  ]) {
    expect(codeOf(call)).toBe('ERR_KVM_CLOSED')
  }
})

test.each([0, 4097, 1.5])('an attribute of %d bytes cannot be read', (size) => {
  if (device === undefined) return
  expect(codeOf(() => device!.getDeviceAttr(0, 0, size))).toBe('ERR_OUT_OF_RANGE')
})
