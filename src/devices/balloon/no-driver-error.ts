// A question to a driver that is not there, or not any more.

/**
 * The guest's driver cannot answer: there is none, it does not know the question, or it was reset before the
 * answer. `code` is `ERR_KVM_NO_DRIVER`.
 */
export class NoDriverError extends Error {
  override readonly name = 'NoDriverError'
  readonly code = 'ERR_KVM_NO_DRIVER'
}
