// From the bytes of a KVM_EXIT_IO or KVM_EXIT_MMIO to accesses on a bus, and back. Both work on the
// exit's bytes in place and allocate nothing (but the bigints of devices with 64-bit accesses).

import type { Bus } from './bus.js'
import { outOfRange } from './errors.js'

const load = (data: Uint8Array, at: number, size: number): number => {
  if (size === 1) return data[at]!
  const low = data[at]! | (data[at + 1]! << 8)
  return size === 2 ? low : (low | (data[at + 2]! << 16) | (data[at + 3]! << 24)) >>> 0
}

const store = (data: Uint8Array, at: number, size: number, value: number): void => {
  data[at] = value
  if (size === 1) return
  data[at + 1] = value >>> 8
  if (size === 2) return
  data[at + 2] = value >>> 16
  data[at + 3] = value >>> 24
}

const checkBytes = (data: Uint8Array, at: number, length: number): void => {
  if (!(at >= 0 && at + length <= data.length)) {
    throw outOfRange(
      `an exit of ${length} bytes at ${at} does not fit ${data.length} bytes of data`,
    )
  }
}

/**
 * Serves a KVM_EXIT_IO (KVM API, "5. The kvm_run structure"). A string instruction (INS, OUTS) can
 * bring several elements in one exit: `count` times `size` bytes, all for the same port, in order.
 *
 * @param data holds the exit's bytes from `dataOffset` on; `in` fills them
 * @param size bytes of one element: 1, 2 or 4
 * @param direction `in` when the guest reads
 * @throws RangeError `ERR_OUT_OF_RANGE` when the bytes are not all in `data`
 * @throws DeviceError when the device throws; elements before it were served
 */
export function handleIo(
  bus: Bus,
  data: Uint8Array,
  port: number,
  size: number,
  count: number,
  direction: 'in' | 'out',
  dataOffset = 0,
): void {
  checkBytes(data, dataOffset, size * count)
  const end = dataOffset + size * count
  if (direction === 'in') {
    for (let at = dataOffset; at < end; at += size) store(data, at, size, bus.read(port, size))
  } else {
    for (let at = dataOffset; at < end; at += size) bus.write(port, size, load(data, at, size))
  }
}

const readWhole = (bus: Bus, data: Uint8Array, gpa: number, at: number): void => {
  const value = bus.read64(gpa)
  store(data, at, 4, Number(BigInt.asUintN(32, value)))
  store(data, at + 4, 4, Number(value >> 32n))
}

const writeWhole = (bus: Bus, data: Uint8Array, gpa: number, at: number): void => {
  const low = BigInt(load(data, at, 4))
  bus.write64(gpa, low | (BigInt(load(data, at + 4, 4)) << 32n))
}

/**
 * Serves a KVM_EXIT_MMIO (KVM API, "5. The kvm_run structure"). `length` is 1 to 8: an access that
 * crosses a page arrives in two exits of any length. What is not 1, 2 or 4 bytes is cut into such
 * parts, lowest address first, except that a device with `read64`/`write64` gets 8 bytes whole.
 *
 * @param data holds the exit's bytes from `dataOffset` on; a read fills them
 * @throws RangeError `ERR_OUT_OF_RANGE` when the bytes are not all in `data` or `length` is not 1-8
 * @throws DeviceError when the device throws; parts before it were served
 */
export function handleMmio(
  bus: Bus,
  data: Uint8Array,
  gpa: number,
  length: number,
  isWrite: boolean,
  dataOffset = 0,
): void {
  if (!(length >= 1 && length <= 8))
    throw outOfRange(`an MMIO exit has 1 to 8 bytes, not ${length}`)
  checkBytes(data, dataOffset, length)
  if (length === 8) {
    const device = bus.find(gpa)?.device
    if (isWrite && device?.write64) {
      writeWhole(bus, data, gpa, dataOffset)
      return
    }
    if (!isWrite && device?.read64) {
      readWhole(bus, data, gpa, dataOffset)
      return
    }
  }
  let done = 0
  while (done < length) {
    const left = length - done
    const size = left >= 4 ? 4 : left >= 2 ? 2 : 1
    const at = dataOffset + done
    if (isWrite) bus.write(gpa + done, size, load(data, at, size))
    else store(data, at, size, bus.read(gpa + done, size))
    done += size
  }
}
