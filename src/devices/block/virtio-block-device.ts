// What block devices have in common, whoever carries out their requests (virtio 1.2 §5.2): feature bits
// and configuration space.

import { outOfRange } from '../errors.js'
import { type VirtioContext, VirtioDevice } from '../virtio/virtio-device.js'
import { VIRTIO_ID } from '../virtio/virtio-numbers.js'
import { ID_SIZE, SECTOR_SIZE, VIRTIO_BLK_CONFIG, VIRTIO_BLK_F } from './virtio-block-numbers.js'

/** What a disk tells its guest of blocks and their alignment. All in bytes. */
export interface BlockGeometry {
  /** The least that can be addressed: 512, or 1024 to 65536 as a power of two. Default 512. */
  readonly logicalBlock?: number
  /** What the medium writes at once: a multiple of that by a power of two. */
  readonly physicalBlock?: number
  /** Where the first physical block begins. */
  readonly alignmentOffset?: number
  /** What a request should be a multiple of. */
  readonly minimumIo?: number
  /** What a request should best have. */
  readonly optimalIo?: number
}

/**
 * When a write is complete: when the host's cache has it, and a flush by the guest brings it to the medium
 * (`'writeback'`), or when the medium has it (`'writethrough'`). The guest can change it.
 */
export type WriteCache = 'writeback' | 'writethrough'

/** Options of every block device. */
export interface BlockDeviceOptions extends BlockGeometry {
  /** The guest's writes fail. Default false. */
  readonly readOnly?: boolean
  /** Queues, as many as vCPUs for the most speed; 1 to 64. Default 1. */
  readonly queues?: number
  /** Entries of each queue: a power of two, 4 to 1024. Default 256. */
  readonly queueSize?: number
  /** At most 20 characters of ASCII, by which the guest finds the disk. */
  readonly serial?: string
  /** Default `'writeback'`. */
  readonly writeCache?: WriteCache
}

/** What the device behind can do, and its limits. */
export interface BlockAbilities {
  readonly flush: boolean
  /** Sectors of one discard; 0: none. */
  readonly maxDiscardSectors: number
  /** Sectors of one write of zeros; 0: none. */
  readonly maxZeroSectors: number
}

const MAX_QUEUES = 64
const MAX_QUEUE_SIZE = 1024
/** Descriptors of a request that carry no data: its header and its status. */
const FRAME_DESCRIPTORS = 2
const isPowerOfTwo = (value: number) => Number.isInteger(Math.log2(value))

/** A block device: its features and configuration. Subclasses carry out requests. */
export abstract class VirtioBlockDevice extends VirtioDevice {
  readonly deviceType = VIRTIO_ID.block
  override readonly pciClass = 0x01_8000
  override readonly deviceFeatures: bigint
  override readonly config = new Uint8Array(VIRTIO_BLK_CONFIG.size)
  readonly queueSizes: readonly number[]
  /** Whether writes of the guest fail. */
  readonly readOnly: boolean
  /** What GET_ID answers: the serial number, then zeros. */
  protected readonly id: Uint8Array
  readonly #view: DataView
  readonly #startsWriteBack: boolean

  /** @throws RangeError `ERR_OUT_OF_RANGE` for what no block device can be */
  protected constructor(options: BlockDeviceOptions, abilities: BlockAbilities) {
    super()
    const { readOnly = false, queues = 1, queueSize = 256, serial = '' } = options
    checkQueues(queues, queueSize)
    this.readOnly = readOnly
    this.queueSizes = Array.from({ length: queues }, () => queueSize)
    this.id = encodeId(serial)
    this.#view = new DataView(this.config.buffer)
    this.#startsWriteBack = (options.writeCache ?? 'writeback') === 'writeback'
    const { segMax, numQueues } = VIRTIO_BLK_CONFIG
    this.#view.setUint32(segMax, Math.min(queueSize, MAX_QUEUE_SIZE) - FRAME_DESCRIPTORS, true)
    this.#view.setUint16(numQueues, queues, true)
    const physical = this.#encodeGeometry(options)
    this.deviceFeatures = this.#features(abilities) | (queues > 1 ? VIRTIO_BLK_F.multiQueue : 0n)
    this.#encodeAbilities(abilities, physical)
    this.config[VIRTIO_BLK_CONFIG.writeback] = this.#startsWriteBack ? 1 : 0
  }

  /** The capacity in bytes, as the guest has been told it. */
  get size(): number {
    return Number(this.#view.getBigUint64(VIRTIO_BLK_CONFIG.capacity, true)) * SECTOR_SIZE
  }

  /** Whether writes are complete when the host's cache has them. */
  get isWriteBack(): boolean {
    return this.config[VIRTIO_BLK_CONFIG.writeback] !== 0
  }

  set #writeBack(on: boolean) {
    this.config[VIRTIO_BLK_CONFIG.writeback] = on ? 1 : 0
    this.cacheChanged(on)
  }

  /** The guest, or the negotiation, has chosen how writes are completed. */
  protected cacheChanged(_isWriteBack: boolean): void {}

  /** Sets the capacity, and tells a guest that runs. */
  protected setSectors(sectors: number): void {
    const before = this.size
    this.#view.setBigUint64(VIRTIO_BLK_CONFIG.capacity, BigInt(sectors), true)
    if (this.size !== before) this.context?.configChanged()
  }

  override activate({ features }: VirtioContext): void {
    // §5.2.5.2: a driver that knows neither of caches nor of flushes gets none.
    const negotiates = (features & VIRTIO_BLK_F.configWce) !== 0n
    const flushes = (features & VIRTIO_BLK_F.flush) !== 0n
    this.#writeBack = negotiates ? this.isWriteBack : flushes && this.#startsWriteBack
  }

  override writeConfig(offset: number, size: number, value: number): void {
    const features = this.context?.features ?? 0n
    const isSwitch = offset === VIRTIO_BLK_CONFIG.writeback && size === 1
    if (isSwitch && (features & VIRTIO_BLK_F.configWce) !== 0n) this.#writeBack = (value & 1) !== 0
  }

  override reset(): void | Promise<void> {
    this.#writeBack = this.#startsWriteBack
  }

  #features({ flush, maxDiscardSectors, maxZeroSectors }: BlockAbilities): bigint {
    const { segMax, blockSize, topology, readOnly } = VIRTIO_BLK_F
    const always = segMax | blockSize | topology
    if (this.readOnly) return always | readOnly
    return (
      always |
      (flush ? VIRTIO_BLK_F.flush | VIRTIO_BLK_F.configWce : 0n) |
      (maxDiscardSectors > 0 ? VIRTIO_BLK_F.discard : 0n) |
      (maxZeroSectors > 0 ? VIRTIO_BLK_F.writeZeroes : 0n)
    )
  }

  /** @returns Bytes of a physical block. */
  #encodeGeometry(geometry: BlockGeometry): number {
    const { logicalBlock = SECTOR_SIZE, alignmentOffset = 0, minimumIo, optimalIo = 0 } = geometry
    const physicalBlock = geometry.physicalBlock ?? logicalBlock
    if (!(isPowerOfTwo(logicalBlock) && logicalBlock >= SECTOR_SIZE && logicalBlock <= 0x1_0000)) {
      throw outOfRange(`a logical block of ${logicalBlock} bytes`)
    }
    const blocks = (name: string, bytes: number, most: number) => {
      const count = bytes / logicalBlock
      if (Number.isInteger(count) && count >= 0 && count <= most) return count
      throw outOfRange(`${name} of ${bytes} bytes, in logical blocks of ${logicalBlock}`)
    }
    const exponent = Math.log2(blocks('a physical block', physicalBlock, 0x1_0000))
    if (!Number.isInteger(exponent)) throw outOfRange(`a physical block of ${physicalBlock} bytes`)
    const at = VIRTIO_BLK_CONFIG
    this.#view.setUint32(at.blockSize, logicalBlock, true)
    this.#view.setUint8(at.physicalBlockExp, exponent)
    this.#view.setUint8(at.alignmentOffset, blocks('an offset', alignmentOffset, 0xff))
    this.#view.setUint16(
      at.minIoSize,
      blocks('a minimum', minimumIo ?? physicalBlock, 0xffff),
      true,
    )
    this.#view.setUint32(at.optIoSize, blocks('an optimum', optimalIo, 0xffff_ffff), true)
    return physicalBlock
  }

  #encodeAbilities({ maxDiscardSectors, maxZeroSectors }: BlockAbilities, physical: number): void {
    const at = VIRTIO_BLK_CONFIG
    this.#view.setUint32(at.maxDiscardSectors, maxDiscardSectors, true)
    this.#view.setUint32(at.maxDiscardSeg, 1, true)
    this.#view.setUint32(at.discardSectorAlignment, physical / SECTOR_SIZE, true)
    this.#view.setUint32(at.maxWriteZeroesSectors, maxZeroSectors, true)
    this.#view.setUint32(at.maxWriteZeroesSeg, 1, true)
    this.#view.setUint8(at.writeZeroesMayUnmap, 1)
  }
}

function checkQueues(queues: number, queueSize: number): void {
  if (!(Number.isInteger(queues) && queues >= 1 && queues <= MAX_QUEUES)) {
    throw outOfRange(`a block device has 1 to ${MAX_QUEUES} queues, not ${queues}`)
  }
  if (!(isPowerOfTwo(queueSize) && queueSize >= 4 && queueSize <= MAX_QUEUE_SIZE)) {
    throw outOfRange(`a queue has 4 to ${MAX_QUEUE_SIZE} entries, a power of two: ${queueSize}`)
  }
}

function encodeId(serial: string): Uint8Array {
  const id = new Uint8Array(ID_SIZE)
  if (!/^[\x20-\x7e]{0,20}$/.test(serial)) {
    throw outOfRange(`a serial number has at most ${ID_SIZE} printable characters: ${serial}`)
  }
  id.set(new TextEncoder().encode(serial))
  return id
}
