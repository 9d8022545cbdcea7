// One error class for everything KVM refuses, shaped like Node's own system errors.

import { getSystemErrorMap } from 'node:util'
import {
  RESULT_BUFFER_TOO_SMALL,
  RESULT_BUSY,
  RESULT_CLOSED,
  RESULT_UNKNOWN_REQUEST,
  RESULT_WOULD_DEADLOCK,
} from '../binding.js'

/** What a {@link KvmError} can tell about the call that failed, each present where it matters. */
export interface KvmErrorDetails {
  /** The ioctl, by its kernel name. */
  ioctl?: string
  /** The system call, when it was not an ioctl. */
  syscall?: string
  /** The file that was opened. */
  path?: string
  slot?: number
  gpa?: number
  size?: number
  /** The MSR that was refused. */
  msr?: number
  /** The CPUID leaf that was refused. */
  leaf?: number
  vcpuId?: number
  /** The capability that is missing, by its kernel name. */
  capability?: string
  /** What went wrong in words, and what to do. */
  reason?: string
  /** The same for each `code` that it can end in. */
  reasons?: Readonly<Record<string, string>>
  cause?: unknown
}

/**
 * Thrown for what the kernel or the state of an object refuses. `code` is the kernel's (`EINVAL`, …)
 * or one of ours:
 *
 * - `ERR_KVM_UNAVAILABLE`: there is no usable `/dev/kvm`; the message says why and what to do.
 * - `ERR_KVM_CLOSED`: the object, or one that it needs, was closed.
 * - `ERR_KVM_BUSY`: another thread is using the vCPU.
 * - `ERR_KVM_CAP_MISSING`: this kernel lacks the capability that `capability` names.
 * - `ERR_KVM_GUEST_CRASH`: a machine's guest cannot go on (triple fault, emulation failure).
 * - `ERR_KVM_UNHANDLED_EXIT`: a vCPU's thread has an exit that no handler is registered for.
 * - `ERR_KVM_RANGE_TAKEN`: a range of ports or addresses overlaps one that has a handler.
 * - `ERR_KVM_IO_PENDING`: the guest is in the middle of an access, so its state cannot be saved.
 * - `ERR_KVM_GUEST_FAULT`: an address is not guest RAM, or the guest's memory cannot be reached.
 * - `ERR_KVM_DEVICE_STUCK`: a virtio device has not let go in time when its machine was closed.
 * - `ERR_KVM_WOULD_DEADLOCK`: the call could wait for a page that only this thread can bring.
 * - `ERR_KVM_PAGE_LOST`: a page could not be brought, see {@link Userfault}.
 *
 * Wrong arguments throw Node's `ERR_INVALID_ARG_TYPE` and `ERR_OUT_OF_RANGE` instead.
 */
export class KvmError extends Error {
  override readonly name = 'KvmError'
  readonly code: string
  /** The kernel's number (positive), when the kernel refused. */
  readonly errno: number | undefined
  readonly syscall: string | undefined
  readonly ioctl: string | undefined
  readonly path: string | undefined
  readonly slot: number | undefined
  readonly gpa: number | undefined
  readonly size: number | undefined
  readonly msr: number | undefined
  readonly leaf: number | undefined
  readonly vcpuId: number | undefined
  readonly capability: string | undefined
  /** The last part of the message: what went wrong in words, and what to do. */
  readonly reason: string | undefined

  constructor(
    code: string,
    errno: number | undefined,
    text: string,
    details: KvmErrorDetails = {},
  ) {
    const call = details.ioctl ? `ioctl ${details.ioctl}` : details.syscall
    const facts = describe(details)
    const where = call && facts ? `${call} (${facts})` : (call ?? facts)
    const message = [where ? `${code}: ${text}, ${where}` : `${code}: ${text}`]
    const reason = details.reason ?? details.reasons?.[code]
    if (reason) message.push(reason)
    super(message.join(': '), details.cause === undefined ? {} : { cause: details.cause })
    this.code = code
    this.errno = errno
    this.syscall = details.syscall ?? (details.ioctl ? 'ioctl' : undefined)
    this.ioctl = details.ioctl
    this.path = details.path
    this.slot = details.slot
    this.gpa = details.gpa
    this.size = details.size
    this.msr = details.msr
    this.leaf = details.leaf
    this.vcpuId = details.vcpuId
    this.capability = details.capability
    this.reason = details.reason
  }
}

const hex = (value: number) => `0x${value.toString(16)}`

function describe(details: KvmErrorDetails): string {
  const facts: string[] = []
  if (details.path !== undefined) facts.push(details.path)
  if (details.slot !== undefined) facts.push(`slot ${details.slot}`)
  if (details.gpa !== undefined) facts.push(`gpa ${hex(details.gpa)}`)
  if (details.size !== undefined) facts.push(`size ${hex(details.size)}`)
  if (details.msr !== undefined) facts.push(`MSR ${hex(details.msr)}`)
  if (details.leaf !== undefined) facts.push(`CPUID leaf ${hex(details.leaf)}`)
  if (details.vcpuId !== undefined) facts.push(`vCPU ${details.vcpuId}`)
  if (details.capability !== undefined) facts.push(details.capability)
  return facts.join(', ')
}

/** The error for a native result below zero. */
export function kvmError(result: number, details: KvmErrorDetails): KvmError {
  switch (result) {
    case RESULT_CLOSED:
      return closedError(details)
    case RESULT_BUSY:
      return new KvmError('ERR_KVM_BUSY', undefined, 'the vCPU is in use by another thread', {
        reason: 'stop or pause it first',
        ...details,
      })
    case RESULT_WOULD_DEADLOCK:
      return new KvmError(
        'ERR_KVM_WOULD_DEADLOCK',
        undefined,
        'it could wait for a page that JavaScript is to bring, which would have to wait for it',
        { reason: 'pause the vCPUs, or run them on threads of their own', ...details },
      )
    case RESULT_UNKNOWN_REQUEST:
      return new KvmError('ENOTTY', 25, 'not a request of this file', details)
    case RESULT_BUFFER_TOO_SMALL:
      return new KvmError('EFAULT', 14, 'the buffer is shorter than what it says it holds', details)
  }
  const [code, text] = getSystemErrorMap().get(result) ?? [`E${-result}`, 'unknown error']
  return new KvmError(code, -result, text, details)
}

/** Throws for a native result below zero, else gives it back. */
export function check(result: number, ioctl: string, details?: KvmErrorDetails): number {
  if (result < 0) throw kvmError(result, { ioctl, ...details })
  return result
}

export function closedError(details: KvmErrorDetails = {}): KvmError {
  return new KvmError('ERR_KVM_CLOSED', undefined, 'the object is closed', details)
}

export function capabilityMissing(capability: string, details: KvmErrorDetails = {}): KvmError {
  return new KvmError('ERR_KVM_CAP_MISSING', undefined, 'this kernel lacks the capability', {
    capability,
    ...details,
  })
}

/** Cancellation, as Node's own APIs report it. */
export class AbortError extends Error {
  override readonly name = 'AbortError'
  readonly code = 'ABORT_ERR'
  constructor(signal: AbortSignal) {
    super('The operation was aborted', { cause: signal.reason })
  }
}
