// virtio over memory-mapped registers (virtio 1.2 §4.2), version 2: for machines without PCI.

import type { BusDevice } from '../bus-device.js'
import type { InterruptLine } from '../interrupt-line.js'
import type { DoorbellPlace, VirtioHost } from './doorbell.js'
import type { VirtioDevice } from './virtio-device.js'
import { type VirtioOptions, VirtioTransport } from './virtio-transport.js'

/** Bytes that one device takes: 0x100 of registers, then its configuration space. */
export const VIRTIO_MMIO_SIZE = 0x1000

const MAGIC = 0x7472_6976
const VERSION = 2
const VENDOR_ID = 0x1af4

/** Offsets of registers (virtio 1.2 §4.2.2). */
const REGISTER = {
  magicValue: 0x000,
  version: 0x004,
  deviceId: 0x008,
  vendorId: 0x00c,
  deviceFeatures: 0x010,
  deviceFeaturesSel: 0x014,
  driverFeatures: 0x020,
  driverFeaturesSel: 0x024,
  queueSel: 0x030,
  queueNumMax: 0x034,
  queueNum: 0x038,
  queueReady: 0x044,
  queueNotify: 0x050,
  interruptStatus: 0x060,
  interruptAck: 0x064,
  status: 0x070,
  shmLenLow: 0x0b0,
  shmBaseHigh: 0x0bc,
  configGeneration: 0x0fc,
  config: 0x100,
} as const

/** Halves of addresses by register. */
const ADDRESS: Readonly<Record<number, readonly ['desc' | 'driver' | 'device', 0 | 1]>> = {
  128: ['desc', 0],
  132: ['desc', 1],
  144: ['driver', 0],
  148: ['driver', 1],
  160: ['device', 0],
  164: ['device', 1],
}

const INTERRUPT = { queue: 1, config: 2 } as const

/** A virtio device behind registers in memory; its interrupt is a level-triggered line. */
export class VirtioMmioTransport extends VirtioTransport implements BusDevice {
  readonly name: string
  readonly #gpa: number
  readonly #line: InterruptLine
  #interruptStatus = 0
  #deviceFeaturesSel = 0
  #driverFeaturesSel = 0
  #queueSel = 0

  /**
   * @param gpa where the machine puts the {@link VIRTIO_MMIO_SIZE} bytes of registers
   * @throws RangeError `ERR_OUT_OF_RANGE` for a device that cannot be
   */
  constructor(
    device: VirtioDevice,
    host: VirtioHost,
    gpa: number,
    line: InterruptLine,
    options: VirtioOptions = {},
  ) {
    super(device, host, options)
    this.name = device.name
    this.#gpa = gpa
    this.#line = line
  }

  override doorbellPlace(queueIndex: number): DoorbellPlace | undefined {
    return { gpa: this.#gpa + REGISTER.queueNotify, length: 4, value: queueIndex }
  }

  override interruptQueue(): void {
    this.#interrupt(INTERRUPT.queue)
  }

  override interruptEvent(): undefined {
    return undefined
  }

  protected override interruptConfig(): void {
    this.#interrupt(INTERRUPT.config)
  }

  #interrupt(bit: number): void {
    this.#interruptStatus |= bit
    this.#line.set(true)
  }

  protected override clearInterrupts(): void {
    this.#interruptStatus = 0
    this.#line.set(false)
    this.#deviceFeaturesSel = 0
    this.#driverFeaturesSel = 0
    this.#queueSel = 0
  }

  read(offset: number, size: number): number {
    if (offset >= REGISTER.config) return this.readDeviceConfig(offset - REGISTER.config, size)
    return size === 4 ? this.#readRegister(offset) : 0
  }

  write(offset: number, size: number, value: number): void {
    if (offset >= REGISTER.config) {
      this.writeDeviceConfig(offset - REGISTER.config, size, value)
    } else if (size === 4) {
      this.#writeRegister(offset, value)
    }
  }

  #readRegister(offset: number): number {
    const queue = this.queue(this.#queueSel)
    switch (offset) {
      case REGISTER.magicValue:
        return MAGIC
      case REGISTER.version:
        return VERSION
      case REGISTER.deviceId:
        return this.device.deviceType
      case REGISTER.vendorId:
        return VENDOR_ID
      case REGISTER.deviceFeatures:
        return this.featuresOffered(this.#deviceFeaturesSel)
      case REGISTER.queueNumMax:
        return queue.maxSize
      case REGISTER.queueReady:
        return queue.enabled ? 1 : 0
      case REGISTER.interruptStatus:
        return this.#interruptStatus
      case REGISTER.status:
        return this.status
      case REGISTER.configGeneration:
        return this.configGeneration >>> 0
      default:
        // No shared memory regions: of length -1.
        return offset >= REGISTER.shmLenLow && offset <= REGISTER.shmBaseHigh ? 0xffff_ffff : 0
    }
  }

  #writeRegister(offset: number, value: number): void {
    switch (offset) {
      case REGISTER.deviceFeaturesSel:
        this.#deviceFeaturesSel = value
        return
      case REGISTER.driverFeaturesSel:
        this.#driverFeaturesSel = value
        return
      case REGISTER.driverFeatures:
        this.acceptFeatures(this.#driverFeaturesSel, value)
        return
      case REGISTER.queueSel:
        this.#queueSel = value
        return
      case REGISTER.queueNotify:
        this.ring(value)
        return
      case REGISTER.interruptAck:
        this.#interruptStatus &= ~value
        if (this.#interruptStatus === 0) this.#line.set(false)
        return
      case REGISTER.status:
        this.writeStatus(value & 0xff)
        return
      default:
        this.#writeQueue(offset, value)
    }
  }

  #writeQueue(offset: number, value: number): void {
    const queue = this.queue(this.#queueSel)
    if (!this.isSettingUp || queue.maxSize === 0) return
    if (offset === REGISTER.queueReady) queue.enabled = value === 1
    if (queue.enabled) return
    if (offset === REGISTER.queueNum) queue.size = Math.min(value, queue.maxSize)
    const half = ADDRESS[offset]
    if (half !== undefined) queue[half[0]][half[1]] = value
  }
}
