// A guest for tests: one call makes a VM whose vCPU stands in the wished mode, with page tables,
// descriptor tables and stacks, and code of a few instructions runs in it.

import type { Exit } from '../core/exits/exits.js'
import { Kvm } from '../core/kvm.js'
import { GuestMemory } from '../core/memory.js'
import type { SyncRegs } from '../core/vcpu/sync-regs.js'
import type { Vcpu } from '../core/vcpu.js'
import type { Vm } from '../core/vm.js'
import type { KvmRegs, KvmSregs } from '../uapi/index.js'
import { exceptionByVector } from '../x86/exceptions.js'
import type { PageTableBuilder } from '../x86/page-table-builder.js'
import { walkPageTables } from '../x86/page-walk.js'
import { asm, type Source } from './assembler/asm.js'
import { assemble } from './assembler/assemble.js'
import type { Program } from './assembler/program.js'
import { taskSegment, vectorAt, writeGate } from './descriptors.js'
import { mapRam } from './guest-image.js'
import { type GuestOptions, prepareVcpu } from './guest-set-up.js'
import * as layout from './layout.js'
import { registerMatchers } from './matchers.js'
import { MODES, type Mode, type ModeName } from './modes.js'
import { copyExit, type ExitFields, type Outcome, type Raised } from './outcome.js'
import { Pristine } from './pristine.js'

/** What may be said of one run. */
export interface RunGuestOptions {
  /** General registers at the start; the others are 0. */
  regs?: Partial<KvmRegs>
  /** Special registers at the start; the others are those of the guest's mode. */
  sregs?: Partial<KvmSregs>
  /** Milliseconds of wall-clock time after which the guest is stopped (1000). */
  timeoutMs?: number
  /** Answers exits, such as those of a device under test: true to go on, false to end the run. */
  onExit?: (exit: Exit) => boolean
}

const DONE = asm`out ${layout.PORT_DONE}, al; jmp $ - 2`
const REPORT = asm`out ${layout.PORT_VALUE}, eax`

/** Bit 1 is always set. */
const RFLAGS = 2n

/** One instruction of {@link TestGuest.step}. */
export interface Step {
  /** Linear address of the instruction. */
  readonly rip: bigint
  /** The statement of the source; undefined outside of it, as in a handler. */
  readonly text: string | undefined
  /** General registers behind it. */
  readonly regs: KvmRegs
}

/**
 * A VM of one vCPU, ready to run code in the mode that was asked for.
 *
 * ```ts
 * using g = await guest({ mode: 'long', ring: 3, cr4: { umip: true } })
 * const outcome = g.run(asm`sgdt [rsp - 16]`)
 * console.log(outcome.raised?.name) // '#GP'
 * ```
 */
export class TestGuest implements Disposable {
  readonly kvm: Kvm
  readonly vm: Vm
  readonly vcpu: Vcpu
  /** RAM at guest-physical address 0; linear addresses are the same, unless the test maps others. */
  readonly memory: GuestMemory
  readonly mode: ModeName
  readonly options: Readonly<GuestOptions>
  /** Linear addresses: of the code, of a page for the test's use, and of the top of the stack. */
  readonly code = BigInt(layout.CODE)
  readonly data = BigInt(layout.DATA)
  readonly stack = BigInt(layout.STACK)

  /** The first linear address behind RAM: nothing is mapped there. */
  get end(): bigint {
    return BigInt(this.memory.size)
  }

  readonly #programs = new Map<string, Program>()
  readonly #sync: SyncRegs
  readonly #pristine: Pristine
  #handlers = layout.CODE_END
  #pages: PageTableBuilder | undefined
  #program: Program | undefined
  #values: number[] = []

  /** @internal Use {@link guest}. */
  constructor(options: GuestOptions) {
    this.options = options
    this.mode = options.mode ?? 'long'
    this.kvm = Kvm.open()
    try {
      this.vm = this.kvm.createVm()
      if (options.irqchip === 'kernel') this.vm.createIrqchip()
      this.memory = GuestMemory.create(Math.max(options.memory ?? 0, layout.RAM_SIZE))
      this.vm.mapMemory(this.memory)
      this.vcpu = this.vm.createVcpu(0)
      const tr = taskSegment(isTaskBusy())
      prepareVcpu(this.vcpu, this.memory, this.#mode, options, tr)
      this.#sync = this.vcpu.enableSyncRegs()
      this.#pristine = new Pristine(this.vcpu, this.memory, {
        kernelIrqchip: options.irqchip === 'kernel',
        ...(this.#mode.protected && { tr }),
      })
    } catch (error) {
      this.close()
      throw error
    }
  }

  get #mode(): Mode {
    return MODES[this.mode]
  }

  /** Source that ends a run, which then is `done`. It stands behind every program by itself. */
  done(): Source {
    return DONE
  }

  /** Source that sends a value to the test: see {@link Outcome.values}. Only EAX is sent. */
  report(): Source {
    return REPORT
  }

  /** Assembles `source` for this guest, as {@link run} does. */
  assemble(source: Source): Program {
    const known = this.#programs.get(source.source)
    if (known) return known
    const program = assemble(asm`${source}; ${this.done()}`.source, {
      bits: this.#mode.bits,
      origin: this.code,
      constants: { data: this.data, stack: this.stack },
    })
    const room = layout.CODE_END - layout.CODE
    if (program.bytes.length > room) {
      throw new RangeError(`the code takes ${program.bytes.length} bytes, there are ${room}`)
    }
    this.#programs.set(source.source, program)
    return program
  }

  /** Puts the code at its place and runs it from its first instruction to its end. */
  run(source: Source, options: RunGuestOptions = {}): Outcome {
    const program = this.#begin(source, options)
    return this.#continue(program, options)
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
  *step(source: Source, options: RunGuestOptions = {}): Generator<Step, Outcome, void> {
    const program = this.#begin(source, options)
    this.vcpu.debugGuest({ singleStep: true })
    try {
      for (let { rip } = this.vcpu.getRegs(); ; ) {
        const outcome = this.#continue(program, options)
        const regs = this.#sync.getRegs()
        yield { rip, text: program.sourceAt(rip), regs }
        if (outcome.exit?.type !== 'debug') return outcome
        rip = regs.rip
      }
    } finally {
      this.vcpu.debugGuest()
    }
  }

  #begin(source: Source, options: RunGuestOptions): Program {
    const program = this.assemble(source)
    this.#program = program
    this.memory.write(layout.CODE, program.bytes)
    this.#values = []
    this.#finishInstruction()
    const start = { rsp: this.stack, rip: this.code, rflags: RFLAGS }
    this.vcpu.setSregs({ ...this.#pristine.sregs, ...options.sregs })
    this.vcpu.setRegs({ ...ZERO, ...start, ...options.regs })
    return program
  }

  /** Goes on after an {@link Outcome} of the kind `exit` or `timeout`. */
  resume(options: RunGuestOptions = {}): Outcome {
    if (!this.#program) throw new Error('nothing was run yet')
    return this.#continue(this.#program, options)
  }

  /**
   * Lets an exception or interrupt go to a handler of the test's own, in ring 0; it may return by
   * IRET. It stays until {@link reset}.
   */
  handle(vector: number, handler: Source): void {
    const { bits, long } = this.#mode
    const program = assemble(handler.source, {
      bits: long ? 64 : bits,
      origin: BigInt(this.#handlers),
      constants: { data: this.data, stack: this.stack },
    })
    // They grow from the end of the room for code up, under the stack.
    if (this.#handlers + program.bytes.length > layout.CODE_END + 0x1000) {
      throw new RangeError('the handlers take more than 4096 bytes')
    }
    this.memory.write(this.#handlers, program.bytes)
    writeGate(this.memory, this.#mode, vector, this.#handlers)
    this.#handlers += program.bytes.length
  }

  /** The page tables, undefined where the mode has none. What is changed lasts until a reset. */
  get pages(): PageTableBuilder | undefined {
    this.#pages ??= mapRam(this.memory, this.#mode, this.memory.size)
    return this.#pages
  }

  /** Where the entry lies that maps the page, and what it holds; undefined where nothing is mapped. */
  pageEntry(linear: bigint): { gpa: number; entry: bigint } | undefined {
    const walk = walkPageTables(this.memory, this.#pristine.sregs, linear)
    const last = walk.levels.at(-1)
    return walk.fault || !last ? undefined : { gpa: last.entryGpa, entry: last.entry }
  }

  /** Sets bits of a page's entry that {@link pages} knows no name for, or takes them away. */
  changePageEntry(linear: bigint, change: (entry: bigint) => bigint): void {
    const found = this.pageEntry(linear)
    if (!found) throw new RangeError(`0x${linear.toString(16)} is not mapped`)
    if (this.mode === 'paging32') this.memory.writeU32(found.gpa, Number(change(found.entry)))
    else this.memory.writeU64(found.gpa, change(found.entry))
  }

  /** RAM and registers become what they were when the guest was made. */
  reset(): void {
    this.#finishInstruction()
    this.#pristine.restore()
    this.#pages = undefined
    this.#handlers = layout.CODE_END
    this.#program = undefined
  }

  /** An exit's instruction is completed, so that it does not reach into what comes next. */
  #finishInstruction(): void {
    while (this.vcpu.completeIo() !== undefined);
  }

  #continue(program: Program, options: RunGuestOptions): Outcome {
    const { timeoutMs = 1000, onExit } = options
    const end = performance.now() + timeoutMs
    for (;;) {
      const left = end - performance.now()
      if (left <= 0) return this.#outcome('timeout', program, {})
      const exit = this.vcpu.run({ timeoutMs: left })
      if (exit.type === 'intr') continue
      if (exit.type === 'io' && exit.isWrite) {
        if (exit.port === layout.PORT_DONE) return this.#outcome('done', program, {})
        if (exit.port === layout.PORT_VECTOR) {
          return this.#outcome('raised', program, { raised: this.#raised() })
        }
        if (exit.port === layout.PORT_VALUE) {
          this.#values.push(exit.value)
          continue
        }
      }
      if (!onExit?.(exit)) return this.#outcome('exit', program, { exit: copyExit(exit) })
    }
  }

  #outcome(
    kind: Outcome['kind'],
    program: Program,
    { raised, exit }: { raised?: Raised; exit?: ExitFields },
  ): Outcome {
    const at = this.#sync.getRegs()
    const regs = raised
      ? { ...at, rip: raised.rip, rflags: raised.rflags, rsp: raised.rsp ?? at.rsp }
      : at
    const sregs = this.#sync.getSregs()
    return { kind, raised, exit, regs, sregs, values: this.#values, program }
  }

  /** Reads the frame that the processor pushed for the entry point where the vCPU stands. */
  #raised(): Raised {
    const { rip, rsp } = this.#sync.getRegs()
    const sregs = this.#sync.getSregs()
    const vector = vectorAt(rip)!
    const { long, protected: isProtected } = this.#mode
    const size = long ? 8 : isProtected ? 4 : 2
    const exception = exceptionByVector(vector)
    const hasError = isProtected && exception?.hasErrorCode === true
    const stack = isProtected ? rsp : sregs.ss.base + (rsp & 0xffffn)
    const word = (i: number): bigint => {
      const bytes = this.memory.read(Number(stack) + i * size, size)
      return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n)
    }
    const frame = hasError ? 1 : 0
    const cs = Number(word(frame + 1))
    // Without a change of ring, only long mode pushes the stack pointer.
    const pushed = long || (isProtected && (cs & 3) !== 0)
    return {
      vector,
      name: exception?.mnemonic ?? `INT 0x${vector.toString(16)}`,
      errorCode: hasError ? Number(word(0)) : undefined,
      rip: word(frame),
      cs,
      rflags: word(frame + 2),
      rsp: pushed ? word(frame + 3) : rsp + BigInt((frame + 3) * size),
      cr2: vector === 14 ? sregs.cr2 : undefined,
    }
  }

  /** Closes the VM and its parts. The guest cannot be used any more. */
  close(): void {
    for (const part of [this.vcpu, this.vm, this.memory, this.kvm]) part?.close()
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
    taskBusy = probe.run(asm``).kind === 'done'
  }
  return taskBusy
}

const ZERO: KvmRegs = {
  rax: 0n,
  rbx: 0n,
  rcx: 0n,
  rdx: 0n,
  rsi: 0n,
  rdi: 0n,
  rsp: 0n,
  rbp: 0n,
  r8: 0n,
  r9: 0n,
  r10: 0n,
  r11: 0n,
  r12: 0n,
  r13: 0n,
  r14: 0n,
  r15: 0n,
  rip: 0n,
  rflags: 0n,
}

/**
 * Makes a guest. Close it, or declare it by `using`.
 *
 * @throws KvmError what the kernel refuses; `ERR_KVM_CAP_MISSING` with the mode where it cannot be
 *   entered.
 */
export async function guest(options: GuestOptions = {}): Promise<TestGuest> {
  await registerMatchers()
  return new TestGuest(options)
}
