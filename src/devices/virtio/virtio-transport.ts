// What both transports share: the registers of negotiation, the status machine, and the way from
// DRIVER_OK to a device at work and back by reset, which may come at any time.

import { outOfRange } from '../errors.js'
import { Activation, type ActivationOwner } from './activation.js'
import type { DoorbellPlace, VirtioHost } from './doorbell.js'
import type { VirtioDevice } from './virtio-device.js'
import { VIRTIO_F, VIRTIO_STATUS } from './virtio-numbers.js'
import type { QueueLayout } from './virtqueue.js'

/** What of the queues a transport offers to the driver. */
export interface VirtioOptions {
  /** VIRTIO_F_RING_PACKED: the driver may choose packed rings. Default false. */
  readonly packed?: boolean
  /** VIRTIO_F_IN_ORDER: requests come back in the order in which they were made. Default false. */
  readonly inOrder?: boolean
  /** VIRTIO_F_INDIRECT_DESC. Default true. */
  readonly indirect?: boolean
  /** VIRTIO_F_EVENT_IDX. Default true. */
  readonly eventIdx?: boolean
}

/** The registers of one queue. */
export class QueueRegisters {
  /** The most entries it can have; 0: there is no such queue. */
  readonly maxSize: number
  size: number
  enabled = false
  /** Where its parts are, as low and high half. */
  readonly desc: [number, number] = [0, 0]
  readonly driver: [number, number] = [0, 0]
  readonly device: [number, number] = [0, 0]

  constructor(maxSize: number) {
    this.maxSize = maxSize
    this.size = maxSize
  }
}

const NO_QUEUE = new QueueRegisters(0)
const MAX_QUEUES = 1024
const MAX_QUEUE_SIZE = 0x8000
const address = ([low, high]: readonly [number, number]): number => low + high * 2 ** 32
const DEVICE_FEATURES = 0xff_ffffn | (0x3fffn << 50n)

/** A device as its driver meets it. The subclasses are what the registers look like on a bus. */
export abstract class VirtioTransport implements ActivationOwner {
  readonly device: VirtioDevice
  readonly host: VirtioHost
  /** What the device and its queues can do. */
  readonly offered: bigint
  /** Counts changes of the configuration space. */
  protected configGeneration = 0
  #driverFeatures = 0n
  #status = 0
  #queues: QueueRegisters[] = []
  #active: Activation | undefined
  #resetting: Promise<void> | undefined
  /** Queues that were notified before the driver was ready. */
  readonly #early = new Set<number>()

  /** @throws RangeError `ERR_OUT_OF_RANGE` for queues or features that no device can have */
  constructor(device: VirtioDevice, host: VirtioHost, options: VirtioOptions = {}) {
    this.device = device
    this.host = host
    checkDevice(device)
    const { packed = false, inOrder = false, indirect = true, eventIdx = true } = options
    this.offered =
      device.deviceFeatures |
      VIRTIO_F.version1 |
      (packed ? VIRTIO_F.ringPacked : 0n) |
      (inOrder ? VIRTIO_F.inOrder : 0n) |
      (indirect ? VIRTIO_F.indirectDesc : 0n) |
      (eventIdx ? VIRTIO_F.eventIdx : 0n)
    this.#clear()
  }

  abstract doorbellPlace(queueIndex: number): DoorbellPlace | undefined
  abstract interruptQueue(queueIndex: number): void
  abstract interruptEvent(queueIndex: number): number | undefined
  /** Interrupts the driver for a change of the configuration or the status. */
  protected abstract interruptConfig(): void
  /** Takes back what is raised, and forgets what the driver has set up of interrupts. */
  protected abstract clearInterrupts(): void

  /** The device status (virtio 1.2 §2.1); bits of {@link VIRTIO_STATUS}. */
  get status(): number {
    return this.#status
  }

  /** How many queues there are. */
  protected get queueCount(): number {
    return this.#queues.length
  }

  /** The registers of a queue; of one that does not exist, ones that say so. */
  protected queue(index: number): QueueRegisters {
    return this.#queues[index] ?? NO_QUEUE
  }

  /** 32 of the feature bits that are offered. */
  protected featuresOffered(select: number): number {
    return wordOf(this.offered, select)
  }

  /** 32 of the feature bits that the driver has accepted. */
  protected featuresAccepted(select: number): number {
    return wordOf(this.#driverFeatures, select)
  }

  /** The driver accepts 32 feature bits; final with FEATURES_OK. */
  protected acceptFeatures(select: number, value: number): void {
    if (select > 1 || (this.#status & VIRTIO_STATUS.featuresOk) !== 0) return
    const shift = select === 0 ? 0n : 32n
    const others = this.#driverFeatures & ~(0xffff_ffffn << shift)
    this.#driverFeatures = others | (BigInt(value) << shift)
  }

  /** The driver sets status bits; 0 resets. */
  protected writeStatus(value: number): void {
    if (value === 0) this.reset()
    if (this.#resetting !== undefined || value === 0) return
    const added = value & ~this.#status & ~VIRTIO_STATUS.needsReset
    this.#status |= added & ~(VIRTIO_STATUS.featuresOk | VIRTIO_STATUS.driverOk)
    if (added & VIRTIO_STATUS.featuresOk && this.#acceptsFeatures) {
      this.#status |= VIRTIO_STATUS.featuresOk
    }
    if (added & VIRTIO_STATUS.driverOk && this.#status & VIRTIO_STATUS.featuresOk) this.#activate()
  }

  /** Whether the registers of queues may change: after negotiation, and not while they are used. */
  protected get isSettingUp(): boolean {
    return this.#resetting === undefined && (this.#status & VIRTIO_STATUS.driverOk) === 0
  }

  /** The driver rings for a queue by an access that the kernel did not take. */
  protected ring(queueIndex: number): void {
    if (this.#active !== undefined) this.#active.ring(queueIndex)
    else if (queueIndex < this.#queues.length) this.#early.add(queueIndex)
  }

  /** The driver writes to the configuration space; what the device makes of it is its own affair. */
  protected writeDeviceConfig(offset: number, size: number, value: number): void {
    try {
      this.device.writeConfig(offset, size, value)
    } catch (error) {
      this.#fail(error)
    }
  }

  /** The driver reads the configuration space. */
  protected readDeviceConfig(offset: number, size: number): number {
    try {
      return this.device.readConfig(offset, size)
    } catch (error) {
      this.#fail(error)
      return 0
    }
  }

  #fail(error: unknown): void {
    if (this.#active !== undefined) this.#active.fail(error)
    else this.failed(error)
  }

  /** Doorbells may have to be elsewhere. */
  protected placeDoorbells(): void {
    this.#active?.placeDoorbells()
  }

  get #acceptsFeatures(): boolean {
    const accepted = this.#driverFeatures
    return (accepted & ~this.offered) === 0n && (accepted & VIRTIO_F.version1) !== 0n
  }

  #activate(): void {
    this.#status |= VIRTIO_STATUS.driverOk
    const layouts = this.#queues.map((queue, i) => (queue.enabled ? this.#layout(i) : undefined))
    try {
      this.#active = new Activation(this, this.#driverFeatures, layouts)
    } catch (error) {
      this.failed(error)
      return
    }
    this.#active.start()
    for (const index of this.#early) this.#active.ring(index)
    this.#early.clear()
  }

  #layout(index: number): QueueLayout {
    const { size, desc, driver, device } = this.#queues[index]!
    const has = (bit: bigint) => (this.#driverFeatures & bit) !== 0n
    return {
      index,
      size,
      descGpa: address(desc),
      driverGpa: address(driver),
      deviceGpa: address(device),
      packed: has(VIRTIO_F.ringPacked),
      eventIdx: has(VIRTIO_F.eventIdx),
      indirect: has(VIRTIO_F.indirectDesc),
      inOrder: has(VIRTIO_F.inOrder),
    }
  }

  configChanged(): void {
    this.configGeneration++
    this.interruptConfig()
  }

  failed(error: unknown): void {
    this.#status |= VIRTIO_STATUS.needsReset
    this.interruptConfig()
    this.host.onFailure(this.device, error)
  }

  /**
   * Reset by the driver or the machine. The status reads 0 when the device has let go of the guest's
   * memory, and the access that asked for it takes until then.
   */
  reset(): void {
    if (this.#resetting !== undefined) return
    const active = this.#active
    this.#active = undefined
    active?.end()
    const stopped = this.#stopDevice()
    if (stopped === undefined) {
      this.#finishReset(active)
      return
    }
    this.#resetting = stopped.then(() => {
      this.#resetting = undefined
      this.#finishReset(active)
    })
    this.host.hold(this.#resetting)
  }

  /** Never throws or rejects: what the device does wrong there is reported. */
  #stopDevice(): Promise<void> | undefined {
    const report = (error: unknown) => this.host.onFailure(this.device, error)
    try {
      const stopped = this.device.stop()
      return stopped instanceof Promise ? stopped.catch(report) : undefined
    } catch (error) {
      report(error)
      return undefined
    }
  }

  #finishReset(active: Activation | undefined): void {
    active?.close()
    this.#clear()
    this.clearInterrupts()
  }

  #clear(): void {
    this.#status = 0
    this.#driverFeatures = 0n
    this.#queues = this.device.queueSizes.map((size) => new QueueRegisters(size))
    this.#early.clear()
  }

  /** Resolves when the device does nothing; notifications wait. */
  async pause(): Promise<void> {
    this.#active?.unlisten()
    await this.device.pause()
  }

  /** Ends {@link pause}. */
  resume(): void {
    this.device.resume()
    this.#active?.listen()
  }

  /** Resets the device for good, and closes it. */
  async close(): Promise<void> {
    this.reset()
    await this.#resetting
    await this.device.close()
  }
}

function wordOf(features: bigint, select: number): number {
  if (select > 1) return 0
  return Number((features >> BigInt(32 * select)) & 0xffff_ffffn)
}

function checkDevice({ name, deviceType, queueSizes, deviceFeatures }: VirtioDevice): void {
  if (!(Number.isInteger(deviceType) && deviceType > 0 && deviceType < 0x40)) {
    throw outOfRange(`${name}: device types are 1 to 63, not ${deviceType}`)
  }
  if (queueSizes.length > MAX_QUEUES) throw outOfRange(`${name}: at most ${MAX_QUEUES} queues`)
  for (const size of queueSizes) {
    if (!(Number.isInteger(Math.log2(size)) && size <= MAX_QUEUE_SIZE)) {
      throw outOfRange(`${name}: a queue has 1 to ${MAX_QUEUE_SIZE} entries, a power of two`)
    }
  }
  if (deviceFeatures & ~DEVICE_FEATURES) {
    throw outOfRange(`${name}: a device's own feature bits are 0 to 23 and 50 to 63`)
  }
}
