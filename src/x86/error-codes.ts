// Error codes that exceptions push, as bit tables and as text for messages.

import { choice, decodeBits, field, flag } from './bitfields.js'
import { describeVector } from './exceptions.js'

/** Error code of #PF. Source: SDM vol. 3A §4.7, figure 4-12; RMP: APM vol. 2 §8.4.2. */
export const PAGE_FAULT_ERROR = {
  /** 0: a not-present entry; 1: a protection violation or a reserved bit. */
  P: flag(0),
  /** The access was a write. */
  W: flag(1),
  /** The access was made in user mode. */
  U: flag(2),
  /** A reserved bit was set in an entry. */
  RSVD: flag(3),
  /** The access was an instruction fetch. */
  I: flag(4),
  /** A protection key forbade it. */
  PK: flag(5),
  /** The access was to a shadow stack. */
  SS: flag(6),
  /** During a hypervisor-managed linear-address translation walk. */
  HLAT: flag(7),
  /** SGX access control forbade it. */
  SGX: flag(15),
  /** AMD SEV-SNP: the reverse map table forbade it. */
  RMP: flag(31),
}

/**
 * Error code of #TS, #NP, #SS and #GP when it names a selector. Source: SDM vol. 3A §6.13, figure
 * 6-7.
 */
export const SELECTOR_ERROR = {
  /** The exception came while an external event was delivered. */
  EXT: flag(0),
  /** `index` is a vector: it names a gate of the IDT, and TI means nothing. */
  IDT: flag(1),
  /** `index` counts in the LDT, otherwise in the GDT. */
  TI: flag(2),
  /** Index of the descriptor. */
  index: field(3, 13),
}

/** Error code of #CP. Source: SDM vol. 3A §6.15, interrupt 21. */
export const CONTROL_PROTECTION_ERROR = {
  cause: choice(0, 15, {
    nearRet: 1,
    farRetIret: 2,
    endbranch: 3,
    rstorssp: 4,
    setssbsy: 5,
  }),
  /** Inside an SGX enclave. */
  ENCL: flag(15),
}

/** A page-fault error code in words: `user write, not present`. */
export function describePageFault(errorCode: bigint | number): string {
  const e = decodeBits(PAGE_FAULT_ERROR, errorCode)
  const access = e.I ? 'fetch' : e.W ? 'write' : 'read'
  const causes = [
    e.RSVD && 'reserved bit set',
    e.PK && 'protection key',
    e.SGX && 'SGX access control',
    e.RMP && 'RMP check',
    e.HLAT && 'during a HLAT walk',
  ].filter((cause) => cause !== false)
  if (causes.length === 0) causes.push(e.P ? 'protection violation' : 'not present')
  const where = e.SS ? ' of a shadow stack' : ''
  return `${e.U ? 'user' : 'supervisor'} ${access}${where}, ${causes.join(', ')}`
}

/** A selector error code in words: `GDT entry 3 (selector 0x18)`, `IDT gate of #PF`, `none`. */
export function describeSelectorError(errorCode: bigint | number): string {
  const { EXT, IDT, TI, index } = decodeBits(SELECTOR_ERROR, errorCode)
  const external = EXT ? ', while an external event was delivered' : ''
  if (IDT) return `IDT gate of ${describeVector(index)}${external}`
  if (!TI && index === 0) return `none${external}`
  const selector = index * 8 + (TI ? 4 : 0)
  return `${TI ? 'LDT' : 'GDT'} entry ${index} (selector 0x${selector.toString(16)})${external}`
}

/** An exception with its error code, in words: `#PF (user write, not present)`. */
export function describeException(vector: number, errorCode?: bigint | number): string {
  const name = describeVector(vector)
  if (errorCode === undefined) return name
  if (vector === 14) return `${name} (${describePageFault(errorCode)})`
  if (vector >= 10 && vector <= 13) return `${name} (${describeSelectorError(errorCode)})`
  return `${name} (error code 0x${errorCode.toString(16)})`
}
