// Files that are not KVM's own but that its requests refer to.

import { type Binding, binding, type Handle, type PlainFileHandle } from '../binding.js'
import { kvmError } from './errors.js'
import { filePath, invalidArgType } from './validate.js'

/** Base of the objects that own another file descriptor than one of KVM's. */
export class PlainFile implements Disposable {
  readonly #native: Binding
  readonly #handle: PlainFileHandle
  #closed = false

  /** @internal */
  protected constructor(native: Binding, handle: PlainFileHandle) {
    this.#native = native
    this.#handle = handle
  }

  /**
   * Opens a special file that a KVM request refers to: `/dev/sev`, a VFIO group, an SGX attribute.
   *
   * @throws KvmError what open(2) refuses (`ENOENT`, `EACCES`, …).
   */
  static open(path: string, options: { writable?: boolean } = {}): PlainFile {
    const native = binding()
    const handle = native.openFile(filePath(path, 'path'), options?.writable ? 1 : 0)
    if (typeof handle === 'number') throw kvmError(handle, { syscall: 'open', path })
    return new PlainFile(native, handle)
  }

  /** @internal The native file of an argument, if it is one and no look-alike. */
  static handleOf(value: unknown, name: string): Handle {
    if (value !== null && typeof value === 'object' && #handle in value) return value.#handle
    throw invalidArgType(name, 'an instance of PlainFile', value)
  }

  /** Whether {@link close} was called on this object. */
  get closed(): boolean {
    return this.#closed
  }

  /** Closes the file descriptor. Idempotent; later calls throw `ERR_KVM_CLOSED`. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#native.close(this.#handle)
  }

  /** Closes it at the end of a `using` scope. */
  [Symbol.dispose](): void {
    this.close()
  }

  /** @internal */
  protected get native(): Binding {
    return this.#native
  }

  /** @internal */
  protected get handle(): PlainFileHandle {
    return this.#handle
  }
}
