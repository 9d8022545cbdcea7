// The state-component bitmaps of XSAVE: XCR0 for user state, IA32_XSS for supervisor state. They
// share one numbering, so a component has one bit in exactly one of the two.

import { flag } from './bitfields.js'

/** XCR0. Source: SDM vol. 1 §13.1 and vol. 3A §2.6; LWP: APM vol. 2 §11.5.2. */
export const XCR0 = {
  /** x87 state, always 1. */
  X87: flag(0),
  /** XMM registers and MXCSR. */
  SSE: flag(1),
  /** Upper halves of the YMM registers. */
  AVX: flag(2),
  /** MPX bound registers BND0-BND3. */
  BNDREGS: flag(3),
  /** MPX BNDCFGU and BNDSTATUS. */
  BNDCSR: flag(4),
  /** AVX-512 mask registers k0-k7. */
  OPMASK: flag(5),
  /** Upper halves of ZMM0-ZMM15. */
  ZMM_Hi256: flag(6),
  /** ZMM16-ZMM31. */
  Hi16_ZMM: flag(7),
  /** Protection-key rights register. */
  PKRU: flag(9),
  /** AMX tile configuration. */
  TILECFG: flag(17),
  /** AMX tile data. */
  TILEDATA: flag(18),
  /** APX registers R16-R31. */
  APX: flag(19),
  /** AMD lightweight profiling. */
  LWP: flag(62),
}

/** IA32_XSS (MSR 0xDA0). Source: SDM vol. 1 §13.1; vol. 4 table 2-2. */
export const XSS = {
  /** Intel Processor Trace. */
  PT: flag(8),
  /** Process address space identifier. */
  PASID: flag(10),
  /** CET user-mode state. */
  CET_U: flag(11),
  /** CET supervisor-mode shadow-stack pointers. */
  CET_S: flag(12),
  /** Hardware duty cycling. */
  HDC: flag(13),
  /** User interrupts. */
  UINTR: flag(14),
  /** Architectural last-branch records. */
  LBR: flag(15),
  /** Hardware P-states. */
  HWP: flag(16),
}
