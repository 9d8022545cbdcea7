// Fields of the local APIC's registers and of the I/O APIC's redirection entries, which share most
// of their encodings.

import { choice, field, flag } from './bitfields.js'

const DELIVERY_MODES = {
  fixed: 0,
  lowestPriority: 1,
  smi: 2,
  nmi: 4,
  init: 5,
  startup: 6,
  extint: 7,
} as const

/** How an interrupt is delivered. */
export type DeliveryMode = keyof typeof DELIVERY_MODES

function delivery(lsb: number) {
  return choice(lsb, 3, DELIVERY_MODES)
}

function destinationMode(lsb: number) {
  return choice(lsb, 1, { physical: 0, logical: 1 })
}

function triggerMode(lsb: number) {
  return choice(lsb, 1, { edge: 0, level: 1 })
}

function polarity(lsb: number) {
  return choice(lsb, 1, { high: 0, low: 1 })
}

/** Spurious interrupt vector register. Source: SDM vol. 3A §11.9, figure 11-23. */
export const LAPIC_SIVR = {
  vector: field(0, 8),
  /** APIC software-enabled. */
  enable: flag(8),
  /** Focus processor checking off (obsolete). */
  focusDisable: flag(9),
  /** EOIs of level-triggered interrupts are not broadcast. */
  suppressEoiBroadcast: flag(12),
}

/** APICID in xAPIC mode; in x2APIC mode all 32 bits are the id. Source: SDM vol. 3A §11.4.6. */
export const LAPIC_XAPIC_ID = { id: field(24, 8) }

/** Version register. Source: SDM vol. 3A §11.4.8, figure 11-7. */
export const LAPIC_VERSION = {
  version: field(0, 8),
  /** Number of local vector table entries, less one. */
  maxLvtEntry: field(16, 8),
  /** The spurious vector register can suppress EOI broadcasts. */
  suppressEoiBroadcast: flag(24),
  /** AMD: the extended register space exists (APM vol. 2 §16.3.4). */
  extendedSpace: flag(31),
}

/** Task and processor priority registers. Source: SDM vol. 3A §11.8.3.1, figure 11-18. */
export const LAPIC_PRIORITY = { subclass: field(0, 4), class: field(4, 4) }

/** Logical destination register of xAPIC mode. Source: SDM vol. 3A §11.6.2.2, figure 11-13. */
export const LAPIC_XAPIC_LDR = { id: field(24, 8) }

/** Logical destination register of x2APIC mode. Source: SDM vol. 3A §11.12.10.1, figure 11-30. */
export const LAPIC_X2APIC_LDR = {
  /** One bit per processor of the cluster. */
  member: field(0, 16),
  cluster: field(16, 16),
}

/** Destination format register (low 28 bits are all 1). Source: SDM vol. 3A §11.6.2.2. */
export const LAPIC_DFR = { model: choice(28, 4, { cluster: 0, flat: 15 }) }

/** Local vector table entry of the timer. Source: SDM vol. 3A §11.5.1, figure 11-8. */
export const LAPIC_LVT_TIMER = {
  vector: field(0, 8),
  /** Read only: delivery is pending. */
  pending: flag(12),
  masked: flag(16),
  mode: choice(17, 2, { oneShot: 0, periodic: 1, tscDeadline: 2 }),
}

/** Local vector table entries other than timer and error. Source: SDM vol. 3A §11.5.1. */
export const LAPIC_LVT = {
  vector: field(0, 8),
  delivery: delivery(8),
  /** Read only: delivery is pending. */
  pending: flag(12),
  /** LINT0 and LINT1 only. */
  polarity: polarity(13),
  /** LINT0 and LINT1 only, read only: level-triggered interrupt accepted, EOI not yet received. */
  remoteIrr: flag(14),
  /** LINT0 and LINT1 only. */
  trigger: triggerMode(15),
  masked: flag(16),
}

/** Local vector table entry of errors. Source: SDM vol. 3A §11.5.1. */
export const LAPIC_LVT_ERROR = {
  vector: field(0, 8),
  pending: flag(12),
  masked: flag(16),
}

const ICR_LOW = {
  vector: field(0, 8),
  delivery: delivery(8),
  destinationMode: destinationMode(11),
}

const ICR_MIDDLE = {
  level: choice(14, 1, { deassert: 0, assert: 1 }),
  trigger: triggerMode(15),
  shorthand: choice(18, 2, { none: 0, self: 1, allIncludingSelf: 2, allExcludingSelf: 3 }),
}

/**
 * Interrupt command of xAPIC mode: ICR in the low and ICR2 in the high 32 bits. Source: SDM vol. 3A
 * §11.6.1, figure 11-12.
 */
export const LAPIC_XAPIC_ICR = {
  ...ICR_LOW,
  /** Read only: the command is still being sent. */
  pending: flag(12),
  ...ICR_MIDDLE,
  destination: field(56, 8),
}

/** Interrupt command of x2APIC mode. Source: SDM vol. 3A §11.12.9, figure 11-28. */
export const LAPIC_X2APIC_ICR = { ...ICR_LOW, ...ICR_MIDDLE, destination: field(32, 32) }

/** Error status register. Source: SDM vol. 3A §11.5.3, figure 11-9. */
export const LAPIC_ESR = {
  sendChecksum: flag(0),
  receiveChecksum: flag(1),
  sendAccept: flag(2),
  receiveAccept: flag(3),
  redirectableIpi: flag(4),
  sendIllegalVector: flag(5),
  receiveIllegalVector: flag(6),
  illegalRegisterAddress: flag(7),
}

/** A 64-bit redirection entry of the I/O APIC. Source: 82093AA datasheet §3.2.4. */
export const IOAPIC_REDIRECTION = {
  vector: field(0, 8),
  delivery: delivery(8),
  destinationMode: destinationMode(11),
  /** Read only: delivery is pending. */
  pending: flag(12),
  polarity: polarity(13),
  /** Read only: a level-triggered interrupt was accepted, its EOI not yet received. */
  remoteIrr: flag(14),
  trigger: triggerMode(15),
  masked: flag(16),
  /** Bits 14:8 of the destination, where KVM_FEATURE_MSI_EXT_DEST_ID is offered. */
  extendedDestination: field(49, 7),
  destination: field(56, 8),
}

// The encoding skips bit 2 and puts "divide by 1" last (SDM vol. 3A §11.5.4, figure 11-10).
const DIVISORS = [2, 4, 8, 16, 32, 64, 128, 1]

/** What the timer's input clock is divided by, from the DIV_CONF register. */
export function decodeTimerDivide(register: number): number {
  return DIVISORS[(register & 3) + ((register & 8) >> 1)]!
}

/**
 * The DIV_CONF register for a divisor of 1, 2, 4, … 128, or `undefined` for any other number.
 * Source: SDM vol. 3A §11.5.4, figure 11-10.
 */
export function encodeTimerDivide(divisor: number): number | undefined {
  const code = DIVISORS.indexOf(divisor)
  return code < 0 ? undefined : (code & 3) + ((code & 4) << 1)
}
