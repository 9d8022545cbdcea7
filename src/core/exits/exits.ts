// Why KVM_RUN came back, as a discriminated union over the vCPU's shared kvm_run page. Each vCPU has
// one object per exit type, made at the first such exit; it reads the page when a field is asked
// for, so an exit costs no allocation and its fields are those of the latest exit only.
// Offsets are those of struct kvm_run (linux/kvm.h); a test compares them with the generated layout.

import { StructView } from '../../uapi/index.js'
import * as rare from './rare-exits.js'

/** Port I/O (`KVM_EXIT_IO`). The instruction completes on the next entry into the guest. */
export class IoExit {
  readonly type = 'io'
  readonly #page: StructView
  constructor(page: StructView) {
    this.#page = page
  }
  /** `'out'` when the guest writes. */
  get direction(): 'in' | 'out' {
    return this.#page.u8[32] === 1 ? 'out' : 'in'
  }
  /** Whether the guest writes to the port (OUT). */
  get isWrite(): boolean {
    return this.#page.u8[32] === 1
  }
  /** Bytes of one access: 1, 2 or 4. */
  get size(): number {
    return this.#page.u8[33]!
  }
  /** The port, 0 to 0xffff. */
  get port(): number {
    return this.#page.u16[17]!
  }
  /** How many accesses of `size` bytes; more than 1 for string instructions (INS, OUTS) only. */
  get count(): number {
    return this.#page.u32[9]!
  }
  /** All `count * size` bytes, in the page itself: read them for OUT, write them for IN. */
  get data(): Uint8Array {
    const offset = this.#page.u32[10]!
    return this.#page.u8.subarray(offset, offset + this.size * this.count)
  }
  /** The value of the first access. */
  get value(): number {
    const page = this.#page
    const offset = page.u32[10]!
    switch (page.u8[33]) {
      case 1:
        return page.u8[offset]!
      case 2:
        return page.u16[offset >>> 1]!
      default:
        return page.u32[offset >>> 2]!
    }
  }
  /** Answers an IN; bits above `size` bytes are dropped. */
  set value(value: number) {
    const page = this.#page
    const offset = page.u32[10]!
    switch (page.u8[33]) {
      case 1:
        page.u8[offset] = value
        break
      case 2:
        page.u16[offset >>> 1] = value
        break
      default:
        page.u32[offset >>> 2] = value
    }
  }
}

/**
 * Access to guest-physical memory without a slot, or a write to a read-only one (`KVM_EXIT_MMIO`).
 * The instruction completes on the next entry into the guest.
 */
export class MmioExit {
  readonly type = 'mmio'
  readonly #page: StructView
  /** The 8 data bytes in the page itself; `length` of them count. Write them to answer a read. */
  readonly data: Uint8Array
  constructor(page: StructView) {
    this.#page = page
    this.data = page.u8.subarray(40, 48)
  }
  /** Guest-physical address. */
  get gpa(): number {
    const { u32 } = this.#page
    return u32[8]! + u32[9]! * 0x1_0000_0000
  }
  /** Bytes of the access, 1 to 8. */
  get length(): number {
    return this.#page.u32[12]!
  }
  get isWrite(): boolean {
    return this.#page.u8[52] !== 0
  }
  /** The lower (or only) 32 bits of the access as a number; see `value64` for 8-byte accesses. */
  get value(): number {
    switch (this.#page.u32[12]) {
      case 1:
        return this.#page.u8[40]!
      case 2:
        return this.#page.u16[20]!
      case 3:
        return this.#page.u32[10]! & 0xff_ffff
      default:
        return this.#page.u32[10]!
    }
  }
  /** Answers a read of up to 4 bytes; of 8 bytes, it clears the upper half. */
  set value(value: number) {
    this.#page.u32[10] = value
    this.#page.u32[11] = 0
  }
  /** All 8 data bytes, little endian. */
  get value64(): bigint {
    return this.#page.u64[5]!
  }
  set value64(value: bigint) {
    this.#page.u64[5] = value
  }
}

/** The guest executed HLT and the LAPIC is not in the kernel (`KVM_EXIT_HLT`). */
export class HltExit {
  readonly type = 'hlt'
}

/** A triple fault, or an INIT the VMM must handle (`KVM_EXIT_SHUTDOWN`). */
export class ShutdownExit {
  readonly type = 'shutdown'
}

/** `request_interrupt_window` was set and an interrupt can be injected (`KVM_EXIT_IRQ_WINDOW_OPEN`). */
export class IrqWindowOpenExit {
  readonly type = 'irqWindowOpen'
}

/** The run was ended from outside: `kick()`, `timeoutMs` (`KVM_EXIT_INTR`). The guest can go on. */
export class IntrExit {
  readonly type = 'intr'
}

/** A breakpoint or single step of KVM_SET_GUEST_DEBUG (`KVM_EXIT_DEBUG`). */
export class DebugExit {
  readonly type = 'debug'
  readonly #page: StructView
  constructor(page: StructView) {
    this.#page = page
  }
  /** Exception vector: 1 (#DB) or 3 (#BP). */
  get exception(): number {
    return this.#page.u32[8]!
  }
  /** Linear address of the instruction. */
  get pc(): bigint {
    return this.#page.u64[5]!
  }
  get dr6(): bigint {
    return this.#page.u64[6]!
  }
  get dr7(): bigint {
    return this.#page.u64[7]!
  }
}

/** The hardware refused to enter the guest (`KVM_EXIT_FAIL_ENTRY`): mostly, its state is invalid. */
export class FailEntryExit {
  readonly type = 'failEntry'
  readonly #page: StructView
  constructor(page: StructView) {
    this.#page = page
  }
  /** VMX: the exit reason with bit 31; SVM: the error code of VMRUN. */
  get hardwareEntryFailureReason(): bigint {
    return this.#page.u64[4]!
  }
  /** The host CPU it happened on. */
  get cpu(): number {
    return this.#page.u32[10]!
  }
}

const INTERNAL_ERRORS: readonly (string | undefined)[] = [
  undefined,
  'KVM cannot emulate the instruction',
  'exceptions came at once that cannot',
  'an event could not be delivered',
  'the CPU left the guest for a reason KVM does not expect',
]

/** KVM could not go on (`KVM_EXIT_INTERNAL_ERROR`). */
export class InternalErrorExit {
  readonly type = 'internalError'
  readonly #page: StructView
  constructor(page: StructView) {
    this.#page = page
  }
  /** 1 emulation failure, 2 simultaneous exceptions, 3 event delivery failed, 4 unexpected exit. */
  get suberror(): number {
    return this.#page.u32[8]!
  }
  /** The words that `suberror` explains; a copy. */
  get data(): bigint[] {
    const count = Math.min(this.#page.u32[9]!, 16)
    return Array.from(this.#page.u64.subarray(5, 5 + count))
  }
  /** Of an emulation failure: `KVM_INTERNAL_ERROR_EMULATION_FLAG_*`; 0 for other errors. */
  get flags(): bigint {
    return this.suberror === 1 && this.#page.u32[9]! >= 1 ? this.#page.u64[5]! : 0n
  }
  /** The instruction that could not be emulated, as far as KVM fetched it; undefined otherwise. */
  get instruction(): Uint8Array | undefined {
    const { u8, u32 } = this.#page
    const known = u32[8] === 1 && u32[9]! >= 3 && (u32[10]! & 1) !== 0
    return known ? u8.slice(49, 49 + Math.min(u8[48]!, 15)) : undefined
  }
  /**
   * What went wrong, in words.
   *
   * @param disassemble Names an instruction from bytes that begin with it, for whoever has a decoder.
   */
  describe(disassemble?: (bytes: Uint8Array) => string | undefined): string {
    const { suberror, instruction } = this
    const what = INTERNAL_ERRORS[suberror] ?? `internal error ${suberror}`
    if (instruction === undefined) {
      const words = this.data.map((word) => `0x${word.toString(16)}`)
      return words.length === 0 ? what : `${what} (${words.join(', ')})`
    }
    const hex = Array.from(instruction, (byte) => byte.toString(16).padStart(2, '0')).join(' ')
    const name = disassemble?.(instruction)
    return `${what} at ${name === undefined ? '' : `\`${name}\`, `}bytes ${hex}`
  }
}

/** An MSR access that user space asked to see (`KVM_EXIT_X86_RDMSR`, `KVM_EXIT_X86_WRMSR`). */
export class MsrExit<Type extends 'rdmsr' | 'wrmsr' = 'rdmsr' | 'wrmsr'> {
  readonly type: Type
  readonly #page: StructView
  constructor(page: StructView, type: Type) {
    this.#page = page
    this.type = type
  }
  /** Why: `KVM_MSR_EXIT_REASON_INVAL` (1), `_UNKNOWN` (2) or `_FILTER` (4). */
  get reason(): number {
    return this.#page.u32[10]!
  }
  /** The MSR. */
  get index(): number {
    return this.#page.u32[11]!
  }
  /** What the guest writes, or the answer to its read. */
  get data(): bigint {
    return this.#page.u64[6]!
  }
  set data(value: bigint) {
    this.#page.u64[6] = value
  }
  /** Set it to make the access raise #GP in the guest. */
  get error(): boolean {
    return this.#page.u8[32] !== 0
  }
  set error(value: boolean) {
    this.#page.u8[32] = value ? 1 : 0
  }
}

/** A level interrupt was acknowledged; split irqchip only (`KVM_EXIT_IOAPIC_EOI`). */
export class IoApicEoiExit {
  readonly type = 'ioApicEoi'
  readonly #page: StructView
  constructor(page: StructView) {
    this.#page = page
  }
  get vector(): number {
    return this.#page.u8[32]!
  }
}

/**
 * Guest memory cannot be reached the way the guest wants it (`KVM_EXIT_MEMORY_FAULT`), the one exit
 * that comes with an error of KVM_RUN (EFAULT, EHWPOISON).
 */
export class MemoryFaultExit {
  readonly type = 'memoryFault'
  readonly #page: StructView
  constructor(page: StructView) {
    this.#page = page
  }
  /** `KVM_MEMORY_EXIT_FLAG_PRIVATE` (8) when the guest asked for private memory. */
  get flags(): bigint {
    return this.#page.u64[4]!
  }
  get gpa(): number {
    return Number(this.#page.u64[5])
  }
  get size(): number {
    return Number(this.#page.u64[6])
  }
}

/** An exit that this version does not know; see `reason` and the kernel's documentation. */
export class UnknownExit {
  readonly type = 'unknown'
  readonly #page: StructView
  constructor(page: StructView) {
    this.#page = page
  }
  /** `kvm_run.exit_reason`. */
  get reason(): number {
    return this.#page.u32[2]!
  }
  /** For reason 0, what the hardware reported. */
  get hardwareExitReason(): bigint {
    return this.#page.u64[4]!
  }
  /** The exit's 256 bytes of `kvm_run`; a copy. */
  get data(): Uint8Array {
    return this.#page.u8.slice(32, 288)
  }
}

/** Every way a run can end, told apart by `type`. */
export type Exit =
  | IoExit
  | MmioExit
  | HltExit
  | ShutdownExit
  | IrqWindowOpenExit
  | IntrExit
  | DebugExit
  | FailEntryExit
  | InternalErrorExit
  | MsrExit<'rdmsr'>
  | MsrExit<'wrmsr'>
  | IoApicEoiExit
  | MemoryFaultExit
  | UnknownExit
  | rare.RareExit

/** The names in {@link Exit}. */
export type ExitType = Exit['type']

type ExitFactory = (page: StructView) => Exit

const factories: readonly (ExitFactory | undefined)[] = Object.assign(new Array(44), {
  1: (page: StructView) => new rare.ExceptionExit(page),
  2: (page: StructView) => new IoExit(page),
  3: (page: StructView) => new rare.HypercallExit(page),
  4: (page: StructView) => new DebugExit(page),
  5: () => new HltExit(),
  6: (page: StructView) => new MmioExit(page),
  7: () => new IrqWindowOpenExit(),
  8: () => new ShutdownExit(),
  9: (page: StructView) => new FailEntryExit(page),
  10: () => new IntrExit(),
  11: (page: StructView) => new rare.SetTprExit(page),
  12: (page: StructView) => new rare.TprAccessExit(page),
  17: (page: StructView) => new InternalErrorExit(page),
  24: (page: StructView) => new rare.SystemEventExit(page),
  26: (page: StructView) => new IoApicEoiExit(page),
  27: (page: StructView) => new rare.HyperVExit(page),
  29: (page: StructView) => new MsrExit(page, 'rdmsr'),
  30: (page: StructView) => new MsrExit(page, 'wrmsr'),
  31: () => new rare.DirtyRingFullExit(),
  32: () => new rare.ApResetHoldExit(),
  33: () => new rare.BusLockExit(),
  34: (page: StructView) => new rare.XenExit(page),
  37: (page: StructView) => new rare.NotifyExit(page),
  39: (page: StructView) => new MemoryFaultExit(page),
  40: (page: StructView) => new rare.TdxExit(page),
  43: (page: StructView) => new rare.SnpReqCertsExit(page),
} satisfies Record<number, ExitFactory>)

const typeNames: ExitType[] = []

/** The type of exits with this `kvm_run.exit_reason`. */
export function exitTypeOf(reason: number): ExitType {
  typeNames[reason] ??= factories[reason]?.(new StructView(new ArrayBuffer(4096))).type ?? 'unknown'
  return typeNames[reason]
}

/** The exit objects of one vCPU, over its run page. */
export class ExitTable {
  readonly #page: StructView
  readonly #exits: (Exit | undefined)[] = new Array(44)
  readonly #unknown: UnknownExit

  constructor(page: StructView) {
    this.#page = page
    this.#unknown = new UnknownExit(page)
  }

  /** The object for what the page now says. */
  get current(): Exit {
    return this.#exits[this.#page.u32[2]!] ?? this.#create(this.#page.u32[2]!)
  }

  /** The exit that reports a run ended from outside. */
  get intr(): Exit {
    return this.#exits[10] ?? this.#create(10)
  }

  #create(reason: number): Exit {
    const exit = factories[reason]?.(this.#page) ?? this.#unknown
    if (reason < this.#exits.length) this.#exits[reason] = exit
    return exit
  }
}
