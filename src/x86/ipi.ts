// Interprocessor interrupts: what a processor writes to the interrupt command register of its APIC.

import { encodeBits } from './bitfields.js'
import { type DeliveryMode, LAPIC_X2APIC_ICR, LAPIC_XAPIC_ICR } from './lapic-fields.js'
import { checkInteger, outOfRange } from './out-of-range.js'

/** An interprocessor interrupt. */
export interface Ipi {
  /** APIC id, or logical destination; without meaning where a shorthand says who is meant. */
  destination: number
  destinationMode: 'physical' | 'logical'
  vector: number
  delivery: Exclude<DeliveryMode, 'extint'>
  level: 'assert' | 'deassert'
  trigger: 'edge' | 'level'
  shorthand: 'none' | 'self' | 'allIncludingSelf' | 'allExcludingSelf'
}

const MAX_DESTINATION = { xapic: 0xff, x2apic: 0xffff_ffff } as const

/**
 * The value of the interrupt command register: MSR 0x830 in x2APIC mode; in xAPIC mode its high half
 * goes to ICR2 before its low half to ICR, which sends it. By default physical, fixed, asserted,
 * edge-triggered, vector 0. Source: SDM vol. 3A §11.6.1 and §11.12.9.
 *
 * @throws RangeError (`ERR_OUT_OF_RANGE`) for a destination that the mode cannot hold, and without a
 * destination or shorthand
 */
export function encodeIpi(ipi: Partial<Ipi>, mode: 'xapic' | 'x2apic' = 'x2apic'): bigint {
  const { destination, shorthand = 'none' } = ipi
  if (destination === undefined && shorthand === 'none') {
    throw outOfRange('destination', 'given unless there is a shorthand', destination)
  }
  checkInteger('destination', destination ?? 0, 0, MAX_DESTINATION[mode])
  const fields = {
    destination: destination ?? 0,
    destinationMode: ipi.destinationMode ?? 'physical',
    vector: ipi.vector ?? 0,
    delivery: ipi.delivery ?? 'fixed',
    level: ipi.level ?? 'assert',
    trigger: ipi.trigger ?? 'edge',
    shorthand,
  }
  return encodeBits(mode === 'x2apic' ? LAPIC_X2APIC_ICR : LAPIC_XAPIC_ICR, fields)
}

/** Where a processor starts after a startup IPI: real mode, in a page below 1 MiB. */
const STARTUP_LIMIT = 0x10_0000

/**
 * The vector of a startup IPI (SIPI) for code at this address: the number of its page. Source: SDM
 * vol. 3A §9.4.4.
 *
 * @throws RangeError (`ERR_OUT_OF_RANGE`) unless the address is a multiple of 4096 below 1 MiB
 */
export function startupVector(entry: number): number {
  checkInteger('entry', entry, 0, STARTUP_LIMIT - 1)
  if (entry % 0x1000 !== 0) throw outOfRange('entry', 'a multiple of 4096', entry)
  return entry / 0x1000
}
