// What a driver did that no driver may do.

/**
 * The driver broke the rules of a queue or of its device: a loop, an address that is not RAM, an index
 * that cannot be. The device needs a reset; the machine and its other devices go on. `code` is
 * `ERR_KVM_VIRTQUEUE`.
 */
export class VirtqueueError extends Error {
  override readonly name = 'VirtqueueError'
  readonly code = 'ERR_KVM_VIRTQUEUE'
}
