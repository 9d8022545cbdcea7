// Guests write by a known pattern while their slots come, go and move, pages are given back and dirty
// pages collected. A model says what is in RAM and which pages are dirty; every round is compared.

import {
  type DirtyMethod,
  DirtyTracker,
  type Exit,
  GuestMemory,
  type MmioExit,
  type Vcpu,
} from '../../src/index.js'
import { PageImage, Watch, type WatchKind, watchKinds } from './stress-watch.js'
import { type Command, DOORBELL, FIRST_SLOT, FREE, Writers } from './writers.js'

const PAGE = 0x1000
const WINDOW = 0x40_0000
const WINDOWS = 14
/** No slot ever is here. */
const NOWHERE = FREE + WINDOWS * WINDOW
const SIZES = [64, 100, 257, 512, 513, 700]
/** vCPUs may write to the same pages, but each to words of its own. */
const LANES = 8

export interface StressOptions {
  method: DirtyMethod
  cpl: 0 | 3
  seed: number
  vcpus?: number
}

/** What happened, so that a test can tell that something did. */
export interface StressCounts {
  rounds: number
  dirtyPages: number
  collections: number
  slotChanges: number
  discarded: number
  mmio: number
  /** Rounds in which an area was watched, by the kind of the watch. */
  watched: Record<WatchKind, number>
}

/** A whole number below `n`. */
type Random = (n: number) => number

/** The same numbers for the same seed (an LCG; its upper bits count). */
function randomOf(seed: number): Random {
  let state = BigInt(seed)
  return (n) => {
    state = (state * 6364136223846793005n + 1442695040888963407n) & 0xffff_ffff_ffff_ffffn
    return Number(state >> 33n) % n
  }
}

/** Some RAM, where it is mapped, and what the model says is in it. */
class Area {
  readonly memory: GuestMemory
  readonly model: BigUint64Array
  readonly pages: number
  readonly slot: number
  /** The window it is mapped in; undefined while it has no slot. */
  window: number | undefined

  constructor(slot: number, pages: number) {
    const backing = slot % 2 ? 'memfd' : 'anonymous'
    this.memory = GuestMemory.create(pages * PAGE, { backing })
    this.model = new BigUint64Array((pages * PAGE) / 8)
    this.pages = pages
    this.slot = slot
  }

  get gpa(): number {
    return FREE + this.window! * WINDOW
  }

  /** Whether RAM is what the model says. */
  isRight(): boolean {
    const expected = Buffer.from(this.model.buffer)
    return expected.equals(this.memory.view(0, expected.length))
  }
}

/** A vCPU on its thread, waiting at the doorbell. */
class Writer {
  readonly vcpu: Vcpu
  mmio = 0
  failure: string | undefined
  #answer = () => {}
  #arrived: (() => void) | undefined

  constructor(vcpu: Vcpu) {
    this.vcpu = vcpu
  }

  onExit(exit: Exit): void | Promise<void> {
    if (exit.type === 'intr') return
    if (exit.type !== 'mmio') {
      this.failure = `exit ${exit.type}`
      this.vcpu.stop()
      this.#arrived?.()
      return
    }
    if (exit.gpa !== DOORBELL) return this.#missing(exit)
    return new Promise((resolve) => {
      this.#answer = resolve
      this.#arrived?.()
    })
  }

  #missing(exit: MmioExit): void {
    this.mmio++
    if (!exit.isWrite) exit.data.fill(0)
  }

  /** Lets it go on; resolves when it is at the doorbell again. */
  release(): Promise<void> {
    const arrived = this.next()
    this.#answer()
    return arrived
  }

  next(): Promise<void> {
    return new Promise((resolve) => {
      this.#arrived = resolve
    })
  }
}

/** The guest, its areas, and the rounds. */
export class MemoryStress {
  readonly counts: StressCounts = {
    rounds: 0,
    dirtyPages: 0,
    collections: 0,
    slotChanges: 0,
    discarded: 0,
    mmio: 0,
    watched: { file: 0, handler: 0, write: 0 },
  }
  readonly #options: StressOptions
  readonly #random: Random
  readonly #guest: Writers
  readonly #areas: readonly Area[]
  readonly #writers: readonly Writer[]
  readonly #tracker: DirtyTracker
  readonly #seen = new Set<number>()
  readonly #image = new PageImage(Math.max(...SIZES))
  readonly #watchKinds = watchKinds()
  #watched: { area: Area; watch: Watch } | undefined

  private constructor(options: StressOptions) {
    const { method, cpl, seed, vcpus = 3 } = options
    this.#options = options
    this.#random = randomOf(seed)
    this.#guest = new Writers({ cpl, vcpus, ringSize: method === 'ring' ? 0x1_0000 : 0 })
    this.#areas = SIZES.map((pages, i) => new Area(FIRST_SLOT + i, pages))
    this.#writers = this.#guest.vcpus.map((vcpu) => new Writer(vcpu))
    this.#tracker = DirtyTracker.start(this.#guest.vm, {
      method,
      vcpus: this.#guest.vcpus,
      slots: [],
      pagesAtOnce: 128,
    })
  }

  /** Runs so many rounds; throws at the first that is not as the model says. */
  static async run(options: StressOptions, rounds: number): Promise<StressCounts> {
    const stress = new MemoryStress(options)
    try {
      await stress.#start()
      for (let round = 0; round < rounds; round++) await stress.#round(round)
      stress.#compareRam(stress.#areas, rounds)
    } finally {
      await stress.#close()
    }
    return stress.counts
  }

  async #start(): Promise<void> {
    for (const area of this.#areas) if (this.#random(4) > 0) this.#map(area)
    const arrivals = this.#writers.map((writer, id) => {
      this.#guest.command(id, { gpa: FREE, stride: 0, count: 0, value: 0 })
      const arrived = writer.next()
      writer.vcpu.start((exit) => writer.onExit(exit))
      return arrived
    })
    await Promise.all(arrivals)
  }

  async #close(): Promise<void> {
    this.#watched?.watch.close()
    await Promise.all(this.#guest.vcpus.map((vcpu) => vcpu.stop()))
    this.#guest.close()
    this.#image.close()
    for (const { memory } of this.#areas) memory.close()
  }

  async #round(round: number): Promise<void> {
    const areas = this.#areas.filter(() => this.#random(2) === 0)
    const active = areas.filter(({ window }) => window !== undefined)
    const idle = this.#areas.filter((area) => !active.includes(area))
    const dirty = new Set<number>()
    this.#beginWatch(active)
    let mmio = this.counts.mmio
    const arrivals = this.#writers.map((writer, id) => {
      const command = this.#command(id, active)
      if (!this.#foresee(command, active, dirty)) mmio += 2 * command.count
      this.#guest.command(id, command)
      return writer.release()
    })
    await this.#disturb(active, idle, dirty)
    await Promise.all(arrivals)
    await this.#endWatch(dirty, round)
    this.#collect()
    this.counts.mmio = this.#writers.reduce((sum, writer) => sum + writer.mmio, 0)
    this.#expect(this.counts.mmio === mmio, round, `${this.counts.mmio} MMIO exits, not ${mmio}`)
    this.#compareDirty(dirty, round)
    this.#compareRam(round % 16 === 0 ? this.#areas : active, round)
    this.counts.rounds++
  }

  /** Where a vCPU writes: in one of the areas, or now and then where nothing is mapped. */
  #command(id: number, active: readonly Area[]): Command {
    const lane = 8 * (id % LANES)
    const value = 1 + this.#random(1000)
    const stride = 8 * LANES * (1 + this.#random(3 * (PAGE / 64)))
    const area = active[this.#random(active.length + (this.#random(8) === 0 ? 1 : 0))]
    if (area === undefined) {
      return { gpa: NOWHERE + lane, stride: 64, count: this.#random(4), value }
    }
    const first = this.#random((area.pages * PAGE) / 64) * 64
    const room = Math.ceil((area.pages * PAGE - first - lane) / stride)
    const count = 1 + this.#random(Math.min(room, 1500))
    return { gpa: area.gpa + first + lane, stride, count, value }
  }

  /** Does to the model what the guest does to RAM. False when nothing is mapped there. */
  #foresee({ gpa, stride, count, value }: Command, active: readonly Area[], dirty: Set<number>) {
    const area = active.find((area) => gpa >= area.gpa && gpa < area.gpa + area.pages * PAGE)
    if (area === undefined) return count === 0
    for (let i = 0, at = gpa; i < count; i++, at += stride) {
      const index = (at - area.gpa) / 8
      area.model[index] = area.model[index]! + BigInt(value)
      dirty.add(at - (at % PAGE))
    }
    return true
  }

  /** What happens while the vCPUs write: to areas that they leave alone, and to pages of the others. */
  async #disturb(active: readonly Area[], idle: readonly Area[], dirty: Set<number>) {
    for (let i = this.#random(6); i > 0; i--) {
      const what = this.#random(8)
      const other = idle[this.#random(idle.length)]
      if (what === 0) this.#collect()
      else if (what === 1) await new Promise(setImmediate)
      else if (what === 2 && active.length > 0) this.#discardClean(active, dirty)
      else if (other !== undefined) this.#change(other)
    }
  }

  #change(area: Area): void {
    const what = this.#random(4)
    if (what === 0) this.#discard(area, this.#random(area.pages), 1 + this.#random(64))
    else if (what === 1) this.#hostWrite(area)
    else this.#changeSlot(area)
  }

  #changeSlot(area: Area): void {
    // It might wait for a vCPU that waits for this thread, so it is refused.
    if (this.#watched?.watch.kind === 'handler') return
    if (area.window === undefined) {
      this.#map(area)
    } else if (this.#random(2) === 0) {
      this.#guest.vm.deleteSlot(area.slot)
      area.window = undefined
    } else {
      const gpa = this.#freeWindow()
      this.#guest.vm.moveSlot(area.slot, gpa)
      area.window = (gpa - FREE) / WINDOW
    }
    this.counts.slotChanges++
  }

  #map(area: Area): void {
    const { slot, memory, pages } = area
    const guestPhysAddr = this.#freeWindow()
    const memorySize = pages * PAGE
    const { vm } = this.#guest
    vm.setUserMemoryRegion({ slot, guestPhysAddr, memorySize, memory, memoryAddress: 0 })
    this.#tracker.track(slot)
    area.window = (guestPhysAddr - FREE) / WINDOW
  }

  /** The address of a window in which no area is. */
  #freeWindow(): number {
    for (;;) {
      const window = this.#random(WINDOWS)
      if (this.#areas.every((area) => area.window !== window)) return FREE + window * WINDOW
    }
  }

  #hostWrite({ memory, model, pages }: Area): void {
    const index = this.#random((pages * PAGE) / 8)
    const value = BigInt(this.#random(0x7fff_ffff))
    memory.writeU64(index * 8, value)
    model[index] = value
  }

  #discard({ memory, model, pages }: Area, first: number, wanted: number): void {
    const count = Math.min(wanted, pages - first)
    memory.discard(first * PAGE, count * PAGE)
    model.fill(0n, first * 512, (first + count) * 512)
    this.counts.discarded += count
  }

  /** A page of an area that is being written to, but not this page. */
  #discardClean(active: readonly Area[], dirty: Set<number>): void {
    const area = active[this.#random(active.length)]!
    const page = this.#random(area.pages)
    if (!dirty.has(area.gpa + page * PAGE)) this.#discard(area, page, 1)
  }

  #collect(): void {
    const { lost } = this.#tracker.collect((gpa, size) => {
      for (let at = gpa; at < gpa + size; at += PAGE) this.#seen.add(at)
    })
    this.#expect(!lost, this.counts.rounds, 'dirty pages lost')
    this.counts.collections++
  }

  /** Watches one of the areas that are written to, every other time. */
  #beginWatch(active: readonly Area[]): void {
    const kind = this.#watchKinds[this.#random(2 * this.#watchKinds.length)]
    const area = active[this.#random(active.length)]
    if (kind === undefined || area === undefined) return
    this.#watched = { area, watch: new Watch(kind, area, this.#image) }
    this.counts.watched[kind]++
  }

  async #endWatch(dirty: Set<number>, round: number): Promise<void> {
    if (this.#watched === undefined) return
    const { area, watch } = this.#watched
    const pages = [...dirty].map((gpa) => (gpa - area.gpa) / PAGE)
    const touched = pages.filter((page) => page >= 0 && page < area.pages).sort((a, b) => a - b)
    const complaint = await watch.end(touched)
    this.#watched = undefined
    this.#expect(complaint === undefined, round, `slot ${area.slot}: ${complaint}`)
  }

  #compareDirty(dirty: Set<number>, round: number): void {
    const missing = [...dirty].filter((page) => !this.#seen.has(page))
    const wrong = [...this.#seen].filter((page) => !dirty.has(page))
    this.counts.dirtyPages += dirty.size
    this.#seen.clear()
    this.#expect(missing.length === 0, round, `dirty, not found: ${hexList(missing)}`)
    this.#expect(wrong.length === 0, round, `found, not dirty: ${hexList(wrong)}`)
  }

  #compareRam(areas: readonly Area[], round: number): void {
    for (const area of areas) this.#expect(area.isRight(), round, `RAM of slot ${area.slot}`)
  }

  #expect(right: boolean, round: number, what: string): void {
    const failure = this.#writers.find(({ failure }) => failure !== undefined)?.failure
    if (right && failure === undefined) return
    const { method, cpl, seed } = this.#options
    throw new Error(`${method}, ring ${cpl}, seed ${seed}, round ${round}: ${failure ?? what}`)
  }
}

const hexList = (pages: readonly number[]) =>
  `${pages.length}: ${pages
    .slice(0, 8)
    .map((page) => page.toString(16))
    .join(' ')}`
