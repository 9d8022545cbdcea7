// What all kernel files have in common: closing, and ioctls by number.

import type { Binding, BoundHandle, FileHandle } from '../binding.js'
import type { StructView } from '../uapi/index.js'
import { withDraft } from './draft.js'
import { check, type KvmErrorDetails } from './errors.js'
import { integer, invalidArgType, uint32 } from './validate.js'

/** Base of the objects that own a KVM file descriptor. */
export abstract class KvmFile implements Disposable {
  /** @internal */
  protected readonly native: Binding
  /** @internal */
  protected readonly handle: FileHandle
  #closed = false

  /** @internal */
  protected constructor(native: Binding, handle: FileHandle) {
    this.native = native
    this.handle = handle
  }

  /** @internal Its number in the process, see shared.ts. */
  protected static idOf(file: KvmFile): number {
    return file.native.objectId(file.handle)
  }

  /** Whether {@link close} was called on this object. */
  get closed(): boolean {
    return this.#closed
  }

  /**
   * Closes the file descriptor. Idempotent, legal in any state; later calls throw `ERR_KVM_CLOSED`.
   * What other objects still use stays alive for them.
   */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.native.close(this.handle)
  }

  /** Closes it at the end of a `using` scope. */
  [Symbol.dispose](): void {
    this.close()
  }

  /**
   * Any ioctl on this file, for kernels newer than this library. The buffer is handed to the kernel
   * as it is: one too short for the request, or an address in it, can corrupt or crash the process.
   *
   * @param argument The bytes of a struct (read and written in place) or the plain value.
   * @returns What the ioctl returned, when not negative.
   */
  unsafeIoctl(request: number, argument: number | ArrayBuffer = 0): number {
    uint32(request, 'request')
    if (typeof argument === 'number') {
      integer(argument, 'argument', Number.MIN_SAFE_INTEGER)
    } else if (!(argument instanceof ArrayBuffer)) {
      throw invalidArgType('argument', 'a number or an ArrayBuffer', argument)
    }
    const result = this.native.unsafeIoctl(this.handle, request, argument)
    return check(result, `0x${request.toString(16)}`)
  }

  /** @internal Issues a request of the table; a struct is in the scratch memory or in `argument`. */
  protected request(
    request: number,
    name: string,
    argument?: number | ArrayBuffer,
    details?: KvmErrorDetails,
  ): number {
    const result = this.ioctl(request, argument)
    return result < 0 ? check(result, name, details) : result
  }

  /** @internal The same, but for the error; vCPUs have their own way. */
  protected ioctl(request: number, argument?: number | ArrayBuffer): number {
    return (this.handle as BoundHandle).ioctl(request, argument)
  }

  /** @internal Issues a request whose struct `encode` makes from objects of the user's. */
  protected send(
    request: number,
    name: string,
    encode: (draft: StructView) => void,
    details?: KvmErrorDetails,
  ): number {
    return withDraft((draft) => {
      encode(draft)
      return this.request(request, name, draft.buffer as ArrayBuffer, details)
    })
  }
}
