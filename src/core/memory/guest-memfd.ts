// guest_memfd: memory that is the guest's own and that this process cannot reach, or only as far as
// it is shared.

import { type Binding, type Handle, KIND_REGION } from '../../binding.js'
import { GUEST_MEMFD_FLAG_MMAP } from '../../uapi/index.js'
import { closedError, kvmError } from '../errors.js'
import { GuestMemory } from '../memory.js'
import { integer, invalidArgType } from '../validate.js'

/**
 * Memory of one VM that is not part of this process's address space unless it was created with
 * `GUEST_MEMFD_FLAG_MMAP`. Slots refer to it, see {@link Vm.setUserMemoryRegion2}.
 *
 * It lives until it is closed and no slot of a VM uses it. Closing it does not break a slot: the
 * descriptor stays open until the slot is gone, because KVM would unbind it otherwise. It is closed
 * when the process executes another program.
 */
export class GuestMemfd implements Disposable {
  /** Bytes. */
  readonly size: number
  /** The `GUEST_MEMFD_FLAG_*` it was created with. */
  readonly flags: number
  readonly #native: Binding
  readonly #handle: Handle
  #closed = false

  /** @internal */
  constructor(native: Binding, handle: Handle, size: number, flags: number) {
    this.#native = native
    this.#handle = handle
    this.size = size
    this.flags = flags
  }

  /** @internal The native memory of an argument, if it is one and no look-alike. */
  static handleOf(value: unknown, name: string): Handle {
    if (value === null || typeof value !== 'object' || !(#handle in value)) {
      throw invalidArgType(name, 'an instance of GuestMemfd', value)
    }
    if (value.#closed) throw closedError({ reason: 'guest_memfd' })
    return value.#handle
  }

  /** Whether {@link close} was called. */
  get closed(): boolean {
    return this.#closed
  }

  /**
   * The memory as this process sees it, for accesses and as the `memory` of slots; undefined when it
   * was created without `GUEST_MEMFD_FLAG_MMAP`. Close what you get.
   *
   * Only shared pages can be touched. One that is the guest's own is found to be zeros here, is
   * private to this process from then on and counted ({@link GuestMemory.lostPages}): create it with
   * `GUEST_MEMFD_FLAG_INIT_SHARED` too.
   *
   * @param gpa Where the accessors of the result shall find its first byte.
   */
  openMemory(gpa = 0): GuestMemory | undefined {
    integer(gpa, 'gpa', 0, 2 ** 52)
    const handle = this.#open
    if (this.flags % (2 * GUEST_MEMFD_FLAG_MMAP) < GUEST_MEMFD_FLAG_MMAP) return undefined
    const another = this.#native.findObject(this.#native.objectId(handle), KIND_REGION)
    if (another === null) throw closedError({ reason: 'guest_memfd' })
    const range = { gpa, size: this.size }
    return GuestMemory.fromGuestMemfds(this.#native, [range], () => another)
  }

  /**
   * Gives pages back to the host, which read as zeros afterwards. Both arguments are multiples of
   * 4096.
   *
   * @throws KvmError what fallocate(2) refuses.
   */
  punchHole(offset: number, length: number): void {
    integer(offset, 'offset', 0, this.size)
    integer(length, 'length', 1, this.size - offset)
    const result = this.#native.punchHole(this.#open, offset, length)
    if (result < 0) throw kvmError(result, { syscall: 'fallocate', size: length })
  }

  /** Gives up this object's hold on the memory. Idempotent. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#native.close(this.#handle)
  }

  /** Closes it at the end of a `using` scope. */
  [Symbol.dispose](): void {
    this.close()
  }

  get #open(): Handle {
    if (this.#closed) throw closedError({ reason: 'guest_memfd' })
    return this.#handle
  }
}
