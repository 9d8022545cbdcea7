// For devices that take requests when they have a use for them, instead of serving each as it comes.

import type { DescriptorChain } from './descriptor-chain.js'
import type { Virtqueue } from './virtqueue.js'
import { VirtqueueError } from './virtqueue-error.js'

/** Bytes that a device moves in one turn of the event loop, which others need too. */
export const TURN_BYTES = 0x10_0000

/** What one request takes of {@link TURN_BYTES}: an empty one is work, too. */
export const turnCost = (bytes: number) => bytes + 256

/** The next request; when there is none, the driver is asked to notify of the next that comes. */
export function popOrWait(queue: Virtqueue): DescriptorChain | undefined {
  return queue.pop() ?? (queue.enableNotifications() ? queue.pop() : undefined)
}

/** A driver's fault is the device's failure; what listeners of a stream throw is theirs. */
export function failOrThrow(
  owner: { fail(error: unknown): void } | undefined,
  error: unknown,
): void {
  if (!(error instanceof VirtqueueError) || owner === undefined) throw error
  owner.fail(error)
}
