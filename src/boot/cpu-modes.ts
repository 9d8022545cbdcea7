// The three processor states in which a guest can start, with the tables in guest memory that they
// need. Selectors follow the Linux boot protocol (__BOOT_CS, __BOOT_DS); other guests may load
// their own.

import { encodeBits } from '../x86/bitfields.js'
import { CR0, CR4 } from '../x86/control-registers.js'
import { EFER } from '../x86/efer.js'
import { RFLAGS_RESET } from '../x86/rflags.js'
import {
  flatCode32,
  flatCode64,
  flatData,
  realModeSegment,
  type Segment,
  taskStateSegment,
  unusableSegment,
} from '../x86/segment.js'
import {
  descriptorTable,
  encodeSegmentDescriptor,
  encodeSystemDescriptor64,
  nullDescriptor,
} from '../x86/segment-descriptor.js'
import type { BootRegs, BootSregs, CpuBootState } from './boot-state.js'
import { BYTES_PER_PAGE, GDT_GPA, PAGE_TABLES_GPA, PAGE_TABLES_SIZE } from './layout.js'
import type { LoadPlan } from './load-plan.js'

/** Selector of the flat code segment; the Linux boot protocol requires 0x10. */
export const BOOT_CS = 0x10
/** Selector of the flat data segment; the Linux boot protocol requires 0x18. */
export const BOOT_DS = 0x18
/** Selector of the task-state segment, whose descriptor fills two slots of the GDT. */
export const BOOT_TSS = 0x20
const GDT_SIZE = 0x30

// Page-table entry bits (SDM vol. 3A §4.5).
const PTE_PRESENT_WRITABLE = 0x3n
const PDE_2M = 0x80n
const BYTES_PER_2M = 0x20_0000
const ENTRIES_PER_TABLE = 512
const IDENTITY_DIRECTORIES = 4

/** 64-bit long mode with the identity map of the first 4 GiB. Needs `planLongModeTables`. */
export function longMode(regs: BootRegs): CpuBootState {
  const sregs = {
    cr0: encodeBits(CR0, { PE: true, ET: true, PG: true }),
    cr3: BigInt(PAGE_TABLES_GPA),
    cr4: encodeBits(CR4, { PAE: true }),
    efer: encodeBits(EFER, { LME: true, LMA: true }),
    ...flatSegments(flatCode64(BOOT_CS)),
  }
  return { mode: 'long', regs: { rflags: RFLAGS_RESET, ...regs }, sregs }
}

/** 32-bit protected mode, flat segments, paging off. Needs `planGdt`. */
export function protectedMode(regs: BootRegs): CpuBootState {
  const cr0 = encodeBits(CR0, { PE: true, ET: true })
  const sregs = { cr0, ...PAGING_OFF, ...flatSegments(flatCode32(BOOT_CS)) }
  return { mode: 'protected', regs: { rflags: RFLAGS_RESET, ...regs }, sregs }
}

/** 16-bit real mode with the given code segment value; the other segments are 0. */
export function realMode(csSelector: number, regs: BootRegs): CpuBootState {
  const sregs: BootSregs = {
    cr0: encodeBits(CR0, { ET: true }),
    ...PAGING_OFF,
    ...dataSegments(realModeSegment(0)),
    cs: realModeSegment(csSelector, 'code'),
    tr: taskStateSegment(0n, 0xffff),
    ldt: unusableSegment(),
    gdt: { base: 0n, limit: 0xffff },
    // The real-mode interrupt vector table: 256 far pointers at 0.
    idt: { base: 0n, limit: 0x3ff },
  }
  return { mode: 'real', regs: { rflags: RFLAGS_RESET, ...regs }, sregs }
}

const PAGING_OFF = { cr3: 0n, cr4: 0n, efer: 0n }

function dataSegments(data: Segment) {
  return { ds: { ...data }, es: { ...data }, fs: { ...data }, gs: { ...data }, ss: { ...data } }
}

function flatSegments(cs: Segment) {
  return {
    cs,
    ...dataSegments(flatData(BOOT_DS)),
    tr: taskStateSegment(0n, undefined, BOOT_TSS),
    ldt: unusableSegment(),
    gdt: { base: BigInt(GDT_GPA), limit: GDT_SIZE - 1 },
    // No handlers yet: an exception before the guest has its own IDT must shut it down at once.
    idt: { base: 0n, limit: 0 },
  }
}

/** Claims and fills the GDT that goes with {@link protectedMode} or {@link longMode}. */
export function planGdt(plan: LoadPlan, mode: 'protected' | 'long'): void {
  const code = mode === 'long' ? flatCode64(BOOT_CS) : flatCode32(BOOT_CS)
  const table = descriptorTable([
    nullDescriptor(),
    nullDescriptor(),
    encodeSegmentDescriptor(code),
    encodeSegmentDescriptor(flatData(BOOT_DS)),
    encodeSystemDescriptor64(taskStateSegment(0n, undefined, BOOT_TSS)),
  ])
  plan.claim('GDT', GDT_GPA, BYTES_PER_PAGE)
  plan.zero(GDT_GPA, BYTES_PER_PAGE)
  plan.write(GDT_GPA, table)
}

/** Claims and fills the GDT and the identity map that {@link longMode} names. */
export function planLongModeTables(plan: LoadPlan): void {
  planGdt(plan, 'long')
  plan.claim('page tables', PAGE_TABLES_GPA, PAGE_TABLES_SIZE)
  plan.write(PAGE_TABLES_GPA, identityMap())
}

/** PML4, PDPT and four page directories of 2 MiB pages, at {@link PAGE_TABLES_GPA}. */
function identityMap(): Uint8Array {
  const tables = new BigUint64Array(PAGE_TABLES_SIZE / 8)
  const tableGpa = (index: number) => BigInt(PAGE_TABLES_GPA + index * BYTES_PER_PAGE)
  tables[0] = tableGpa(1) | PTE_PRESENT_WRITABLE
  for (let i = 0; i < IDENTITY_DIRECTORIES; i++) {
    tables[ENTRIES_PER_TABLE + i] = tableGpa(2 + i) | PTE_PRESENT_WRITABLE
  }
  for (let i = 0; i < IDENTITY_DIRECTORIES * ENTRIES_PER_TABLE; i++) {
    tables[2 * ENTRIES_PER_TABLE + i] = BigInt(i * BYTES_PER_2M) | PDE_2M | PTE_PRESENT_WRITABLE
  }
  return new Uint8Array(tables.buffer)
}
