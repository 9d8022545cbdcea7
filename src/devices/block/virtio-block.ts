// A block device whose data comes from JavaScript: a file on a server, a database, a composition of
// others. Files and devices of this machine are served faster by `VirtioDisk`.

import type { DescriptorChain } from '../virtio/descriptor-chain.js'
import { VirtqueueError } from '../virtio/virtqueue-error.js'
import { type BlockDeviceOptions, VirtioBlockDevice } from './virtio-block-device.js'
import {
  HEADER_SIZE,
  RANGE_SIZE,
  RANGE_UNMAP,
  SECTOR_SIZE,
  VIRTIO_BLK_S,
  VIRTIO_BLK_T,
} from './virtio-block-numbers.js'

/**
 * Where the data of a {@link VirtioBlock} is. All offsets and lengths are bytes, multiples of 512 and
 * inside `size`. There may be several calls at once, for ranges that the guest keeps apart. What a call
 * rejects with, the guest sees as an I/O error.
 */
export interface BlockBackend {
  /** A multiple of 512. */
  readonly size: number
  /** Gives exactly so many bytes. */
  read(offset: number, length: number): Promise<Uint8Array>
  /** Without it the disk is read-only. */
  write?(offset: number, bytes: Uint8Array): Promise<void>
  /** Brings to the medium what writes that are complete have written. */
  flush?(): Promise<void>
  /** The guest has no use for a range: it may read as anything. */
  discard?(offset: number, length: number): Promise<void>
}

/** Options of {@link VirtioBlock}. */
export interface VirtioBlockOptions extends BlockDeviceOptions {
  /** Hears what the back end rejects with. */
  readonly onError?: (error: unknown) => void
}

/** At most so much of a request is in this process's memory at a time. */
const PIECE = 0x10_0000
const MAX_ZERO_SECTORS = 0x400_0000 / SECTOR_SIZE
const MAX_DISCARD_SECTORS = 0x4000_0000 / SECTOR_SIZE

/** Ends a request with a status other than OK. */
class Refusal extends Error {
  readonly status: number

  constructor(status: number) {
    super(`status ${status}`)
    this.status = status
  }
}

/** A range of the disk in bytes. */
interface Range {
  readonly offset: number
  readonly length: number
}

/** A disk of a {@link BlockBackend}. No more requests are with it than its queues have entries. */
export class VirtioBlock extends VirtioBlockDevice {
  readonly name = 'virtio-blk'
  readonly #backend: BlockBackend
  readonly #onError: (error: unknown) => void

  /** @throws RangeError `ERR_OUT_OF_RANGE` for what no block device can be */
  constructor(backend: BlockBackend, options: VirtioBlockOptions = {}) {
    const readOnly = options.readOnly === true || backend.write === undefined
    super(
      { ...options, queueSize: options.queueSize ?? 64, readOnly },
      {
        flush: backend.flush !== undefined,
        maxDiscardSectors: backend.discard === undefined ? 0 : MAX_DISCARD_SECTORS,
        maxZeroSectors: MAX_ZERO_SECTORS,
      },
    )
    this.#backend = backend
    this.#onError = options.onError ?? (() => {})
    this.refreshSize()
  }

  /** Tells the guest the back end's size, when that has changed. */
  refreshSize(): void {
    this.setSectors(Math.floor(this.#backend.size / SECTOR_SIZE))
  }

  protected override async handle(chain: DescriptorChain): Promise<number> {
    if (chain.writableLength === 0) throw new VirtqueueError('a request without room for a status')
    const header = new DataView(chain.read(0, HEADER_SIZE).buffer)
    const type = header.getUint32(0, true)
    const offset = Number(header.getBigUint64(8, true)) * SECTOR_SIZE
    let status: number = VIRTIO_BLK_S.ok
    let written = 0
    try {
      written = await this.#perform(chain, type, offset)
    } catch (error) {
      status = error instanceof Refusal ? error.status : VIRTIO_BLK_S.ioError
      if (!(error instanceof Refusal)) this.#onError(error)
    }
    const dataLength = chain.writableLength - 1
    chain.write(Uint8Array.of(status), dataLength)
    // What a driver may rely on comes from the start without a gap.
    return status === VIRTIO_BLK_S.ok && written === dataLength ? written + 1 : written
  }

  /** @returns Bytes written to the chain. */
  async #perform(chain: DescriptorChain, type: number, offset: number): Promise<number> {
    switch (type) {
      case VIRTIO_BLK_T.in:
        return this.#read(chain, this.#checked(offset, chain.writableLength - 1))
      case VIRTIO_BLK_T.out:
        await this.#write(chain, this.#checked(offset, chain.readableLength - HEADER_SIZE))
        return 0
      case VIRTIO_BLK_T.flush:
        await this.#backend.flush?.()
        return 0
      case VIRTIO_BLK_T.getId: {
        const id = this.id.subarray(0, chain.writableLength - 1)
        chain.write(id)
        return id.length
      }
      case VIRTIO_BLK_T.discard:
        await this.#discard(chain)
        return 0
      case VIRTIO_BLK_T.writeZeroes:
        await this.#writeZeroes(chain)
        return 0
      default:
        throw new Refusal(VIRTIO_BLK_S.unsupported)
    }
  }

  #checked(offset: number, length: number): Range {
    const isInside = offset <= this.size && length <= this.size - offset
    if (!isInside || length % SECTOR_SIZE !== 0) throw new Refusal(VIRTIO_BLK_S.ioError)
    return { offset, length }
  }

  /** The back end's writes, or a refusal of a disk that has none. */
  get #writer(): (offset: number, bytes: Uint8Array) => Promise<void> {
    const backend = this.#backend
    if (this.readOnly) throw new Refusal(VIRTIO_BLK_S.ioError)
    return (offset, bytes) => backend.write!(offset, bytes)
  }

  async #read(chain: DescriptorChain, { offset, length }: Range): Promise<number> {
    for (let done = 0; done < length; ) {
      const wanted = Math.min(PIECE, length - done)
      const bytes = await this.#backend.read(offset + done, wanted)
      if (bytes.length !== wanted) {
        throw new Error(`the back end gave ${bytes.length} bytes of ${wanted} at ${offset + done}`)
      }
      chain.write(bytes, done)
      done += wanted
    }
    return length
  }

  async #write(chain: DescriptorChain, { offset, length }: Range): Promise<void> {
    const write = this.#writer
    for (let done = 0; done < length && !chain.isStale; done += PIECE) {
      const bytes = chain.read(HEADER_SIZE + done, Math.min(PIECE, length - done))
      await write(offset + done, bytes)
    }
    await this.#writeThrough()
  }

  async #writeThrough(): Promise<void> {
    if (!this.isWriteBack) await this.#backend.flush?.()
  }

  async #discard(chain: DescriptorChain): Promise<void> {
    const { offset, length, flags } = this.#range(chain, MAX_DISCARD_SECTORS)
    if (this.#backend.discard === undefined || flags !== 0) {
      throw new Refusal(VIRTIO_BLK_S.unsupported)
    }
    if (this.readOnly) throw new Refusal(VIRTIO_BLK_S.ioError)
    await this.#backend.discard(offset, length)
  }

  async #writeZeroes(chain: DescriptorChain): Promise<void> {
    const { offset, length, flags } = this.#range(chain, MAX_ZERO_SECTORS)
    if ((flags & ~RANGE_UNMAP) !== 0) throw new Refusal(VIRTIO_BLK_S.unsupported)
    const write = this.#writer
    for (let done = 0; done < length && !chain.isStale; done += PIECE) {
      await write(offset + done, new Uint8Array(Math.min(PIECE, length - done)))
    }
    await this.#writeThrough()
  }

  #range(chain: DescriptorChain, maxSectors: number): Range & { readonly flags: number } {
    if (chain.readableLength !== HEADER_SIZE + RANGE_SIZE) throw new Refusal(VIRTIO_BLK_S.ioError)
    const view = new DataView(chain.read(HEADER_SIZE, RANGE_SIZE).buffer)
    const sectors = view.getUint32(8, true)
    if (sectors > maxSectors) throw new Refusal(VIRTIO_BLK_S.ioError)
    const offset = Number(view.getBigUint64(0, true)) * SECTOR_SIZE
    return { ...this.#checked(offset, sectors * SECTOR_SIZE), flags: view.getUint32(12, true) }
  }
}
