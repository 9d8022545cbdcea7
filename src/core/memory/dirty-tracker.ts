// Which pages guests wrote, whichever of KVM's three ways notices it: a bitmap that is cleared as it
// is read, one that is cleared by hand, or rings of the vCPUs.

import { binding, RESULT_BUFFER_TOO_SMALL } from '../../binding.js'
import {
  KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
  KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE,
  KVM_MEM_GUEST_MEMFD,
  KVM_MEM_LOG_DIRTY_PAGES,
  KVM_MEM_READONLY,
} from '../../uapi/index.js'
import { closedError, KvmError, kvmError } from '../errors.js'
import type { Registration } from '../exits/exit-handlers.js'
import type { MemoryRange } from '../memory.js'
import { callback, integer, invalidArgType, list, object, outOfRange, uint32 } from '../validate.js'
import { Vcpu } from '../vcpu.js'
import { DIRTY_LOG_REASONS } from '../vm/vm-dirty.js'
import { type DirtyRings, dirtyRingsOf } from '../vm/vm-file.js'
import type { Vm } from '../vm.js'
import { bitmapOf, type EachRange, RangeTaker, setFirst } from './dirty-bits.js'
import { DirtyRing } from './dirty-ring.js'
import type { MemorySlot } from './memory-slots.js'

const PAGE = 4096
/** Of `takeDirtyRanges`. */
const READ = 1
const KEEP = 2
const NO_ENTRY = -2
const METHODS = ['log', 'manual', 'ring'] as const

/**
 * How writes are noticed. `log`: bitmaps; reading one clears it and protects the pages written anew,
 * all at once. `manual`: bitmaps that are cleared in parts. `ring`: a ring of each vCPU.
 */
export type DirtyMethod = (typeof METHODS)[number]

/** How {@link DirtyTracker.start} starts. */
export interface DirtyTrackerOptions {
  /** Default: `ring` where the VM has rings, else `manual` where the kernel can, else `log`. */
  method?: DirtyMethod
  /** The slots to track. Default: all that can be written and are no guest_memfd. */
  slots?: readonly number[]
  /** All vCPUs of the VM, for `ring`. */
  vcpus?: readonly Vcpu[]
  /** `manual`: pages that are cleared at a time, a multiple of 64. Default 262144 (1 GiB). */
  pagesAtOnce?: number
}

/** What {@link DirtyTracker.collect} found. */
export interface DirtyCollection {
  /** How many pages of 4096 bytes. */
  readonly pages: number
  /**
   * Whether a software KVM overran a ring, or a vCPU was closed with entries in its ring, so that the
   * pages written are not known: all pages of all tracked slots were handed out instead.
   */
  readonly lost: boolean
}

/** What the native side is given of rings and slots; made anew when one comes or goes. */
interface Lists {
  readonly words: readonly (Int32Array | Uint32Array)[]
  readonly slots: Uint32Array
  readonly bitmaps: readonly Int32Array[]
}

interface Tracked {
  readonly slot: number
  /** Whether it was logged before. */
  readonly logged: boolean
  /** Dirty pages that were not handed out yet. */
  words: Int32Array
  /** Whether there may be any in `words`. */
  pending: boolean
}

/**
 * Tracks which pages of a VM's RAM are written by its guest. Each {@link collect} hands out the pages
 * written since the one before, after their protection is renewed: what is read of them then misses
 * no write that a later collection does not report.
 *
 * Writes of this process are not tracked. While vCPUs run, a page that is being written may turn up
 * in this collection or the next; a set that is exact needs them paused. Some processors (PML) hold
 * entries of a ring back until the vCPU exits.
 *
 * Collect before a tracked slot is deleted: what KVM knew of it is lost. One that is added later is
 * tracked after {@link track}.
 */
export class DirtyTracker implements Disposable {
  /** How writes are noticed. */
  readonly method: DirtyMethod
  readonly #vm: Vm
  readonly #vmRings: DirtyRings
  /** Pages; 0 where reading the log clears it. */
  readonly #clearAtOnce: number
  readonly #tracked = new Map<number, Tracked>()
  #rings: readonly DirtyRing[] = []
  #lists: Lists | undefined
  readonly #registration: Registration | undefined
  readonly #taker = new RangeTaker()
  /** What the native side says of a slot: see `takeDirtyRanges`. */
  readonly #known = new Float64Array(new ArrayBuffer(24))
  #overflows = 0
  /** Whether a ring went with its vCPU. */
  #lost = false
  #collecting = false
  #stopped = false

  private constructor(vm: Vm, method: DirtyMethod, pagesAtOnce: number) {
    this.#vm = vm
    this.method = method
    this.#vmRings = dirtyRingsOf(vm)
    this.#clearAtOnce = method === 'manual' ? pagesAtOnce : 0
    if (method !== 'ring') return
    this.#registration = vm.onExit('dirtyRingFull', (_, vcpu) => this.makeRoom(vcpu))
  }

  /**
   * Starts tracking; from its return on, every write is noticed.
   *
   * For `ring`, enable `KVM_CAP_DIRTY_LOG_RING` before the VM's first vCPU. vCPUs on threads that this
   * thread started have their full rings emptied by themselves; who calls {@link Vcpu.run} calls
   * {@link makeRoom} at a `'dirtyRingFull'` exit.
   *
   * @throws KvmError `EINVAL` for a method that the VM was not set up for, or a slot that there is
   *   none of.
   */
  static start(vm: Vm, options: DirtyTrackerOptions = {}): DirtyTracker {
    const { size } = dirtyRingsOf(vm)
    const { method = defaultMethod(vm, size), pagesAtOnce = 0x4_0000 } = object(options, 'options')
    if (!METHODS.includes(method)) {
      throw invalidArgType('options.method', `one of ${METHODS.join(', ')}`, method)
    }
    if (integer(pagesAtOnce, 'options.pagesAtOnce', 64, 2 ** 31 - 64) % 64) {
      throw outOfRange('options.pagesAtOnce', 'a multiple of 64', pagesAtOnce)
    }
    const vcpus = list(options.vcpus ?? [], 'options.vcpus')
    const slots = list(options.slots ?? trackable(vm.memorySlots), 'options.slots')
    if ((method === 'ring') !== size > 0) throw wrongMethod(method, size)
    if (method === 'ring' && vcpus.length === 0) {
      throw outOfRange('options.vcpus.length', 'all vCPUs of the VM', 0)
    }
    const tracker = new DirtyTracker(vm, method, pagesAtOnce)
    try {
      tracker.#begin(slots, vcpus)
    } catch (error) {
      tracker.stop()
      throw error
    }
    return tracker
  }

  #begin(slots: readonly number[], vcpus: readonly Vcpu[]): void {
    if (this.method !== 'ring') {
      const modes = this.method === 'manual' ? KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE : 0
      this.#vm.enableCap('KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2', { modes })
    }
    for (const vcpu of vcpus) this.addVcpu(vcpu)
    // What is in the rings was written before.
    if (this.method === 'ring') this.#harvest()
    for (const slot of slots) this.track(slot)
  }

  /** The slots that are tracked. */
  get slots(): readonly number[] {
    return [...this.#tracked.keys()]
  }

  /**
   * Tracks one more slot.
   *
   * @throws KvmError `ENOENT` when there is no such slot.
   */
  track(slot: number): void {
    this.#checkRunning()
    const found = this.#slot(uint32(slot, 'slot'))
    if (found === undefined) {
      throw new KvmError('ENOENT', 2, 'no such slot', { slot })
    }
    this.#vm.setSlotFlags(slot, (found.flags | KVM_MEM_LOG_DIRTY_PAGES) >>> 0)
    const logged = (found.flags & KVM_MEM_LOG_DIRTY_PAGES) !== 0
    this.#tracked.set(slot, { slot, logged, words: bitmapOf(found.size / PAGE), pending: false })
    this.#lists = undefined
  }

  /**
   * Reads the ring of one more vCPU, before it runs.
   *
   * @throws KvmError as the constructor of {@link DirtyRing}.
   */
  addVcpu(vcpu: Vcpu): void {
    this.#checkRunning()
    Vcpu.handleOf(vcpu)
    if (this.method !== 'ring') return
    this.#rings = [...this.#rings, DirtyRing.of(vcpu)]
    this.#lists = undefined
  }

  /**
   * Hands out the pages written since the last collection, joined to ranges, slot by slot and upwards
   * in each. When `each` throws, what it was not called for comes with the next collection.
   *
   * @throws KvmError what the kernel refuses; `ERR_KVM_CLOSED` after {@link stop}.
   */
  collect(each: EachRange): DirtyCollection {
    callback(each, 'each')
    this.#checkRunning()
    if (this.#collecting) {
      throw new KvmError('ERR_KVM_BUSY', undefined, 'a collection is under way')
    }
    this.#collecting = true
    try {
      if (this.method === 'ring') this.#harvest()
      const lost = this.#renewIfLost()
      let pages = 0
      for (const tracked of this.#tracked.values()) pages += this.#hand(tracked, each)
      return { pages, lost }
    } finally {
      this.#collecting = false
    }
  }

  /** The same as a list. */
  ranges(): MemoryRange[] {
    const ranges: MemoryRange[] = []
    this.collect((gpa, size) => ranges.push({ gpa, size }))
    return ranges
  }

  /**
   * Empties the rings into the tracker's own memory, so that a vCPU that ended its run with a
   * `'dirtyRingFull'` exit can go on. Nothing is lost by it: {@link collect} has it later.
   */
  makeRoom(vcpu: Vcpu): void {
    this.#checkRunning()
    Vcpu.handleOf(vcpu)
    if (this.method !== 'ring' || this.#harvest() > 0) return
    const ring = this.#rings.find((ring) => ring.vcpu.id === vcpu.id)
    if (ring === undefined)
      throw outOfRange('vcpu', 'one of those that the tracker was given', vcpu)
    ring.giveBackStale()
    this.#vm.resetDirtyRings()
  }

  /** Ends the tracking: slots are no longer logged. Idempotent. */
  stop(): void {
    if (this.#stopped) return
    this.#stopped = true
    this.#registration?.remove()
    if (this.#vm.closed) return
    for (const { slot, logged } of this.#tracked.values()) {
      const flags = this.#slot(slot)?.flags
      if (flags !== undefined && !logged)
        this.#vm.setSlotFlags(slot, flags & ~KVM_MEM_LOG_DIRTY_PAGES)
    }
  }

  /** Stops it at the end of a `using` scope. */
  [Symbol.dispose](): void {
    this.stop()
  }

  #checkRunning(): void {
    if (this.#stopped) throw closedError({ reason: 'the tracker was stopped' })
  }

  #slot(slot: number): MemorySlot | undefined {
    return this.#vm.findSlot(slot)
  }

  /** @returns How many entries there were. */
  #harvest(): number {
    for (const ring of this.#rings) if (ring.vcpu.closed) this.#loseRing(ring)
    let count = this.#harvestOnce()
    let overflows = 0
    for (const ring of this.#rings) {
      while (ring.skipStale()) count += this.#harvestOnce()
      overflows += ring.overflows
    }
    if (count > 0 || overflows > 0) this.#vm.resetDirtyRings()
    return count
  }

  #harvestOnce(): number {
    this.#lists ??= this.#makeLists()
    const { words, slots, bitmaps } = this.#lists
    return binding().harvestRings(words, this.#vmRings.resets, slots, bitmaps)
  }

  #makeLists(): Lists {
    const tracked = [...this.#tracked.values()]
    return {
      words: this.#rings.flatMap((ring) => ring.words),
      slots: Uint32Array.from(tracked, ({ slot }) => slot),
      bitmaps: tracked.map(({ words }) => words),
    }
  }

  #loseRing(ring: DirtyRing): void {
    this.#rings = this.#rings.filter((each) => each !== ring)
    this.#lists = undefined
    this.#lost = true
  }

  /** Pages whose entries were lost are not protected any more: only all of them can be, at once. */
  #renewIfLost(): boolean {
    const overflows = this.#rings.reduce((sum, ring) => sum + ring.overflows, 0)
    if (overflows === this.#overflows && !this.#lost) return false
    this.#overflows = overflows
    this.#lost = false
    for (const tracked of this.#tracked.values()) {
      const slot = this.#slot(tracked.slot)
      if (slot === undefined) continue
      this.#vm.setSlotFlags(slot.slot, slot.flags & ~KVM_MEM_LOG_DIRTY_PAGES)
      this.#vm.setSlotFlags(slot.slot, slot.flags)
      setFirst(tracked.words, slot.size / PAGE)
      tracked.pending = true
    }
    return true
  }

  /** @returns How many pages it handed out. */
  #hand(tracked: Tracked, each: EachRange): number {
    const found = this.#renew(tracked)
    // ORDER: before `each`, which may make room in a ring and so find more.
    tracked.pending = false
    try {
      return this.#taker.take(tracked.words, this.#known[0]!, each, found)
    } catch (error) {
      tracked.pending = true
      throw error
    }
  }

  /** @returns How many ranges there are to hand out first. */
  #renew(tracked: Tracked): number {
    const { slot, words, pending } = tracked
    const { ranges } = this.#taker
    const ways = (this.method === 'ring' ? 0 : READ) | (pending ? KEEP : 0)
    const atOnce = this.#clearAtOnce
    const { handle } = this.#vmRings
    const known = this.#known
    const found = binding().takeDirtyRanges(handle, slot, words, ranges, known, ways, atOnce)
    return found >= 0 ? found : this.#renewFailed(tracked, found)
  }

  #renewFailed(tracked: Tracked, result: number): number {
    const { slot } = tracked
    const [, pages, clearing] = this.#known
    if (result === NO_ENTRY && pages === 0) {
      this.#tracked.delete(slot)
      this.#lists = undefined
      return 0
    }
    if (result === RESULT_BUFFER_TOO_SMALL) {
      // Another slot has this number now.
      tracked.words = bitmapOf(pages!)
      this.#lists = undefined
      tracked.pending = false
      return this.#renew(tracked)
    }
    // What was read and could not be cleared comes with the next collection.
    tracked.pending = true
    const ioctl = clearing ? 'KVM_CLEAR_DIRTY_LOG' : 'KVM_GET_DIRTY_LOG'
    throw kvmError(result, { ioctl, slot, reasons: DIRTY_LOG_REASONS })
  }
}

function defaultMethod(vm: Vm, ringSize: number): DirtyMethod {
  if (ringSize > 0) return 'ring'
  return vm.checkExtension(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) > 0 ? 'manual' : 'log'
}

function wrongMethod(method: DirtyMethod, ringSize: number): KvmError {
  const text = ringSize > 0 ? 'the VM keeps rings and no bitmaps' : 'the VM has no dirty rings'
  const reason =
    ringSize > 0 ? "use the method 'ring'" : 'enable KVM_CAP_DIRTY_LOG_RING before the first vCPU'
  return new KvmError('EINVAL', 22, `${text}, so not '${method}'`, { reason })
}

function trackable(slots: readonly MemorySlot[]): number[] {
  const not = KVM_MEM_READONLY | KVM_MEM_GUEST_MEMFD
  return slots.filter(({ flags }) => (flags & not) === 0).map(({ slot }) => slot)
}
