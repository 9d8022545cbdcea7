// Message-signalled interrupts: the address and data that a device writes, and that KVM takes in
// KVM_SIGNAL_MSI, KVM_SET_GSI_ROUTING and irqfds.

import { choice, decodeBits, encodeBits, field, flag } from './bitfields.js'
import type { DeliveryMode } from './lapic-fields.js'
import { checkInteger, outOfRange } from './out-of-range.js'

/** MSI address, low half. Source: SDM vol. 3A §11.11.1, figure 11-24. */
export const MSI_ADDRESS = {
  /** Destination is one or several logical ids. */
  destinationMode: choice(2, 1, { physical: 0, logical: 1 }),
  /** Deliver to one of the destination's processors only. */
  redirectionHint: flag(3),
  /**
   * Bits 14:8 of the destination where KVM_FEATURE_MSI_EXT_DEST_ID is offered. Source: Linux,
   * Documentation/virt/kvm/x86/cpuid.rst.
   */
  extendedDestination: field(5, 7),
  destination: field(12, 8),
  /** Always 0xFEE. */
  prefix: field(20, 12),
}

/** MSI data. Source: SDM vol. 3A §11.11.2, figure 11-25. */
export const MSI_DATA = {
  vector: field(0, 8),
  delivery: choice(8, 3, { fixed: 0, lowestPriority: 1, smi: 2, nmi: 4, init: 5, extint: 7 }),
  level: choice(14, 1, { deassert: 0, assert: 1 }),
  trigger: choice(15, 1, { edge: 0, level: 1 }),
}

/** An interrupt message. */
export interface Msi {
  /** APIC id, or logical destination. */
  destination: number
  destinationMode: 'physical' | 'logical'
  redirectionHint: boolean
  vector: number
  delivery: Exclude<DeliveryMode, 'startup'>
  level: 'assert' | 'deassert'
  trigger: 'edge' | 'level'
}

/** A message as the kernel's structs spell it (`kvm_msi`, `kvm_irq_routing_msi`). */
export interface MsiMessage {
  address_lo: number
  address_hi: number
  data: number
}

/**
 * How destinations above 8 bits are written:
 * - `plain`: not at all;
 * - `extended`: bits 14:8 in address bits 11:5, as guests do under KVM_FEATURE_MSI_EXT_DEST_ID;
 * - `x2apic`: bits 31:8 in place in `address_hi`, what KVM takes with KVM_CAP_X2APIC_API and
 *   KVM_X2APIC_API_USE_32BIT_IDS.
 */
export type MsiFormat = 'plain' | 'extended' | 'x2apic'

const MAX_DESTINATION: Readonly<Record<MsiFormat, number>> = {
  plain: 0xff,
  extended: 0x7fff,
  x2apic: 0xffffffff,
}

/**
 * Builds a message; all but destination and vector have the usual defaults (physical, fixed,
 * edge-triggered).
 *
 * @throws RangeError (`ERR_OUT_OF_RANGE`) for a destination that the format cannot hold
 */
export function encodeMsi(
  msi: Pick<Msi, 'destination' | 'vector'> & Partial<Msi>,
  format: MsiFormat = 'plain',
): MsiMessage {
  const { destination, destinationMode = 'physical', redirectionHint = false } = msi
  const { vector, delivery = 'fixed', level = 'deassert', trigger = 'edge' } = msi
  checkInteger('destination', destination, 0, MAX_DESTINATION[format])
  const address = encodeBits(MSI_ADDRESS, {
    prefix: 0xfee,
    destination: destination % 0x100,
    extendedDestination: format === 'extended' ? Math.floor(destination / 0x100) : 0,
    destinationMode,
    redirectionHint,
  })
  return {
    address_lo: Number(address),
    address_hi: format === 'x2apic' ? destination - (destination % 0x100) : 0,
    data: Number(encodeBits(MSI_DATA, { vector, delivery, level, trigger })),
  }
}

/**
 * Takes a message apart.
 *
 * @throws RangeError (`ERR_OUT_OF_RANGE`) when the address is not an interrupt's (0xFEExxxxx) or
 * the delivery mode is reserved
 */
export function decodeMsi(message: MsiMessage, format: MsiFormat = 'plain'): Msi {
  const address = decodeBits(MSI_ADDRESS, message.address_lo)
  const data = decodeBits(MSI_DATA, message.data)
  if (address.prefix !== 0xfee) {
    throw outOfRange('address_lo', 'between 0xfee00000 and 0xfeefffff', message.address_lo)
  }
  if (typeof data.delivery === 'number') {
    throw outOfRange('data', 'of a defined delivery mode', message.data)
  }
  const high = format === 'x2apic' ? message.address_hi - (message.address_hi % 0x100) : 0
  const extended = format === 'extended' ? address.extendedDestination * 0x100 : 0
  return {
    destination: address.destination + extended + high,
    destinationMode: address.destinationMode as Msi['destinationMode'],
    redirectionHint: address.redirectionHint,
    vector: data.vector,
    delivery: data.delivery,
    level: data.level as Msi['level'],
    trigger: data.trigger as Msi['trigger'],
  }
}

/**
 * Rewrites a guest's message with extended destination id into the form that KVM takes. Userspace
 * must do so for every message that a device emits, if it offers KVM_FEATURE_MSI_EXT_DEST_ID. All
 * other bits stay as the guest wrote them, legal or not: judging them is KVM's business.
 */
export function toKvmMsi(message: MsiMessage): MsiMessage {
  const { extendedDestination } = decodeBits(MSI_ADDRESS, message.address_lo)
  const address = encodeBits(MSI_ADDRESS, { extendedDestination: 0 }, message.address_lo)
  return {
    address_lo: Number(address),
    address_hi: extendedDestination * 0x100,
    data: message.data,
  }
}
