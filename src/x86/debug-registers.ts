// DR6 and DR7. Some DR6 bits are active low: BLD and RTM read 1 when the event did NOT happen.

import { type ChoiceField, choice, flag } from './bitfields.js'

/** DR6, debug status. Source: SDM vol. 3B §18.2.3; APM vol. 2 §13.1.1.3. */
export const DR6 = {
  /** Breakpoint 0 was met. */
  B0: flag(0),
  /** Breakpoint 1 was met. */
  B1: flag(1),
  /** Breakpoint 2 was met. */
  B2: flag(2),
  /** Breakpoint 3 was met. */
  B3: flag(3),
  /** Bus lock detected, active low: 0 says the #DB came from a bus lock. */
  BLD: flag(11),
  /** Debug register access detected. */
  BD: flag(13),
  /** Single step. */
  BS: flag(14),
  /** Task switch. */
  BT: flag(15),
  /** Restricted transactional memory, active low: 0 says the #DB came inside a transaction. */
  RTM: flag(16),
}

/** DR6 after reset: bits fixed to 1 and both active-low bits. Source: SDM vol. 3A table 10-1. */
export const DR6_RESET = 0xffff0ff0n

/** DR7 after reset: only bit 10, which is fixed to 1. Source: SDM vol. 3A table 10-1. */
export const DR7_RESET = 0x400n

function condition(lsb: number): ChoiceField<'execute' | 'write' | 'io' | 'readWrite'> {
  return choice(lsb, 2, { execute: 0, write: 1, io: 2, readWrite: 3 })
}

// The encoding is not monotonic: 8 bytes took the value that 32-bit processors left undefined.
function length(lsb: number): ChoiceField<'1' | '2' | '8' | '4'> {
  return choice(lsb, 2, { '1': 0, '2': 1, '8': 2, '4': 3 })
}

/**
 * DR7, debug control. `RWn` chooses what breaks (`io` needs CR4.DE), `LENn` the length in bytes
 * (execution breakpoints need `'1'`). Source: SDM vol. 3B §18.2.4; APM vol. 2 §13.1.1.4.
 */
export const DR7 = {
  /** Local enable of breakpoint 0. */
  L0: flag(0),
  /** Global enable of breakpoint 0. */
  G0: flag(1),
  L1: flag(2),
  G1: flag(3),
  L2: flag(4),
  G2: flag(5),
  L3: flag(6),
  G3: flag(7),
  /** Local exact breakpoint (ignored since P6). */
  LE: flag(8),
  /** Global exact breakpoint (ignored since P6). */
  GE: flag(9),
  /** Always 1. */
  fixed1: flag(10),
  /** Debugging inside transactional regions. */
  RTM: flag(11),
  /** General detect: #DB on access to debug registers. */
  GD: flag(13),
  RW0: condition(16),
  LEN0: length(18),
  RW1: condition(20),
  LEN1: length(22),
  RW2: condition(24),
  LEN2: length(26),
  RW3: condition(28),
  LEN3: length(30),
}
