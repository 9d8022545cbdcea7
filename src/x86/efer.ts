// The extended feature enable register, apart from the other MSRs because every mode decision
// (paging, segments, register setup) needs it.

import { flag } from './bitfields.js'

/** IA32_EFER (MSR 0xC0000080). Source: SDM vol. 3A §2.2.1; APM vol. 2 §3.1.7. */
export const EFER = {
  /** SYSCALL and SYSRET enable. */
  SCE: flag(0),
  /** Long mode enable. */
  LME: flag(8),
  /** Long mode active (set by the processor when paging turns on with LME). */
  LMA: flag(10),
  /** No-execute enable. */
  NXE: flag(11),
  /** AMD: secure virtual machine enable. */
  SVME: flag(12),
  /** AMD: long mode segment limit enable. */
  LMSLE: flag(13),
  /** AMD: fast FXSAVE and FXRSTOR. */
  FFXSR: flag(14),
  /** AMD: translation cache extension. */
  TCE: flag(15),
  /** AMD: MCOMMIT enable. */
  MCOMMIT: flag(17),
  /** AMD: interruptible WBINVD and WBNOINVD. */
  INTWB: flag(18),
  /** AMD: upper address ignore. */
  UAIE: flag(20),
  /** AMD: automatic IBRS. */
  AIBRSE: flag(21),
}
