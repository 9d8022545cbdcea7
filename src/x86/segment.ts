// A segment register with its hidden part, as KVM_GET/SET_SREGS exchange it, and the values that
// real-mode, protected-mode and long-mode guests start with.

import { checkInteger } from './out-of-range.js'

/**
 * `struct kvm_segment` (KVM API, KVM_GET_SREGS). `limit` is in bytes and already scaled by `g`;
 * `base` is a linear address. The flags are 0 or 1.
 */
export interface Segment {
  base: bigint
  /** Highest valid offset, in bytes. */
  limit: number
  selector: number
  /** Descriptor type, 4 bits: see {@link SEGMENT_TYPE} and {@link SYSTEM_TYPE}. */
  type: number
  present: number
  /** Descriptor privilege level. */
  dpl: number
  /** Default operation size 32-bit. */
  db: number
  /** 1 for code and data, 0 for system segments. */
  s: number
  /** 64-bit code. */
  l: number
  /** Limit counts in 4 KiB units in the descriptor. */
  g: number
  avl: number
  /** The register holds no usable segment (loaded with a null selector). */
  unusable: number
}

/** `struct kvm_dtable`: GDTR or IDTR. `limit` is the table's size in bytes minus one. */
export interface DescriptorTableRegister {
  base: bigint
  limit: number
}

/** Types of code and data segments (`s` = 1). Source: SDM vol. 3A §3.4.5.1, table 3-1. */
export const SEGMENT_TYPE = {
  dataReadOnly: 0x0,
  dataReadOnlyAccessed: 0x1,
  dataReadWrite: 0x2,
  dataReadWriteAccessed: 0x3,
  dataReadOnlyExpandDown: 0x4,
  dataReadOnlyExpandDownAccessed: 0x5,
  dataReadWriteExpandDown: 0x6,
  dataReadWriteExpandDownAccessed: 0x7,
  codeExecuteOnly: 0x8,
  codeExecuteOnlyAccessed: 0x9,
  codeExecuteRead: 0xa,
  codeExecuteReadAccessed: 0xb,
  codeExecuteOnlyConforming: 0xc,
  codeExecuteOnlyConformingAccessed: 0xd,
  codeExecuteReadConforming: 0xe,
  codeExecuteReadConformingAccessed: 0xf,
} as const

/**
 * Types of system segments and gates (`s` = 0); in long mode the 32-bit types mean 64-bit ones and
 * the 16-bit ones are invalid. Source: SDM vol. 3A §3.5, table 3-2.
 */
export const SYSTEM_TYPE = {
  tss16Available: 0x1,
  ldt: 0x2,
  tss16Busy: 0x3,
  callGate16: 0x4,
  taskGate: 0x5,
  interruptGate16: 0x6,
  trapGate16: 0x7,
  tssAvailable: 0x9,
  tssBusy: 0xb,
  callGate: 0xc,
  interruptGate: 0xe,
  trapGate: 0xf,
} as const

const FLAT: Segment = {
  base: 0n,
  limit: 0xffffffff,
  selector: 0,
  type: SEGMENT_TYPE.dataReadWriteAccessed,
  present: 1,
  dpl: 0,
  db: 1,
  s: 1,
  l: 0,
  g: 1,
  avl: 0,
  unusable: 0,
}

/** 64-bit code over the whole address space; `dpl` is taken from the selector's RPL. */
export function flatCode64(selector = 0x8): Segment {
  return { ...flatCode32(selector), db: 0, l: 1 }
}

/** 32-bit code from 0 to 4 GiB. */
export function flatCode32(selector = 0x8): Segment {
  const type = SEGMENT_TYPE.codeExecuteReadAccessed
  return { ...FLAT, selector, dpl: selector & 3, type }
}

/** Writable data from 0 to 4 GiB; in 64-bit mode the limit means nothing. */
export function flatData(selector = 0x10): Segment {
  return { ...FLAT, selector, dpl: selector & 3 }
}

/**
 * A real-mode segment: base is the selector times 16, limit 64 KiB. Source: SDM vol. 3A §21.1.1;
 * the types are those of reset, §10.1.1, table 10-1.
 *
 * @param selector 0 to 0xffff
 * @param use `'code'` for CS
 */
export function realModeSegment(selector: number, use: 'code' | 'data' = 'data'): Segment {
  checkInteger('selector', selector, 0, 0xffff)
  const type =
    use === 'code' ? SEGMENT_TYPE.codeExecuteReadAccessed : SEGMENT_TYPE.dataReadWriteAccessed
  return { ...FLAT, base: BigInt(selector * 16), limit: 0xffff, selector, type, db: 0, g: 0 }
}

/** CS after reset: selector 0xf000, base 0xffff0000. Source: SDM vol. 3A §10.1.1, table 10-1. */
export function resetCodeSegment(): Segment {
  return { ...realModeSegment(0xf000, 'code'), base: 0xffff0000n }
}

/**
 * A busy task-state segment for TR, which KVM and VMX require even of guests that never use it.
 *
 * @param base linear address of the TSS
 * @param limit highest offset in bytes; 0x67 is a TSS without I/O bitmap
 */
export function taskStateSegment(base: bigint, limit = 0x67, selector = 0): Segment {
  return { ...unusableSegment(), base, limit, selector, type: SYSTEM_TYPE.tssBusy, ...PRESENT }
}

/** An LDT segment for LDTR. `base` is a linear address, `limit` the highest offset in bytes. */
export function localDescriptorTable(base: bigint, limit: number, selector: number): Segment {
  return { ...unusableSegment(), base, limit, selector, type: SYSTEM_TYPE.ldt, ...PRESENT }
}

const PRESENT = { present: 1, unusable: 0 }

/** A register loaded with a null selector: any use faults. LDTR of most guests. */
export function unusableSegment(): Segment {
  return {
    base: 0n,
    limit: 0,
    selector: 0,
    type: 0,
    present: 0,
    dpl: 0,
    db: 0,
    s: 0,
    l: 0,
    g: 0,
    avl: 0,
    unusable: 1,
  }
}
