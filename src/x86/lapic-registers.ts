// The register file of the local APIC: where each register lies in the xAPIC's page and thereby in
// the x2APIC's MSRs and in kvm_lapic_state.

import { outOfRange } from './out-of-range.js'

/** One register of the local APIC. */
export interface LapicRegister {
  /** Offset in the xAPIC's register page, and in `kvm_lapic_state.regs`. */
  readonly offset: number
  /** Whether x2APIC mode has it, as MSR 0x800 plus a sixteenth of the offset. */
  readonly x2apic: boolean
  /** Whether xAPIC mode has it. */
  readonly xapic: boolean
}

function both(offset: number): LapicRegister {
  return { offset, x2apic: true, xapic: true }
}

function xapicOnly(offset: number): LapicRegister {
  return { offset, x2apic: false, xapic: true }
}

/**
 * Every register, by the names of the x2APIC MSRs (without `IA32_X2APIC_`). Source: SDM vol. 3A
 * §11.4.1, table 11-1, and §11.12.1.2, table 11-6.
 */
export const LAPIC_REGISTERS = {
  APICID: both(0x20),
  VERSION: both(0x30),
  TPR: both(0x80),
  APR: xapicOnly(0x90),
  PPR: both(0xa0),
  EOI: both(0xb0),
  RRD: xapicOnly(0xc0),
  LDR: both(0xd0),
  DFR: xapicOnly(0xe0),
  /** Spurious interrupt vector register. */
  SIVR: both(0xf0),
  ISR0: both(0x100),
  ISR1: both(0x110),
  ISR2: both(0x120),
  ISR3: both(0x130),
  ISR4: both(0x140),
  ISR5: both(0x150),
  ISR6: both(0x160),
  ISR7: both(0x170),
  TMR0: both(0x180),
  TMR1: both(0x190),
  TMR2: both(0x1a0),
  TMR3: both(0x1b0),
  TMR4: both(0x1c0),
  TMR5: both(0x1d0),
  TMR6: both(0x1e0),
  TMR7: both(0x1f0),
  IRR0: both(0x200),
  IRR1: both(0x210),
  IRR2: both(0x220),
  IRR3: both(0x230),
  IRR4: both(0x240),
  IRR5: both(0x250),
  IRR6: both(0x260),
  IRR7: both(0x270),
  ESR: both(0x280),
  LVT_CMCI: both(0x2f0),
  /** Low half of the interrupt command; all 64 bits of it in x2APIC mode. */
  ICR: both(0x300),
  /** High half of the interrupt command: the destination, in xAPIC mode. */
  ICR2: xapicOnly(0x310),
  LVT_TIMER: both(0x320),
  LVT_THERMAL: both(0x330),
  /** Performance-monitoring interrupt. */
  LVT_PMI: both(0x340),
  LVT_LINT0: both(0x350),
  LVT_LINT1: both(0x360),
  LVT_ERROR: both(0x370),
  INIT_COUNT: both(0x380),
  CUR_COUNT: both(0x390),
  DIV_CONF: both(0x3e0),
  SELF_IPI: { offset: 0x3f0, x2apic: true, xapic: false },
} as const satisfies Record<string, LapicRegister>

/** A name of {@link LAPIC_REGISTERS}. */
export type LapicRegisterName = keyof typeof LAPIC_REGISTERS

const BY_OFFSET = new Map(
  Object.entries(LAPIC_REGISTERS).map(([name, r]) => [r.offset, name as LapicRegisterName]),
)

/** First MSR of the x2APIC's window; it has 0x100 numbers. Source: SDM vol. 3A §11.12.1.2. */
export const X2APIC_MSR_BASE = 0x800

/**
 * The x2APIC MSR of a register offset.
 *
 * @throws RangeError (`ERR_OUT_OF_RANGE`) unless the offset is a multiple of 16 below 0x1000
 */
export function lapicMsr(offset: number): number {
  if (!Number.isInteger(offset) || offset % 16 !== 0 || offset < 0 || offset >= 0x1000) {
    throw outOfRange('offset', 'a multiple of 16 below 0x1000', offset)
  }
  return X2APIC_MSR_BASE + offset / 16
}

/** The register at an xAPIC offset, or `undefined` where there is none. */
export function lapicRegisterAt(offset: number): LapicRegisterName | undefined {
  return BY_OFFSET.get(offset)
}

/** The register of an x2APIC MSR, or `undefined` where there is none. */
export function lapicRegisterOfMsr(msr: number): LapicRegisterName | undefined {
  const name = BY_OFFSET.get((msr - X2APIC_MSR_BASE) * 16)
  return name !== undefined && LAPIC_REGISTERS[name].x2apic ? name : undefined
}
