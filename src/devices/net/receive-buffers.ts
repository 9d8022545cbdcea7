// Where the frames for a guest go: into one buffer of its driver's each, or into several that are merged
// (virtio 1.2 §5.1.6.3 and .4).

import type { DescriptorChain } from '../virtio/descriptor-chain.js'
import type { Virtqueue } from '../virtio/virtqueue.js'
import { VirtqueueError } from '../virtio/virtqueue-error.js'
import { VIRTIO_NET_HEADER_NUM_BUFFERS, VIRTIO_NET_HEADER_SIZE } from './virtio-net-features.js'

/** What became of a frame; `'later'`: nothing yet, as the driver has no buffer for it. */
export type ReceiveOutcome = 'done' | 'later' | 'tooLarge'

/** A receive queue and the buffers that were taken from it and hold nothing yet. */
export class ReceiveBuffers {
  readonly #queue: Virtqueue
  readonly #mergeable: boolean
  #buffers: DescriptorChain[] = []
  #room = 0

  constructor(queue: Virtqueue, mergeable: boolean) {
    this.#queue = queue
    this.#mergeable = mergeable
    queue.disableNotifications()
  }

  /**
   * Gives the driver a frame.
   *
   * @throws VirtqueueError for buffers that are none
   */
  put(frame: Uint8Array): ReceiveOutcome {
    const size = VIRTIO_NET_HEADER_SIZE + frame.length
    while (this.#mergeable ? this.#room < size : this.#buffers.length === 0) {
      if (this.#takeBuffer()) continue
      // When the driver cannot give another like the last, the frame is too large for it.
      return this.#queue.freeSlots < (this.#buffers.at(-1)?.slots ?? 0) ? 'tooLarge' : 'later'
    }
    if (this.#room < size) return 'tooLarge'
    this.#write(frame, size)
    return 'done'
  }

  /** False when there is none, and the driver was asked to tell of the next. */
  #takeBuffer(): boolean {
    const queue = this.#queue
    let chain = queue.pop()
    if (chain === undefined && queue.enableNotifications()) {
      queue.disableNotifications()
      chain = queue.pop()
    }
    if (chain === undefined) return false
    if (chain.writableLength === 0) throw new VirtqueueError('a receive buffer without room')
    this.#buffers.push(chain)
    this.#room += chain.writableLength
    return true
  }

  #write(frame: Uint8Array, size: number): void {
    const bytes = new Uint8Array(size)
    bytes.set(frame, VIRTIO_NET_HEADER_SIZE)
    let count = 0
    for (let room = 0; room < size; count++) room += this.#buffers[count]!.writableLength
    new DataView(bytes.buffer).setUint16(VIRTIO_NET_HEADER_NUM_BUFFERS, count, true)
    const used = this.#buffers.splice(0, count)
    let at = 0
    const written = used.map((chain) => {
      const part = bytes.subarray(at, at + chain.writableLength)
      chain.write(part)
      at += part.length
      this.#room -= chain.writableLength
      return part.length
    })
    // The driver counts on finding all buffers of a frame at once.
    this.#queue.pushAll(used, written)
  }
}
