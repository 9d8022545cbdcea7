// A block device whose requests native threads carry out: from the guest's memory to the file and back
// without a copy, and without JavaScript.

import { type Binding, BLOCK_WORKER, binding, type Handle, KIND_FILE } from '../binding.js'
import { closedError, type KvmErrorDetails, kvmError } from '../core/errors.js'
import { EventFd } from '../core/interrupts/event-fd.js'
import { filePath, integer, invalidArgType, object } from '../core/validate.js'
import {
  type BlockDeviceOptions,
  type BlockGeometry,
  type QueueSetup,
  VIRTIO_BLK_F,
  VirtioBlockDevice,
  type VirtioContext,
  VirtqueueError,
} from '../devices/index.js'
import { nativeRam } from './native-ram.js'

/** Options of {@link VirtioDisk.open}. What the geometry does not say is asked of the kernel. */
export interface VirtioDiskOptions extends BlockDeviceOptions {
  /**
   * Past the host's page cache (O_DIRECT). What the guest does not align as that demands goes by the
   * cache. Default false.
   */
  readonly direct?: boolean
  /** Flushes of the guest do nothing: what the host loses, the guest loses. Default false. */
  readonly ignoreFlush?: boolean
  /** How requests reach the kernel. Default: io_uring where it is, else threads. */
  readonly engine?: 'auto' | 'threads'
  /** See {@link VirtioDisk.limit}. */
  readonly limit?: DiskLimit
}

/** How much a guest may do in a second. Bursts default to what a second allows. */
export interface DiskLimit {
  readonly bytesPerSecond?: number
  /** Bytes after a pause. */
  readonly bytesBurst?: number
  readonly operationsPerSecond?: number
  /** Operations after a pause. */
  readonly operationsBurst?: number
}

/** What a disk has done since it was opened. */
export interface DiskStatistics {
  readonly reads: number
  readonly writes: number
  readonly flushes: number
  /** Discards and writes of zeros. */
  readonly discards: number
  /** Requests that failed. */
  readonly errors: number
  readonly bytesRead: number
  readonly bytesWritten: number
  /** How often notifications of the guest woke a thread. */
  readonly wakeups: number
  /** Interrupts sent. */
  readonly interrupts: number
}

/** In the order of native/block_api.cc. */
const STATISTICS: readonly (keyof DiskStatistics)[] = [
  'reads',
  'writes',
  'flushes',
  'discards',
  'errors',
  'bytesRead',
  'bytesWritten',
  'wakeups',
  'interrupts',
]

/** Numbers of native/block_request.h. */
const MAX_DISCARD_SECTORS = 2 ** 31 / 512 - 1
const MAX_ZERO_SECTORS = 2 ** 26 / 512

const FEATURE = { discard: 1, writeZeroes: 2 } as const
const TELL = { run: 0, pause: 1, end: 2 } as const
const QUEUE_FLAG = { packed: 1, eventIdx: 2, indirect: 4, inOrder: 8 } as const

/**
 * A file or a block device as a disk of a guest, each queue served by a thread of its own.
 *
 * Requests go to the kernel with the guest's own buffers: what its page cache can do at once is done at
 * once, the rest by io_uring. Notifications arrive and interrupts leave by eventfds. JavaScript sees none of it. A flush of the guest is `fdatasync(2)`.
 */
export class VirtioDisk extends VirtioBlockDevice {
  readonly name = 'virtio-blk'
  readonly #native: Binding
  readonly #disk: Handle
  readonly #path: string
  readonly #ignoreFlush: boolean
  readonly #useRing: boolean
  #workers: Handle[] = []
  /** Rung by the workers when their state changes. */
  #bell: EventFd | undefined
  /** Whoever waits for the workers to get somewhere. */
  #waiting: { isThere: () => boolean; resolve: () => void }[] = []
  #closed = false

  private constructor(
    native: Binding,
    disk: Handle,
    path: string,
    options: VirtioDiskOptions,
    isWritable: boolean,
  ) {
    super(options, {
      flush: true,
      maxDiscardSectors: isWritable ? MAX_DISCARD_SECTORS : 0,
      maxZeroSectors: isWritable ? MAX_ZERO_SECTORS : 0,
    })
    this.#native = native
    this.#disk = disk
    this.#path = path
    this.#ignoreFlush = options.ignoreFlush === true
    this.#useRing = options.engine !== 'threads'
    this.cacheChanged(this.isWriteBack)
  }

  /**
   * Opens a file, or a block device, for a guest.
   *
   * @throws KvmError what the kernel refuses; `EBUSY` while the file is another disk's that writes to it,
   *   or is to be written here while it is anybody's; `EINVAL` for what is neither file nor block device.
   * @throws RangeError `ERR_OUT_OF_RANGE` for options that no disk can have
   */
  static open(path: string, options: VirtioDiskOptions = {}): VirtioDisk {
    const { readOnly = false, direct = false, limit } = object(options, 'options')
    checkWord(options.writeCache, 'writeCache', ['writeback', 'writethrough'])
    checkWord(options.engine, 'engine', ['auto', 'threads'])
    const native = binding()
    const disk = native.openDisk(filePath(path, 'path'), readOnly ? 1 : 0, direct ? 1 : 0)
    if (typeof disk === 'number') throw openError(disk, path)
    try {
      const all = { ...probedGeometry(native, disk), ...options }
      const opened = new VirtioDisk(native, disk, path, all, !readOnly)
      opened.refreshSize()
      if (limit !== undefined) opened.limit(limit)
      return opened
    } catch (error) {
      native.close(disk)
      throw error
    }
  }

  /** What it has done. */
  get statistics(): DiskStatistics {
    const counters = this.#native.diskCounters(this.#open)
    return Object.fromEntries(STATISTICS.map((name, i) => [name, counters[i]])) as never
  }

  /** Whether requests go by io_uring; undefined while no driver uses the disk. */
  get usesIoUring(): boolean | undefined {
    const [first] = this.#workers
    return first === undefined ? undefined : this.#native.blockWorkerState(first)[1] === 1
  }

  /** Limits what the guest may do from now on; without numbers it may do all it can. */
  limit(limit: DiskLimit): void {
    const number = (name: keyof DiskLimit, otherwise: number) =>
      integer(limit[name] ?? otherwise, `limit.${name}`)
    const bytes = number('bytesPerSecond', 0)
    const operations = number('operationsPerSecond', 0)
    this.#native.setDiskLimit(
      this.#open,
      bytes,
      number('bytesBurst', bytes),
      operations,
      number('operationsBurst', operations),
    )
  }

  /**
   * Tells the guest how large the file is now: it may have been made larger, or smaller, while the guest
   * runs.
   *
   * @returns The size in bytes, in whole sectors.
   */
  refreshSize(): number {
    const sectors = this.#native.refreshDisk(this.#open)
    if (sectors < 0) throw kvmError(sectors, { syscall: 'lseek', path: this.#path })
    this.setSectors(sectors)
    return this.size
  }

  get #open(): Handle {
    if (this.#closed) throw closedError({ path: this.#path })
    return this.#disk
  }

  protected override cacheChanged(isWriteBack: boolean): void {
    if (this.#closed) return
    this.#native.setDiskCache(this.#disk, isWriteBack ? 1 : 0, this.#ignoreFlush ? 1 : 0)
  }

  override activate(context: VirtioContext): void {
    super.activate(context)
    const bell = EventFd.create()
    this.#bell = bell
    bell.onSignal(() => this.#onBell()).unref()
    const ram = nativeRam(context.memory)
    try {
      for (const index of this.queueSizes.keys()) {
        const setup = context.handOver(index)
        if (setup !== undefined) this.#workers.push(this.#startWorker(ram, setup, context.features))
      }
    } finally {
      // The workers have it now.
      this.#native.close(ram)
    }
  }

  #startWorker(ram: Handle, setup: QueueSetup, features: bigint): Handle {
    const worker = this.#native.startBlockWorker(
      this.#disk,
      ram,
      this.#event(setup.kick),
      this.#event(setup.call),
      this.#event(this.#bell!.id),
      this.id,
      (features & VIRTIO_BLK_F.discard ? FEATURE.discard : 0) +
        (features & VIRTIO_BLK_F.writeZeroes ? FEATURE.writeZeroes : 0),
      this.#useRing ? 1 : 0,
      setup.size,
      queueFlags(setup),
      setup.descGpa,
      setup.driverGpa,
      setup.deviceGpa,
    )
    if (typeof worker === 'number') throw kvmError(worker, { reason: `queue ${setup.index}` })
    return worker
  }

  #event(id: number): Handle {
    const event = this.#native.findObject(id, KIND_FILE)
    if (event === null) throw closedError()
    return event
  }

  #states(): number[] {
    return this.#workers.map((worker) => this.#native.blockWorkerState(worker)[0])
  }

  #onBell(): void {
    const states = this.#states()
    if (states.includes(BLOCK_WORKER.broken)) {
      this.context?.fail(new VirtqueueError('a request that no driver may make'))
    }
    if (states.includes(BLOCK_WORKER.failed)) {
      this.context?.fail(new Error('there are no means to serve the disk: threads or memory'))
    }
    const waiting = this.#waiting
    this.#waiting = waiting.filter(({ isThere }) => !isThere())
    for (const each of waiting) if (each.isThere()) each.resolve()
  }

  /** Tells the workers, and resolves when none is in any other than these states. */
  async #tell(what: 0 | 1 | 2, ...states: number[]): Promise<void> {
    for (const worker of this.#workers) this.#native.tellBlockWorker(worker, what)
    const isThere = () => this.#states().every((state) => states.includes(state))
    if (isThere()) return
    this.#bell?.ref()
    await new Promise<void>((resolve) => this.#waiting.push({ isThere, resolve }))
    this.#bell?.unref()
  }

  override async reset(): Promise<void> {
    await this.#tell(TELL.end, BLOCK_WORKER.ended, BLOCK_WORKER.failed)
    this.#workers = []
    this.#bell?.close()
    this.#bell = undefined
    await super.reset()
  }

  override async pause(): Promise<void> {
    const { paused, broken, failed, ended } = BLOCK_WORKER
    await this.#tell(TELL.pause, paused, broken, failed, ended)
  }

  override resume(): void {
    for (const worker of this.#workers) this.#native.tellBlockWorker(worker, TELL.run)
  }

  override close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#native.close(this.#disk)
  }
}

function queueFlags({ packed, eventIdx, indirect, inOrder }: QueueSetup): number {
  return (
    (packed ? QUEUE_FLAG.packed : 0) +
    (eventIdx ? QUEUE_FLAG.eventIdx : 0) +
    (indirect ? QUEUE_FLAG.indirect : 0) +
    (inOrder ? QUEUE_FLAG.inOrder : 0)
  )
}

/** What the kernel tells, without what it does not know. */
function probedGeometry(native: Binding, disk: Handle): BlockGeometry {
  const [logicalBlock, physicalBlock, alignmentOffset, minimumIo, optimalIo] =
    native.diskGeometry(disk)
  const isKnown = ([, bytes]: [string, number]) => bytes > 0 && bytes % logicalBlock === 0
  const all = { physicalBlock, alignmentOffset, minimumIo, optimalIo }
  return { logicalBlock, ...Object.fromEntries(Object.entries(all).filter(isKnown)) }
}

function openError(result: number, path: string): Error {
  const reasons: KvmErrorDetails['reasons'] = {
    EBUSY: 'another disk or process uses the image',
    EINVAL: 'only files and block devices can be disks, and some file systems have no O_DIRECT',
  }
  return kvmError(result, { syscall: 'open', path, reasons })
}

function checkWord(value: string | undefined, name: string, words: readonly string[]): void {
  if (value === undefined || words.includes(value)) return
  throw invalidArgType(`options.${name}`, `one of '${words.join("', '")}'`, value)
}
