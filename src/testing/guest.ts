// A guest for tests: one call makes a VM whose vCPUs stand in the wished mode, with page tables,
// descriptor tables and stacks, and code of a few instructions runs in it.

import { readFileSync } from 'node:fs'
import type { KvmError } from '../core/errors.js'
import { Kvm } from '../core/kvm.js'
import { Userfault } from '../core/memory/userfault.js'
import type { MissingHandler } from '../core/memory/userfault-options.js'
import { GuestMemory } from '../core/memory.js'
import type { Vcpu } from '../core/vcpu.js'
import type { Vm } from '../core/vm.js'
import type { KvmIrqchip } from '../uapi/index.js'
import type { CpuidRegister } from '../x86/cpuid-feature-bits.js'
import { MSR, type MsrName } from '../x86/msr.js'
import { checkInteger } from '../x86/out-of-range.js'
import { asm, type Source } from './assembler/asm.js'
import type { Program } from './assembler/program.js'
import { Channel } from './channel.js'
import { CodeSpace } from './code-space.js'
import { writeGate, writeTss } from './descriptors.js'
import { imageOf } from './guest-image.js'
import { type GuestOptions, prepareVm } from './guest-set-up.js'
import { loadImage } from './image-file.js'
import * as layout from './layout.js'
import { registerMatchers } from './matchers.js'
import { MODES, type Mode, type ModeName } from './modes.js'
import type { Outcome } from './outcome.js'
import { GuestPages } from './pages.js'
import { pagingRegisters } from './paging-registers.js'
import { runTogether } from './run-together.js'
import { type GuestStatistics, StatisticsReader } from './statistics.js'
import { type Started, type Step, stepThrough, stopAtEach, traced } from './stepping.js'
import { type RunGuestOptions, TestCpu, TIMEOUT_MS } from './test-cpu.js'
import { TranslationCaches } from './translation-caches.js'

/** As many as KVM can have; fewer are allowed by most. */
const MAX_CPUS = 4096

/**
 * A VM ready to run code in the mode that was asked for.
 *
 * ```ts
 * using g = await guest({ mode: 'long', ring: 3, cr4: { umip: true } })
 * const outcome = g.run(asm`sgdt [rsp - 16]`)
 * console.log(outcome.raised?.name) // '#GP'
 * ```
 */
export class TestGuest extends Channel implements Disposable {
  readonly kvm: Kvm
  readonly vm: Vm
  /** All vCPUs. */
  readonly vcpus: readonly Vcpu[]
  /** The first of them, which {@link run} runs. */
  readonly vcpu: Vcpu
  /** RAM at guest-physical address 0; linear addresses are the same, unless the test maps others. */
  readonly memory: GuestMemory
  readonly mode: ModeName
  readonly options: Readonly<GuestOptions>
  /** Linear addresses: of the code, of a page for the test's use, and of the top of the stack. */
  readonly code = BigInt(layout.CODE)
  readonly data = BigInt(layout.DATA)
  readonly stack = BigInt(layout.STACK)
  /** The page tables. Modes without paging have none: there, its methods throw. */
  readonly pages: GuestPages

  /** The first linear address behind RAM: nothing is mapped there. */
  get end(): bigint {
    return BigInt(this.memory.size)
  }

  readonly #cpus: readonly TestCpu[]
  readonly #space: CodeSpace
  readonly #wholes = new WeakMap<Source, Source>()
  readonly #caches: TranslationCaches
  readonly #chips: readonly KvmIrqchip[] | undefined
  #statistics: StatisticsReader | undefined
  #userfaults: Userfault[] = []
  #lostPage: KvmError | undefined
  #handlers = layout.CODE_END

  /** @internal Use {@link guest}. */
  constructor(options: GuestOptions) {
    const { cpus = 1, mode = 'long', irqchip } = options
    checkInteger('options.cpus', cpus, 1, MAX_CPUS)
    super(MODES[mode].bits, cpus)
    this.options = options
    this.mode = mode
    const ramEnd = Math.max(options.memory ?? 0, layout.RAM_SIZE)
    this.kvm = Kvm.open()
    try {
      this.vm = this.kvm.createVm()
      prepareVm(this.vm, options)
      this.memory = GuestMemory.create(ramEnd + (cpus - 1) * layout.CPU_SIZE)
      this.vm.mapMemory(this.memory)
      this.vcpus = Array.from({ length: cpus }, (_, id) => this.vm.createVcpu(id))
      this.vcpu = this.vcpus[0]!
      this.#space = new CodeSpace(this.memory, { data: this.data, stack: this.stack })
      this.#fillRam()
      const around = { mode: this.#mode, options, memory: this.memory, code: this.#space }
      const task = { taskBusy: isTaskBusy() }
      this.#cpus = this.vcpus.map((vcpu) => {
        return new TestCpu(vcpu, around, layout.cpuLayout(vcpu.id, ramEnd), task)
      })
      if (irqchip === 'kernel') this.#chips = [0, 1, 2].map((chip) => this.vm.getIrqchip(chip))
    } catch (error) {
      this.close()
      throw error
    }
    this.#caches = new TranslationCaches(this.vm, this.memory, this.#cpus)
    const [cpu] = this.#cpus
    const registers = () => pagingRegisters(cpu!.vcpu, cpu!.sregs)
    this.pages = new GuestPages(this.memory, this.#mode, registers, this.#caches)
  }

  get #mode(): Mode {
    return MODES[this.mode]
  }

  #fillRam(): void {
    const { size } = this.memory
    for (const { gpa, bytes } of imageOf(this.#mode, size).pieces) this.memory.write(gpa, bytes)
    const ramEnd = size - (this.vcpus.length - 1) * layout.CPU_SIZE
    for (const { id } of this.vcpus.slice(1)) {
      writeTss(this.memory, this.#mode, layout.cpuLayout(id, ramEnd))
    }
  }

  /** Assembles `source` for this guest, as {@link run} does. */
  assemble(source: Source): Program {
    return this.#assemble(this.#whole(source), this.code)
  }

  /** With its end. Kept, since property tests run one source many times. */
  #whole(source: Source): Source {
    const known = this.#wholes.get(source)
    if (known) return known
    const whole = asm`${source}; ${this.done()}`
    this.#wholes.set(source, whole)
    return whole
  }

  #assemble(whole: Source, origin: bigint): Program {
    const program = this.#space.assemble(whole, origin, this.#mode.bits)
    const room = layout.CODE_END - Number(origin)
    if (program.bytes.length > room) {
      throw new RangeError(`the code takes ${program.bytes.length} bytes, there are ${room}`)
    }
    return program
  }

  /** Puts the code at its place and runs it from its first instruction to its end, on the first vCPU. */
  run(source: Source, options: RunGuestOptions = {}): Outcome {
    const count = options.trace ?? Number(process.env.NODE_KVM_TRACE ?? 0)
    if (count > 0) return this.#runTraced(source, options, count)
    this.#begin(source, options)
    return this.#continue(options)
  }

  #runTraced(source: Source, options: RunGuestOptions, count: number): Outcome {
    if (canStep(this.options)) return traced(this.step(source, options), count)
    this.#begin(source, options)
    return { ...this.#continue(options), trace: ['none: KVM does not step here'] }
  }

  /**
   * Runs code that comes as a file: flat, which begins at {@link code} and is `done` when it runs off
   * its end, or an ELF executable of the mode's size, which lies at its physical addresses. It
   * speaks to the test by ports: 0xe0 ends the run, 0xe2 reports EAX.
   *
   * @param image The file's path or its bytes.
   * @throws RangeError for code that is too long, or lies where the guest's tables are.
   */
  runFile(image: string | Uint8Array, options: RunGuestOptions = {}): Outcome {
    const bytes = typeof image === 'string' ? readFileSync(image) : image
    this.#space.clear()
    this.#caches.flush()
    this.#cpus[0]!.begin(loadImage(this.memory, bytes, this.#mode.bits), options)
    return this.#continue(options)
  }

  /**
   * Runs code on all vCPUs at once, each on a thread of its own; gives an outcome for each when all have
   * come to an end or were stopped. Pieces of source meet by {@link barrier}; `data` is the same for
   * all.
   *
   * @param source One for all vCPUs, or a function that gives each its own by its number.
   */
  async runAll(
    source: Source | ((cpu: number) => Source),
    options: RunGuestOptions = {},
  ): Promise<Outcome[]> {
    let at = this.code
    this.#lostPage = undefined
    this.memory.writeU64(layout.BARRIER, 0n)
    this.#caches.flush()
    for (const cpu of this.#cpus) {
      const whole = this.#whole(typeof source === 'function' ? source(cpu.index) : source)
      const program = this.#assemble(whole, at)
      this.#space.load(program, whole)
      cpu.begin(program, options)
      at = (at + BigInt(program.bytes.length) + 63n) & ~63n
    }
    const outcomes = await runTogether(this.#cpus, options)
    if (this.#lostPage) throw this.#lostPage
    return outcomes
  }

  /**
   * Runs the code one instruction at a time, with KVM's single-stepping; gives the outcome in the
   * end. What the code sends by {@link report} and where it faults is seen as in {@link run}.
   *
   * ```ts
   * for (const { rip, text, regs } of g.step(asm`mov eax, 1; add eax, 2`)) console.log(rip, text)
   * ```
   *
   * @ioctl KVM_SET_GUEST_DEBUG
   * @capability KVM_CAP_SET_GUEST_DEBUG
   */
  step(source: Source, options: RunGuestOptions = {}): Generator<Step, Outcome, void> {
    return stepThrough(this.#start(source, options))
  }

  /**
   * Runs the code from one of these places to the next, up to four: labels or linear addresses. Gives
   * what was found before each of them, and the outcome in the end.
   *
   * @ioctl KVM_SET_GUEST_DEBUG
   * @capability KVM_CAP_SET_GUEST_DEBUG
   */
  stopAt(
    places: readonly (string | bigint)[],
    source: Source,
    options: RunGuestOptions = {},
  ): Generator<Step, Outcome, void> {
    const started = this.#start(source, options)
    const addresses = places.map((place) => {
      const address = typeof place === 'string' ? started.program.symbols.get(place) : place
      if (address === undefined) throw new RangeError(`there is no label "${place}"`)
      return address
    })
    return stopAtEach(started, addresses)
  }

  #start(source: Source, options: RunGuestOptions): Started {
    const { vcpu, regs, program } = this.#begin(source, options)
    // ORDER: KVM takes the registers before it is told to step from where they are.
    vcpu.completeIo()
    return { vcpu, regs, program: program!, go: () => this.#continue(options) }
  }

  /** What an MSR of the first vCPU holds. */
  msr(name: MsrName): bigint {
    return this.vcpu.getMsrs([MSR[name]])[0]!.data
  }

  /** What CPUID tells the guest's own code, which runs for it. */
  cpuid(leaf: number, subleaf = 0): Record<CpuidRegister, number> {
    const { kind, regs } = this.run(asm`cpuid`, {
      regs: { rax: BigInt(leaf), rcx: BigInt(subleaf) },
    })
    if (kind !== 'done') throw new Error('CPUID does not come to its end')
    const low = (value: bigint) => Number(value & 0xffff_ffffn)
    return { eax: low(regs.rax), ebx: low(regs.rbx), ecx: low(regs.rcx), edx: low(regs.rdx) }
  }

  #begin(source: Source, options: RunGuestOptions): TestCpu {
    const [cpu] = this.#cpus
    const whole = this.#whole(source)
    const program = this.#assemble(whole, this.code)
    this.#space.load(program, whole)
    this.#caches.flush()
    cpu!.begin(program, options)
    return cpu!
  }

  /** Goes on after an {@link Outcome} of the kind `exit` or `timeout`. */
  resume(options: RunGuestOptions = {}): Outcome {
    if (!this.#cpus[0]!.program) throw new Error('nothing was run yet')
    return this.#continue(options)
  }

  #continue(options: RunGuestOptions): Outcome {
    const [cpu] = this.#cpus
    const end = performance.now() + (options.timeoutMs ?? TIMEOUT_MS)
    for (;;) {
      const left = end - performance.now()
      if (left <= 0) return cpu!.outcome('timeout')
      const outcome = cpu!.answer(this.vcpu.run({ timeoutMs: left }), options)
      if (outcome) return outcome
    }
  }

  /**
   * Lets an exception or interrupt go to a handler of the test's own, in ring 0; it may return by
   * IRET. It stays until {@link reset}.
   */
  handle(vector: number, handler: Source): void {
    const { bits, long } = this.#mode
    const program = this.#space.assemble(handler, BigInt(this.#handlers), long ? 64 : bits)
    const end = this.#handlers + program.bytes.length
    if (end > layout.HANDLERS_END) throw new RangeError('the handlers take more than 4096 bytes')
    this.#space.load(program, handler)
    writeGate(this.memory, this.#mode, vector, this.#handlers)
    this.#handlers = end
  }

  /**
   * Lets pages of RAM be missing until they are touched, and then come from `handler`, which may take
   * its time and give any bytes. Only for {@link runAll}, which also fails with what the handler
   * throws (the page then is zeros): elsewhere JavaScript cannot run meanwhile. It stays until
   * {@link reset}.
   *
   * @throws KvmError as {@link Userfault.create} does.
   */
  withhold(gpa: number, size: number, handler: MissingHandler): Userfault {
    for (const cpu of this.#cpus) cpu.finishInstruction()
    this.memory.discard(gpa, size)
    const onError = (error: KvmError) => {
      this.#lostPage ??= error
    }
    const options = { gpa, length: size, missing: handler, onError }
    const userfault = Userfault.create(this.memory, options)
    this.#userfaults.push(userfault)
    return userfault
  }

  /**
   * KVM's statistics of the VM and its vCPUs by the kernel's names (`exits`, `pages_2m`,
   * `remote_tlb_flush`, …), summed over vCPUs. With those of before: by how much they grew.
   *
   * ```ts
   * const before = g.statistics()
   * g.run(asm`in al, 0x10; hlt`, { onExit: (exit) => exit.type === 'io' })
   * expect(g.statistics(before).exits).toBe(2)
   * ```
   *
   * @capability KVM_CAP_BINARY_STATS_FD
   */
  statistics(since: GuestStatistics = {}): GuestStatistics {
    this.#statistics ??= new StatisticsReader(this.vm, this.vcpus)
    return this.#statistics.read(since)
  }

  /** RAM and registers become what they were when the guest was made. */
  reset(): void {
    for (const userfault of this.#userfaults) userfault.close()
    this.#userfaults = []
    this.#space.clear()
    this.pages.reset()
    // ORDER: an instruction that is completed may still write; PAE's registers are loaded from RAM.
    for (const cpu of this.#cpus) cpu.finishInstruction()
    this.#caches.reset(() => this.#fillRam())
    for (const cpu of this.#cpus) cpu.reset()
    if (this.#chips) for (const chip of this.#chips) this.vm.setIrqchip(chip)
    this.#handlers = layout.CODE_END
  }

  /** Closes the VM and its parts. The guest cannot be used any more. */
  close(): void {
    for (const part of [...this.#userfaults, this.#statistics]) part?.close()
    this.#userfaults = []
    for (const part of [...(this.vcpus ?? []), this.vm, this.memory, this.kvm]) part?.close()
  }

  /** What `using` calls: {@link close}. */
  [Symbol.dispose](): void {
    this.close()
  }
}

let taskBusy: boolean | undefined

/**
 * A loaded task register is busy, and Intel's processors take no other. QEMU's emulated SVM finds no
 * I/O map in a busy one, and aborts when it looks for a stack there outside of long mode.
 */
function isTaskBusy(): boolean {
  if (taskBusy === undefined) {
    // What the guest below is made with.
    taskBusy = true
    using probe = new TestGuest({ ring: 3 })
    taskBusy = probe.run(asm``, { trace: 0 }).kind === 'done'
  }
  return taskBusy
}

const steps = new Map<string, boolean>()

/** Whether KVM steps over instructions in that mode and ring: some leave it to the guest. */
function canStep({ mode = 'long', ring = 0 }: GuestOptions): boolean {
  const place = `${mode} ${ring}`
  const known = steps.get(place)
  if (known !== undefined) return known
  using probe = new TestGuest({ mode, ring })
  const seen = []
  for (const step of probe.step(asm`nop; nop`)) seen.push(step.text)
  const can = seen.join() === 'nop,nop'
  steps.set(place, can)
  return can
}

/**
 * Makes a guest. Close it, or declare it by `using`.
 *
 * @throws KvmError what the kernel refuses.
 * @throws UnsupportedModeError where this KVM cannot enter the mode.
 */
export async function guest(options: GuestOptions = {}): Promise<TestGuest> {
  await registerMatchers()
  return new TestGuest(options)
}
