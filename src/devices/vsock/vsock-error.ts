// How a socket between guest and host fails: with the codes that Node's sockets have.

const REASONS = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset by the guest',
  EPIPE: 'the guest reads no more',
  ETIMEDOUT: 'connection timed out',
  EADDRINUSE: 'address already in use',
  EMSGSIZE: 'message too long',
} as const

/** A socket to the guest, or a server for it, failed. */
export class VsockError extends Error {
  override readonly name = 'VsockError'
  readonly code: keyof typeof REASONS
  /** `connect`, `read`, `write` or `listen`. */
  readonly syscall: string
  /** The port it is about, of the guest or of the server. */
  readonly port: number

  /** @internal */
  constructor(code: keyof typeof REASONS, syscall: string, port: number) {
    super(`${code}: ${REASONS[code]}, ${syscall} vsock port ${port}`)
    this.code = code
    this.syscall = syscall
    this.port = port
  }
}
