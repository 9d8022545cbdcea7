// What KVM and the processor remember of a guest's page tables. They notice when the guest changes
// an entry and says so; a test that writes to RAM from outside has to make them forget.

import type { GuestMemory } from '../core/memory.js'
import type { Vm } from '../core/vm.js'
import * as layout from './layout.js'
import type { TestCpu } from './test-cpu.js'

const PAGE = 4096
/** The tables above the last level come first. */
const UPPER_TABLES = 4 * PAGE
const ACCESSED_DIRTY = 0x60
/** Room for a look at them. */
const now = new Uint32Array(UPPER_TABLES / 4)

/** Makes changed entries count. */
export class TranslationCaches {
  readonly #vm: Vm
  readonly #memory: GuestMemory
  readonly #cpus: readonly TestCpu[]
  /** The upper tables as they were. */
  readonly #upper: Uint32Array
  /** Guest-physical pages whose translations are out of date. */
  #stale = new Set<number>()
  #isAllStale = false
  #hasHoles = false

  constructor(vm: Vm, memory: GuestMemory, cpus: readonly TestCpu[]) {
    this.#vm = vm
    this.#memory = memory
    this.#cpus = cpus
    this.#upper = new Uint32Array(memory.read(layout.TABLES, UPPER_TABLES).buffer)
  }

  /** The translation to that page has changed. */
  changed(gpa: number): void {
    if (this.#hasRun) this.#stale.add(gpa)
  }

  /** Any translation may have changed. */
  changedAll(): void {
    if (this.#hasRun) this.#isAllStale = true
  }

  /** There are translations to where no RAM is. */
  addHole(): void {
    this.#hasHoles = true
  }

  get #hasRun(): boolean {
    return this.#cpus.some(({ program }) => program !== undefined)
  }

  /** Makes all forget what has changed. */
  flush(): void {
    if (!this.#isAllStale && this.#stale.size === 0) return
    if (this.#isAllStale || [...this.#stale].some((gpa) => gpa >= this.#memory.size)) {
      this.#remap()
    } else {
      for (const gpa of this.#stale) this.#renew(gpa)
    }
    for (const cpu of this.#cpus) cpu.forgetTranslations()
    this.#stale.clear()
    this.#isAllStale = false
  }

  // KERNEL: shadow page tables are not told when user space writes to the guest's, but they let go of
  // a page that the host has taken away (Linux 6.18, mmu notifiers).
  #renew(gpa: number): void {
    const bytes = this.#memory.read(gpa, PAGE)
    this.#memory.discard(gpa, PAGE)
    this.#memory.write(gpa, bytes)
  }

  // Slower, for what is no RAM: a slot that goes away takes all translations with it.
  #remap(): void {
    for (const { slot, gpa, size, flags } of this.#vm.memorySlots) {
      this.#vm.deleteSlot(slot)
      const region = { slot, flags, guestPhysAddr: gpa, memorySize: size }
      this.#vm.setUserMemoryRegion({ ...region, memory: this.#memory })
    }
  }

  /**
   * All of RAM becomes what `fill` writes, and zeros. A processor that remembers a translation to a
   * page forgets it when the host takes the page away.
   */
  reset(fill: () => void): void {
    if (this.#hasHoles || this.#tablesDiffer()) this.#remap()
    this.#memory.discard(0, this.#memory.size)
    fill()
    this.#stale.clear()
    this.#hasHoles = false
    this.#isAllStale = false
  }
  /** Whether the upper tables are others than at the beginning, accessed and dirty bits aside. */
  #tablesDiffer(): boolean {
    this.#memory.readInto(layout.TABLES, new Uint8Array(now.buffer))
    for (let i = 0; i < now.length; i++) {
      if (((this.#upper[i]! ^ now[i]!) & ~ACCESSED_DIRTY) !== 0) return true
    }
    return false
  }
}
