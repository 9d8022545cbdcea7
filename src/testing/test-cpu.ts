// One vCPU of a test guest: how its code begins, and what its exits say.

import type { Exit } from '../core/exits/exits.js'
import type { GuestMemory } from '../core/memory.js'
import type { SyncRegs } from '../core/vcpu/sync-regs.js'
import type { Vcpu } from '../core/vcpu.js'
import type { KvmRegs, KvmSregs } from '../uapi/index.js'
import { walkPageTables } from '../x86/page-walk.js'
import type { Program } from './assembler/program.js'
import type { CallingCpu } from './calling-cpu.js'
import type { CodeSpace } from './code-space.js'
import { taskSegment } from './descriptors.js'
import { imageOf } from './guest-image.js'
import { type GuestOptions, prepareVcpu } from './guest-set-up.js'
import * as layout from './layout.js'
import type { Mode } from './modes.js'
import { copyExit, describeState, type ExitFields, type Outcome, type Raised } from './outcome.js'
import { pagingRegisters } from './paging-registers.js'
import { Pristine } from './pristine.js'
import { readRaised } from './raised.js'

/** What may be said of one run. */
export interface RunGuestOptions {
  /** General registers at the start; the others are 0. */
  regs?: Partial<KvmRegs>
  /** Special registers at the start; the others are those of the guest's mode. */
  sregs?: Partial<KvmSregs>
  /** Milliseconds of wall-clock time after which the guest is stopped (3000). */
  timeoutMs?: number
  /** How many exits there may be, those by which the code speaks to the test among them (any number). */
  maxExits?: number
  /**
   * Keeps the latest instructions, so many, in {@link Outcome.trace}: the code runs step by step, where
   * KVM can do that. The environment variable `NODE_KVM_TRACE` does it for all runs.
   */
  trace?: number
  /** Answers exits, such as those of a device under test: true to go on, false to end the run. */
  onExit?: (exit: Exit, cpu: CallingCpu) => boolean
}

/** Long for a loaded machine, and less than test runners give a test. */
export const TIMEOUT_MS = 3000

/** What the vCPUs of a guest have in common. */
export interface CpuSurroundings {
  readonly mode: Mode
  readonly options: GuestOptions
  readonly memory: GuestMemory
  readonly code: CodeSpace
}

/** Bit 1 is always set. */
const RFLAGS = 2n
/** RFLAGS.RF, which the processor sets in the frame of a fault. */
const RESUME_FLAG = 1n << 16n
/** CR3.PCD: without effect on a guest. */
const CR3_PCD = 1n << 4n
const NO_BYTES = new Uint8Array(0)
/** As many exits as an outcome keeps. */
const EXITS_KEPT = 64

const NO_REGS = Object.fromEntries(
  'rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags'
    .split(' ')
    .map((name) => [name, 0n]),
) as unknown as KvmRegs

/** One vCPU, ready to run code. */
export class TestCpu implements CallingCpu {
  readonly index: number
  readonly vcpu: Vcpu
  readonly regs: SyncRegs
  /** The code that it runs; undefined before the first run. */
  program: Program | undefined
  readonly #around: CpuSurroundings
  readonly #pristine: Pristine
  /** What RSP begins with, which in real mode is relative to SS. */
  readonly #stack: bigint
  #start: KvmSregs
  #values: number[] = []
  #log: string[] = []
  #exits: ExitFields[] = []
  #exitsLeft = 0
  #isPending = false

  /** @param place Where its TSS and its stacks lie. */
  constructor(
    vcpu: Vcpu,
    around: CpuSurroundings,
    place: layout.CpuLayout,
    { taskBusy }: { taskBusy: boolean },
  ) {
    const { mode, options, memory } = around
    this.index = vcpu.id
    this.vcpu = vcpu
    this.#around = around
    const tr = taskSegment(place.tss, taskBusy)
    const stackBase = mode.protected || this.index === 0 ? 0 : place.stack - 0x1000
    this.#stack = BigInt(place.stack - stackBase)
    prepareVcpu(vcpu, mode, options, imageOf(mode, memory.size), { tr, stackBase })
    this.regs = vcpu.enableSyncRegs({ events: false })
    const kernelIrqchip = (options.irqchip ?? 'none') !== 'none'
    this.#pristine = new Pristine(vcpu, this.regs, {
      kernelIrqchip,
      ...(mode.protected && { tr }),
    })
    this.#start = this.#pristine.sregs
  }

  /** The special registers that every run begins with. */
  get sregs(): KvmSregs {
    return this.#pristine.sregs
  }

  log(text: string): void {
    this.#log.push(text)
  }

  /**
   * Stands at the first instruction of a program that is in RAM. KVM takes the registers from the run
   * page when the vCPU enters the guest.
   */
  begin(program: Program, options: RunGuestOptions): void {
    this.program = program
    this.#values = []
    this.#log = []
    this.#exits = []
    this.#exitsLeft = options.maxExits ?? 0
    const start = { rsp: this.#stack, rip: program.origin, rflags: RFLAGS }
    const regs = { ...NO_REGS, ...start, ...options.regs }
    this.#isPending ||= regs.rip === this.regs.rip
    this.finishInstruction()
    this.#start = { ...this.#pristine.sregs, ...options.sregs }
    // Its error names what is refused.
    if (options.sregs) this.vcpu.setSregs(this.#start)
    this.regs.setSregs(this.#start)
    this.regs.setRegs(regs)
    this.#pristine.wake()
  }

  /** KVM has the processor forget translations when CR3 changes, which {@link begin} changes back. */
  forgetTranslations(): void {
    const { sregs } = this.#pristine
    this.vcpu.setSregs({ ...sregs, cr3: sregs.cr3 ^ CR3_PCD })
  }

  /**
   * An exit's instruction is completed, so that it does not reach into what comes next. Those by which
   * the code speaks to the test need it only where the next code begins at the same place: KVM skips
   * the OUT if RIP is still there, and does nothing otherwise.
   */
  finishInstruction(): void {
    while (this.#isPending && this.vcpu.completeIo() !== undefined);
    this.#isPending = false
  }

  /** Everything but RAM becomes what it was when the guest was made. */
  reset(): void {
    this.#pristine.restore()
    this.program = undefined
  }

  /** Deals with an exit; undefined: the code goes on. */
  answer(exit: Exit, options: RunGuestOptions): Outcome | undefined {
    if (exit.type === 'intr') return undefined
    if (options.maxExits !== undefined && this.#exitsLeft-- <= 0) return this.outcome('timeout')
    if (exit.type === 'io' && exit.isWrite) {
      switch (exit.port) {
        case layout.PORT_VALUE:
          this.#values.push(exit.value)
          return undefined
        case layout.PORT_DONE:
          return this.outcome('done')
        case layout.PORT_VECTOR:
          return this.#exception()
        case layout.PORT_CALL:
          if (this.#call()) return undefined
      }
    }
    const fields = copyExit(exit)
    this.#exits.push(fields)
    if (this.#exits.length > EXITS_KEPT) this.#exits.shift()
    if (options.onExit?.(exit, this)) return undefined
    return this.outcome('exit', { exit: fields })
  }

  #call(): boolean {
    const call = this.#around.code.callAt(this.regs.rip)
    if (call === undefined) return false
    try {
      call(this)
    } catch (error) {
      if (error instanceof Error) error.message += `\n\n${describeState(this.outcome('done'))}`
      throw error
    }
    return true
  }

  #exception(): Outcome | undefined {
    const { mode, memory, code } = this.#around
    const raised = readRaised(this.vcpu, this.regs, memory, mode)
    const safe = code.safeAt(raised.rip)
    if (safe === undefined) return this.outcome('raised', { raised })
    const { cs, ss } = this.#start
    this.regs.rip = safe.next
    this.regs.rsp = raised.rsp!
    this.regs.rflags = raised.rflags & ~RESUME_FLAG
    this.regs.setSregs({ ...this.regs.getSregs(), cs, ss })
    safe.tell(raised, this)
    return undefined
  }

  /** How the run has ended, as it is now. */
  outcome(
    kind: Outcome['kind'],
    { raised, exit }: { raised?: Raised; exit?: ExitFields } = {},
  ): Outcome {
    this.#isPending = kind === 'exit' || kind === 'timeout'
    const at = this.regs.getRegs()
    const regs = raised
      ? { ...at, rip: raised.rip, rflags: raised.rflags, rsp: raised.rsp ?? at.rsp }
      : at
    const sregs = this.regs.getSregs()
    return {
      kind,
      cpu: this.index,
      raised,
      exit,
      regs,
      sregs,
      values: this.#values,
      log: this.#log,
      exits: this.#exits,
      trace: undefined,
      program: this.program!,
      bytes: this.#bytesAt(regs.rip, sregs),
    }
  }
  /** For the disassembler, where the code stands outside of the test's program. */
  #bytesAt(rip: bigint, sregs: KvmSregs): Uint8Array {
    if (this.program?.sourceAt(rip) !== undefined) return NO_BYTES
    const { memory } = this.#around
    const linear = sregs.cs.l ? rip : sregs.cs.base + rip
    const registers = pagingRegisters(this.vcpu, sregs)
    const walk = walkPageTables(memory, registers, linear, { ac: true })
    if (walk.fault || walk.gpa >= memory.size) return NO_BYTES
    return memory.read(walk.gpa, Math.min(32, memory.size - walk.gpa))
  }
}
