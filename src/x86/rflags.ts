// RFLAGS as a bit table. Bit 1 always reads as 1 and has no name in the manuals; here it is
// `fixed1`, so that a table-driven encoder can produce legal values.

import { field, flag } from './bitfields.js'

/** RFLAGS. Source: SDM vol. 1 §3.4.3 and vol. 3A §2.3; APM vol. 2 §3.1.6. */
export const RFLAGS = {
  /** Carry. */
  CF: flag(0),
  /** Always 1. */
  fixed1: flag(1),
  /** Parity. */
  PF: flag(2),
  /** Auxiliary carry. */
  AF: flag(4),
  /** Zero. */
  ZF: flag(6),
  /** Sign. */
  SF: flag(7),
  /** Trap: single-step. */
  TF: flag(8),
  /** Interrupt enable. */
  IF: flag(9),
  /** Direction. */
  DF: flag(10),
  /** Overflow. */
  OF: flag(11),
  /** I/O privilege level. */
  IOPL: field(12, 2),
  /** Nested task. */
  NT: flag(14),
  /** Resume: instruction breakpoints are off for one instruction. */
  RF: flag(16),
  /** Virtual-8086 mode. */
  VM: flag(17),
  /** Alignment check; with SMAP, permission for supervisor access to user pages. */
  AC: flag(18),
  /** Virtual interrupt flag. */
  VIF: flag(19),
  /** Virtual interrupt pending. */
  VIP: flag(20),
  /** CPUID instruction present when it can be toggled. */
  ID: flag(21),
}

/** RFLAGS after reset: only the bit that is always 1. Source: SDM vol. 3A §10.1.1, table 10-1. */
export const RFLAGS_RESET = 0x2n
