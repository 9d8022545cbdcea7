// userfaultfd(2) on guest RAM: pages that come when they are first touched, from a file or from
// JavaScript, and pages whose first write is told. A native thread answers what needs no JavaScript.

import { setImmediate } from 'node:timers/promises'
import { types } from 'node:util'
import { type Binding, binding, type Handle } from '../../binding.js'
import { closedError, KvmError, kvmError } from '../errors.js'
import { EventWatch } from '../interrupts/event-watch.js'
import { GuestMemory } from '../memory.js'
import { integer, outOfRange } from '../validate.js'
import { servedHere } from './served-pages.js'
import {
  type CheckedUserfault,
  checkedUserfault,
  type UserfaultOptions,
} from './userfault-options.js'

const PAGE = 4096
const EAGAIN = -11
const EEXIST = -17
const ENOENT = -2
/** Bytes taken from a file before the event loop gets its turn. */
const FETCH = 0x10_0000
const EVENTS_PER_TURN = 256
const PARALLEL = 16

/** Events of native/userfault.h. */
const EVENT = { missing: 0, minor: 1, written: 2, noSource: 3, own: 4 } as const

/** What this kernel's userfaultfd can do, by kinds of memory. */
export interface UserfaultSupport {
  readonly missing: boolean
  readonly missingShared: boolean
  readonly minorShared: boolean
  readonly write: boolean
  readonly writeShared: boolean
  /** Whether pages that were never touched can be protected as well (Linux 6.4). */
  readonly writeUntouched: boolean
}

/** What a {@link Userfault} has done. */
export interface UserfaultStatistics {
  /** Faults that the kernel reported. */
  readonly faults: number
  /** Pages that came from the file. */
  readonly fromFile: number
  /** Pages that were made zeros, whether so wanted or lost. */
  readonly zeroed: number
  /** Pages that JavaScript was asked for and has not brought. */
  readonly waiting: number
}

/** The part of the range that lies in one region. */
interface Part {
  readonly handle: Handle
  /** Guest-physical address of the region's first byte. */
  readonly base: number
  readonly gpa: number
  readonly length: number
  readonly page: number
}

/**
 * Watches a range of guest RAM. Whoever touches a page that is missing there (a vCPU, a device, this
 * process) waits until it is brought.
 *
 * **Who may wait.** Pages from a file are brought by a native thread, for everybody. Pages from a
 * handler need this JavaScript thread, which so must never wait for one. Therefore, as long as a
 * handler is in place, on this thread: accessors and {@link GuestMemory.view} throw
 * `ERR_KVM_WOULD_DEADLOCK` for a page that is not there ({@link prefetch} it first), and so do
 * {@link Vcpu.run} (use {@link Vcpu.start}, or a Worker) and requests that touch guest memory. On all
 * threads, changes of slots, filters and event sources of the VM do while one of its vCPUs is in use:
 * pause them. What is touched here in spite of that, through a view from before or by another part of
 * the kernel, is made zeros and reported (`ERR_KVM_PAGE_LOST`).
 *
 * A page that is there already is not missing: where the host makes huge pages of all anonymous memory,
 * one touch brings 2 MiB of zeros. Give such RAM `thp: 'never'`, or watch it before it is touched.
 *
 * Pages given up by {@link GuestMemory.discard} are zeros afterwards and never come back.
 */
export class Userfault implements Disposable {
  readonly #native: Binding
  readonly #parts: Part[] = []
  readonly #checked: CheckedUserfault
  readonly #bell: Handle
  readonly #bringing = new Map<number, Promise<void>>()
  #watch: EventWatch | undefined
  #closed = false

  private constructor(native: Binding, checked: CheckedUserfault) {
    this.#native = native
    this.#checked = checked
    const bell = native.createEventFd(0, 0)
    if (typeof bell === 'number') throw kvmError(bell, { syscall: 'eventfd2' })
    this.#bell = bell
  }

  /**
   * Begins to watch. memfd and anonymous memory, huge pages, and files of a tmpfs can be watched,
   * once at a time.
   *
   * @throws KvmError `EPERM` without the right to (CAP_SYS_PTRACE, or access to
   *   `/dev/userfaultfd`); `EINVAL` for memory of another kind or a mode this kernel lacks there;
   *   `EBUSY` when a part of it is watched already; what opening the file gives.
   */
  static create(memory: GuestMemory, options: UserfaultOptions): Userfault {
    const checked = checkedUserfault(options)
    const { regions } = GuestMemory.check(memory, 'memory')
    const last = regions.at(-1)!
    const gpa = integer(options.gpa ?? regions[0]!.gpa, 'options.gpa')
    const length = integer(options.length ?? last.gpa + last.size - gpa, 'options.length', 1)
    if (gpa % PAGE) throw outOfRange('options.gpa', `a multiple of ${PAGE}`, gpa)
    if (length % PAGE) throw outOfRange('options.length', `a multiple of ${PAGE}`, length)
    const userfault = new Userfault(binding(), checked)
    try {
      userfault.#add(regions, gpa, length)
      userfault.#listen()
    } catch (error) {
      userfault.close()
      throw error
    }
    return userfault
  }

  /**
   * What this kernel offers; undefined when this process may not use any of it.
   */
  static support(): UserfaultSupport | undefined {
    const features = binding().userfaultFeatures()
    if (features < 0) return undefined
    const has = (bit: number) => ((features >>> bit) & 1) === 1
    return {
      missing: true,
      missingShared: has(5),
      minorShared: has(10),
      write: has(0),
      writeShared: has(12),
      writeUntouched: has(13),
    }
  }

  #add(regions: GuestMemory['regions'], gpa: number, length: number): void {
    const { modes, file, offset } = this.#checked
    if (this.#asks) servedHere.count++
    let at = gpa
    for (const region of regions) {
      const end = Math.min(gpa + length, region.gpa + region.size)
      if (at < region.gpa || at >= end) continue
      const handle = this.#native.createUserfault(
        region.handle,
        at - region.gpa,
        end - at,
        modes,
        file,
        offset + at - gpa,
        this.#bell,
      )
      if (typeof handle === 'number') throw creationError(handle, at, end - at, file)
      const page = this.#native.userfaultPageSize(handle)
      this.#parts.push({ handle, base: region.gpa, gpa: at, length: end - at, page })
      at = end
    }
    if (at === gpa + length) return
    throw new KvmError('ERR_KVM_GUEST_FAULT', undefined, 'not guest RAM', { gpa: at })
  }

  #listen(): void {
    this.#watch = new EventWatch(this.#native, this.#bell, false, () => this.#drain())
  }

  /** Whether any page needs this thread's JavaScript. */
  get #asks(): boolean {
    return this.#checked.missing !== undefined || this.#checked.minor !== undefined
  }

  /** Whether {@link close} was called. */
  get closed(): boolean {
    return this.#closed
  }

  /** Counts so far; all 0 once it is closed. */
  get statistics(): UserfaultStatistics {
    const sums = [0, 0, 0, 0]
    for (const { handle } of this.#closed ? [] : this.#parts) {
      this.#native.userfaultCounts(handle).forEach((count, i) => {
        sums[i]! += count
      })
    }
    const [faults, fromFile, zeroed, waiting] = sums as [number, number, number, number]
    return { faults, fromFile, zeroed, waiting }
  }

  /**
   * Brings what is missing of a range, or of all, without anybody waiting for it. The event loop
   * turns meanwhile. After it, and a {@link close}, memory is ordinary and complete.
   *
   * @throws KvmError `EIO` when the file ends early; `ERR_KVM_CLOSED` when it is closed meanwhile.
   */
  async prefetch(gpa?: number, length?: number): Promise<void> {
    for (const { part, from, to } of this.#partsOf(gpa, length)) {
      if (this.#checked.file !== '') await this.#fetch(part, from, to)
      if (this.#asks) await this.#bringRange(part, from, to)
    }
  }

  /**
   * Write-protects pages: the `write` handler is told of the first write to each of them. Nobody
   * waits for it: what the page was is kept, and the write goes on.
   *
   * @throws KvmError what the kernel refuses.
   */
  protect(gpa?: number, length?: number): void {
    this.#setProtection(gpa, length, 1)
  }

  /** Ends {@link protect} for pages that were not written. */
  unprotect(gpa?: number, length?: number): void {
    this.#setProtection(gpa, length, 0)
  }

  /**
   * Ends the watch. Nobody waits any longer: what is still missing then reads as ordinary memory
   * does, as zeros, so {@link prefetch} first what is not to be lost. Idempotent.
   */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    for (const { handle } of this.#parts) this.#native.closeUserfault(handle)
    if (this.#asks) servedHere.count--
    this.#watch?.stop()
    this.#native.close(this.#bell)
  }

  /** Closes it at the end of a `using` scope. */
  [Symbol.dispose](): void {
    this.close()
  }

  #setProtection(gpa: number | undefined, length: number | undefined, on: 0 | 1): void {
    for (const { part, from, to } of this.#partsOf(gpa, length)) {
      const result = this.#native.userfaultProtect(part.handle, from - part.base, to - from, on)
      const where = { gpa: from, size: to - from }
      const reasons = { ENOENT: 'only with a write handler' }
      if (result < 0) throw kvmError(result, { ioctl: 'UFFDIO_WRITEPROTECT', ...where, reasons })
    }
  }

  /** A range in its parts, in whole pages of each; all of it unless said. */
  #partsOf(gpa?: number, length?: number): { part: Part; from: number; to: number }[] {
    if (this.#closed) throw closedError({ reason: 'userfault' })
    const first = this.#parts[0]!
    const last = this.#parts.at(-1)!
    const start = integer(gpa ?? first.gpa, 'gpa')
    const end = start + integer(length ?? last.gpa + last.length - start, 'length')
    if (start < first.gpa || end > last.gpa + last.length) {
      throw outOfRange('gpa', 'in the range that is watched', start)
    }
    return this.#parts.flatMap((part) => {
      const from = Math.max(part.gpa, Math.floor(start / part.page) * part.page)
      const to = Math.min(part.gpa + part.length, Math.ceil(end / part.page) * part.page)
      return from < to ? [{ part, from, to }] : []
    })
  }

  async #fetch(part: Part, from: number, to: number): Promise<void> {
    const step = Math.max(FETCH, part.page)
    for (let at = from; at < to; at += step) {
      if (this.#closed) throw closedError({ reason: 'userfault' })
      const length = Math.min(step, to - at)
      const result = this.#native.userfaultFetch(part.handle, at - part.base, length)
      if (result < 0) throw kvmError(result, { ioctl: 'UFFDIO_COPY', gpa: at, size: length })
      await setImmediate()
    }
  }

  async #bringRange(part: Part, from: number, to: number): Promise<void> {
    let pending: Promise<void>[] = []
    for (let gpa = from; gpa < to; gpa += part.page) {
      if (this.#closed) throw closedError({ reason: 'userfault' })
      const claim = this.#native.userfaultClaim(part.handle, gpa - part.base)
      if (claim === EEXIST) continue
      if (claim < 0) throw kvmError(claim, { gpa })
      pending.push(this.#bring(part, gpa, claim === EVENT.minor))
      if (pending.length < PARALLEL) continue
      await Promise.all(pending)
      pending = []
    }
    await Promise.all(pending)
  }

  #drain(): void {
    let left = EVENTS_PER_TURN
    for (const part of this.#parts) {
      while (left-- > 0 && this.#takeOne(part)) {}
    }
    if (left < 0 && !this.#closed) setImmediate().then(() => this.#drain())
  }

  #takeOne(part: Part): boolean {
    if (this.#closed) return false
    const page = new Uint8Array(this.#checked.write === undefined ? 0 : part.page)
    const word = this.#native.userfaultTake(part.handle, page)
    if (word === EAGAIN) return false
    const event = word % PAGE
    const gpa = part.base + word - event
    switch (event) {
      case EVENT.missing:
      case EVENT.minor:
        this.#bring(part, gpa, event === EVENT.minor)
        break
      case EVENT.written:
        this.#checked.write?.(gpa, page)
        break
      case EVENT.noSource:
        this.#lost(gpa, 'the file did not give it')
        break
      case EVENT.own:
        this.#lost(gpa, 'it was touched on the thread whose handler was to bring it')
        break
    }
    return true
  }

  /** Each page is asked for once, whoever wants it. */
  #bring(part: Part, gpa: number, minor: boolean): Promise<void> {
    const under = this.#bringing.get(gpa)
    if (under !== undefined) return under
    const promise = this.#ask(part, gpa, minor).finally(() => this.#bringing.delete(gpa))
    this.#bringing.set(gpa, promise)
    return promise
  }

  async #ask(part: Part, gpa: number, minor: boolean): Promise<void> {
    const { missing, minor: onMinor } = this.#checked
    let page: Uint8Array | null = null
    try {
      page = checkedPage(await (minor ? onMinor : missing)?.(gpa), part.page, minor)
    } catch (cause) {
      this.#lost(gpa, 'its handler failed', cause)
    }
    if (this.#closed) return
    const result = this.#native.userfaultBring(part.handle, gpa - part.base, page)
    if (result < 0 && result !== ENOENT) {
      const cause = kvmError(result, { ioctl: minor ? 'UFFDIO_CONTINUE' : 'UFFDIO_COPY', gpa })
      this.#lost(gpa, 'the kernel did not take it', cause)
    }
  }

  #lost(gpa: number, reason: string, cause?: unknown): void {
    const details = { gpa, reason, ...(cause === undefined ? {} : { cause }) }
    const error = new KvmError(
      'ERR_KVM_PAGE_LOST',
      undefined,
      'a page could not be brought',
      details,
    )
    const { onError } = this.#checked
    queueMicrotask(() => {
      if (onError === undefined) throw error
      onError(error)
    })
  }
}

function checkedPage(answer: unknown, size: number, minor: boolean): Uint8Array | null {
  if (answer === (minor ? 'keep' : 'zero')) return null
  if (types.isUint8Array(answer) && answer.length === size) return answer
  const word = minor ? 'keep' : 'zero'
  throw new TypeError(`a handler gives a Uint8Array of ${size} bytes, or '${word}'`)
}

function creationError(result: number, gpa: number, size: number, path: string): KvmError {
  const reasons = {
    EPERM: 'needs CAP_SYS_PTRACE, /dev/userfaultfd, or vm.unprivileged_userfaultfd = 1',
    EINVAL:
      'only memfd, anonymous memory, huge pages and files of a tmpfs, in whole pages; not every kernel has every mode for each',
    EBUSY: 'a part of it is watched already',
    EOVERFLOW: 'the file ends before the range does',
  }
  const where = { gpa, size, syscall: 'userfaultfd', reasons }
  return kvmError(result, path === '' ? where : { ...where, path })
}
