// virtio over PCI (virtio 1.2 §4.1), as modern drivers know it.

import type { BusDevice } from '../bus-device.js'
import { MsixCapability } from '../pci/msix-capability.js'
import type { PciCapability } from '../pci/pci-capability.js'
import { PciFunction } from '../pci/pci-function.js'
import type { DoorbellPlace, VirtioHost } from './doorbell.js'
import type { VirtioDevice } from './virtio-device.js'
import { PciAccessCapability, virtioCapability } from './virtio-pci-capabilities.js'
import { type QueueRegisters, type VirtioOptions, VirtioTransport } from './virtio-transport.js'

const VENDOR_ID = 0x1af4
const DEVICE_ID_BASE = 0x1040
/** Of no legacy device. */
const REVISION_ID = 1
const SUBSYSTEM_ID_BASE = 0x40
const NO_VECTOR = 0xffff

/** Where the structures are in BAR 0: a page each, so that one can be mapped without the others. */
const AT = { common: 0, isr: 0x1000, config: 0x2000, notify: 0x3000 } as const
const PAGE = 0x1000
const NOTIFY_MULTIPLIER = 4
const BAR = 0
const MSIX_BAR = 1

/** Bits of the ISR status (virtio 1.2 §4.1.4.5). */
const ISR = { queue: 1, config: 2 } as const

/** Offsets in the common configuration structure (virtio 1.2 §4.1.4.3). */
const COMMON = {
  deviceFeatureSelect: 0x00,
  deviceFeature: 0x04,
  driverFeatureSelect: 0x08,
  driverFeature: 0x0c,
  configMsixVector: 0x10,
  numQueues: 0x12,
  deviceStatus: 0x14,
  configGeneration: 0x15,
  queueSelect: 0x16,
  queueSize: 0x18,
  queueMsixVector: 0x1a,
  queueEnable: 0x1c,
  queueNotifyOff: 0x1e,
  queueDesc: 0x20,
  queueDriver: 0x28,
  queueDevice: 0x30,
  length: 0x38,
} as const

/** A virtio device as a PCI function: MSI-X with a vector for each queue and one for configuration. */
export class VirtioPciTransport extends VirtioTransport {
  /** To be put into a slot. */
  readonly function: PciFunction
  readonly #msix: MsixCapability
  #base: number | undefined
  #isr = 0
  #deviceFeatureSelect = 0
  #driverFeatureSelect = 0
  #queueSelect = 0
  #configVector = NO_VECTOR
  #vectors: number[] = []

  /** @throws RangeError `ERR_OUT_OF_RANGE` for a device that cannot be */
  constructor(device: VirtioDevice, host: VirtioHost, options: VirtioOptions = {}) {
    super(device, host, options)
    const { name, deviceType, queueSizes, pciClass, config } = device
    this.#msix = new MsixCapability({
      vectors: queueSizes.length + 1,
      barIndex: MSIX_BAR,
      create: host.messageInterrupt,
    })
    const structures: BusDevice = {
      name,
      read: (offset, size) => this.#read(offset, size),
      write: (offset, size, value) => this.#write(offset, size, value),
      reset: () => this.reset(),
    }
    const size = 4 * PAGE
    const place = { bar: BAR, length: PAGE }
    this.function = new PciFunction({
      name,
      vendorId: VENDOR_ID,
      deviceId: DEVICE_ID_BASE + deviceType,
      subsystemVendorId: VENDOR_ID,
      subsystemId: SUBSYSTEM_ID_BASE + deviceType,
      revisionId: REVISION_ID,
      classCode: pciClass,
      hasInterruptPin: true,
      bars: [
        { kind: 'memory32', size, device: structures, onMoved: (base) => this.#moved(base) },
        this.#msix.bar,
      ],
      capabilities: [
        this.#msix,
        virtioCapability('common', { ...place, offset: AT.common, length: COMMON.length }),
        virtioCapability('notify', { ...place, offset: AT.notify }, NOTIFY_MULTIPLIER),
        virtioCapability('isr', { ...place, offset: AT.isr, length: 1 }),
        ...deviceCapability(config.length),
        new PciAccessCapability(structures, size, BAR),
      ],
    })
  }

  override doorbellPlace(queueIndex: number): DoorbellPlace | undefined {
    if (this.#base === undefined) return undefined
    return { gpa: this.#base + AT.notify + queueIndex * NOTIFY_MULTIPLIER, length: 0 }
  }

  override interruptQueue(queueIndex: number): void {
    this.#interrupt(this.#vectorOf(queueIndex), ISR.queue)
  }

  override interruptEvent(queueIndex: number): number | undefined {
    const vector = this.#vectorOf(queueIndex)
    if (!this.#msix.isEnabled || vector === NO_VECTOR) return undefined
    return this.#msix.eventId(vector)
  }

  protected override interruptConfig(): void {
    this.#interrupt(this.#configVector, ISR.config)
  }

  #interrupt(vector: number, bit: number): void {
    if (this.#msix.isEnabled) {
      if (vector !== NO_VECTOR) this.#msix.signal(vector)
      return
    }
    this.#isr |= bit
    this.function.interrupt.set(true)
  }

  protected override clearInterrupts(): void {
    this.#isr = 0
    this.function.interrupt.set(false)
    this.#deviceFeatureSelect = 0
    this.#driverFeatureSelect = 0
    this.#queueSelect = 0
    this.#configVector = NO_VECTOR
    this.#vectors = []
  }

  #moved(base: number | undefined): void {
    this.#base = base
    this.placeDoorbells()
  }

  #vectorOf(queueIndex: number): number {
    return this.#vectors[queueIndex] ?? NO_VECTOR
  }

  #checkedVector(value: number): number {
    return value <= this.queueCount ? value : NO_VECTOR
  }

  #read(offset: number, size: number): number {
    if (offset < AT.isr) return this.#readCommon(offset)
    if (offset < AT.config) return offset === AT.isr ? this.#takeIsr() : 0
    if (offset < AT.notify) return this.readDeviceConfig(offset - AT.config, size)
    return 0
  }

  #write(offset: number, size: number, value: number): void {
    if (offset < AT.isr) this.#writeCommon(offset, value)
    else if (offset >= AT.notify) this.ring((offset - AT.notify) / NOTIFY_MULTIPLIER)
    else if (offset >= AT.config) this.writeDeviceConfig(offset - AT.config, size, value)
  }

  /** Reading it takes the interrupt back. */
  #takeIsr(): number {
    const isr = this.#isr
    this.#isr = 0
    this.function.interrupt.set(false)
    return isr
  }

  #readCommon(offset: number): number {
    const queue = this.queue(this.#queueSelect)
    switch (offset) {
      case COMMON.deviceFeatureSelect:
        return this.#deviceFeatureSelect
      case COMMON.deviceFeature:
        return this.featuresOffered(this.#deviceFeatureSelect)
      case COMMON.driverFeatureSelect:
        return this.#driverFeatureSelect
      case COMMON.driverFeature:
        return this.featuresAccepted(this.#driverFeatureSelect)
      case COMMON.configMsixVector:
        return this.#configVector
      case COMMON.numQueues:
        return this.queueCount
      case COMMON.deviceStatus:
        return this.status
      case COMMON.configGeneration:
        return this.configGeneration & 0xff
      case COMMON.queueSelect:
        return this.#queueSelect
      case COMMON.queueSize:
        return queue.size
      case COMMON.queueMsixVector:
        return this.#vectorOf(this.#queueSelect)
      case COMMON.queueEnable:
        return queue.enabled ? 1 : 0
      case COMMON.queueNotifyOff:
        return this.#queueSelect
      default:
        return halfOf(queue, offset)?.get() ?? 0
    }
  }

  #writeCommon(offset: number, value: number): void {
    switch (offset) {
      case COMMON.deviceFeatureSelect:
        this.#deviceFeatureSelect = value
        return
      case COMMON.driverFeatureSelect:
        this.#driverFeatureSelect = value
        return
      case COMMON.driverFeature:
        this.acceptFeatures(this.#driverFeatureSelect, value)
        return
      case COMMON.configMsixVector:
        this.#configVector = this.#checkedVector(value)
        return
      case COMMON.deviceStatus:
        this.writeStatus(value & 0xff)
        return
      case COMMON.queueSelect:
        this.#queueSelect = value & 0xffff
        return
      case COMMON.queueMsixVector:
        if (this.#queueSelect < this.queueCount) {
          this.#vectors[this.#queueSelect] = this.#checkedVector(value & 0xffff)
        }
        return
      default:
        this.#writeQueue(offset, value)
    }
  }

  #writeQueue(offset: number, value: number): void {
    const queue = this.queue(this.#queueSelect)
    if (!this.isSettingUp || queue.maxSize === 0 || queue.enabled) return
    if (offset === COMMON.queueEnable) queue.enabled = value === 1
    else if (offset === COMMON.queueSize) queue.size = Math.min(value & 0xffff, queue.maxSize)
    else halfOf(queue, offset)?.set(value)
  }
}

/** A device without configuration space has no structure for it. */
function deviceCapability(length: number): PciCapability[] {
  if (length === 0) return []
  return [virtioCapability('device', { bar: BAR, offset: AT.config, length })]
}

const ADDRESSES = [
  [COMMON.queueDesc, 'desc'],
  [COMMON.queueDriver, 'driver'],
  [COMMON.queueDevice, 'device'],
] as const

/** Half of an address, as drivers write it: 32 bits. */
function halfOf(
  queue: QueueRegisters,
  offset: number,
): { get(): number; set(value: number): void } | undefined {
  for (const [at, part] of ADDRESSES) {
    const half = (offset - at) / 4
    if (half !== 0 && half !== 1) continue
    return {
      get: () => queue[part][half],
      set: (value) => {
        queue[part][half] = value
      },
    }
  }
  return undefined
}
