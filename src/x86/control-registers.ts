// The control registers as bit tables, in the order of ascending bits so that `describeBits` reads
// like the manual's figure.

import { address, field, flag } from './bitfields.js'

/** CR0. Source: SDM vol. 3A §2.5; APM vol. 2 §3.1.1. */
export const CR0 = {
  /** Protection enable. */
  PE: flag(0),
  /** Monitor coprocessor: WAIT/FWAIT obey TS. */
  MP: flag(1),
  /** Emulation: no x87 FPU, its instructions raise #NM. */
  EM: flag(2),
  /** Task switched: FPU and SIMD instructions raise #NM. */
  TS: flag(3),
  /** Extension type: fixed to 1 since the 486. */
  ET: flag(4),
  /** Numeric error: native x87 error reporting (#MF). */
  NE: flag(5),
  /** Write protect: supervisor writes obey read-only pages. */
  WP: flag(16),
  /** Alignment mask: #AC possible when EFLAGS.AC is set too. */
  AM: flag(18),
  /** Not write-through. */
  NW: flag(29),
  /** Cache disable. */
  CD: flag(30),
  /** Paging. */
  PG: flag(31),
}

/**
 * CR3 of 4- and 5-level paging with CR4.PCIDE = 1; with PCIDE = 0 bits 3 and 4 of `PCID` are PWT
 * and PCD (see {@link CR3_NO_PCID}). Source: SDM vol. 3A §4.5.2, tables 4-12 and 4-13; LAM: ISE
 * reference, "Linear Address Masking".
 */
export const CR3 = {
  /** Process-context identifier. */
  PCID: field(0, 12),
  /** Guest-physical address of the top table (PML4 or PML5). */
  base: address(12, 40),
  /** Linear-address masking for user pointers, bits 62:57 ignored. */
  LAM_U57: flag(61),
  /** Linear-address masking for user pointers, bits 62:48 ignored. */
  LAM_U48: flag(62),
  /** In the source operand of MOV to CR3 with PCIDE = 1 only: keep the TLB entries of this PCID. */
  noFlush: flag(63),
}

/** CR3 of 4- and 5-level paging with CR4.PCIDE = 0. Source: SDM vol. 3A §4.5.2, table 4-12. */
export const CR3_NO_PCID = {
  /** Write-through access to the top table. */
  PWT: flag(3),
  /** Cache-disabled access to the top table. */
  PCD: flag(4),
  base: address(12, 40),
  LAM_U57: flag(61),
  LAM_U48: flag(62),
}

/** CR3 of PAE paging. Source: SDM vol. 3A §4.4.1, table 4-7. */
export const CR3_PAE = {
  /** Guest-physical address of the four PDPTEs, 32-byte aligned, below 4 GiB. */
  base: address(5, 27),
}

/** CR3 of 32-bit paging. Source: SDM vol. 3A §4.3, table 4-3. */
export const CR3_32BIT = {
  PWT: flag(3),
  PCD: flag(4),
  /** Guest-physical address of the page directory, below 4 GiB. */
  base: address(12, 20),
}

/** CR4. Source: SDM vol. 3A §2.5; APM vol. 2 §3.1.3. */
export const CR4 = {
  /** Virtual-8086 mode extensions. */
  VME: flag(0),
  /** Protected-mode virtual interrupts. */
  PVI: flag(1),
  /** Time stamp disable: RDTSC needs CPL 0. */
  TSD: flag(2),
  /** Debugging extensions. */
  DE: flag(3),
  /** Page size extensions: 4 MiB pages in 32-bit paging. */
  PSE: flag(4),
  /** Physical address extension: 64-bit page-table entries. */
  PAE: flag(5),
  /** Machine-check enable. */
  MCE: flag(6),
  /** Page global enable. */
  PGE: flag(7),
  /** Performance-monitoring counter enable: RDPMC at any CPL. */
  PCE: flag(8),
  /** OS supports FXSAVE and FXRSTOR: SSE usable. */
  OSFXSR: flag(9),
  /** OS handles #XM. */
  OSXMMEXCPT: flag(10),
  /** User-mode instruction prevention. */
  UMIP: flag(11),
  /** 57-bit linear addresses: 5-level paging. */
  LA57: flag(12),
  /** VMX enable. */
  VMXE: flag(13),
  /** SMX enable. */
  SMXE: flag(14),
  /** RDFSBASE and relatives at any CPL. */
  FSGSBASE: flag(16),
  /** PCID enable. */
  PCIDE: flag(17),
  /** XSAVE and extended states enable. */
  OSXSAVE: flag(18),
  /** Key Locker enable. */
  KL: flag(19),
  /** Supervisor-mode execution prevention. */
  SMEP: flag(20),
  /** Supervisor-mode access prevention. */
  SMAP: flag(21),
  /** Protection keys for user-mode pages. */
  PKE: flag(22),
  /** Control-flow enforcement. */
  CET: flag(23),
  /** Protection keys for supervisor-mode pages. */
  PKS: flag(24),
  /** User interrupts enable. */
  UINTR: flag(25),
  /** Linear-address space separation. */
  LASS: flag(27),
  /** Linear-address masking for supervisor pointers. */
  LAM_SUP: flag(28),
  /** Flexible return and event delivery. */
  FRED: flag(32),
}

/** CR8, the task priority register of 64-bit mode. Source: SDM vol. 3A §2.5 and §11.8.6. */
export const CR8 = {
  /** Task priority class: interrupts of this class and below wait. */
  TPL: field(0, 4),
}
