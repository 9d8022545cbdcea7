// The multiple APIC description table: processors, I/O APICs and how interrupts reach them (ACPI 6.5
// §5.2.12, revision 5: as of ACPI 6.3, whose structures are the ones used here).

import {
  checkApicIds,
  type InterruptOverride,
  type IoApic,
  interruptFlags,
  LOCAL_APIC_GPA,
  XAPIC_ID_MAX,
} from './interrupt-topology.js'
import { concat, pack } from './pack.js'
import { encodeSdt } from './sdt.js'

/** Types of interrupt controller structures (ACPI 6.5, table 5.21). */
export const MADT_TYPE = {
  LOCAL_APIC: 0,
  IO_APIC: 1,
  INTERRUPT_SOURCE_OVERRIDE: 2,
  LOCAL_APIC_NMI: 4,
  LOCAL_X2APIC: 9,
  LOCAL_X2APIC_NMI: 10,
} as const

/** What the MADT says. */
export interface MadtContent {
  /** Local APIC ids; the boot processor first. */
  readonly cpus: readonly number[]
  readonly ioApics: readonly IoApic[]
  readonly overrides: readonly InterruptOverride[]
}

/** MADT flag: there are two 8259 interrupt controllers too. */
const PCAT_COMPAT = 1
const ENABLED = 1
const ISA_BUS = 0
const ALL_XAPICS = 0xff
const ALL_X2APICS = 0xffff_ffff
const NMI_LINT = 1
/** 0xffff_ffff addresses all processors. */
const X2APIC_ID_MAX = 0xffff_fffe

/** The MADT (signature `APIC`). A processor's ACPI UID is its APIC id. */
export function encodeMadt({ cpus, ioApics, overrides }: MadtContent): Uint8Array {
  checkApicIds(cpus, X2APIC_ID_MAX)
  const hasX2Apics = cpus.some((id) => id > XAPIC_ID_MAX)
  const body = concat(
    pack([4, LOCAL_APIC_GPA], [4, PCAT_COMPAT]),
    ...cpus.map(processor),
    ...ioApics.map(ioApic),
    ...overrides.map(override),
    pack([1, MADT_TYPE.LOCAL_APIC_NMI], [1, 6], [1, ALL_XAPICS], [2, 0], [1, NMI_LINT]),
    hasX2Apics ? x2ApicNmi() : new Uint8Array(0),
  )
  return encodeSdt('APIC', 5, body)
}

/** Ids that fit must use the short structure, even if other processors need the long one. */
function processor(id: number): Uint8Array {
  if (id <= XAPIC_ID_MAX) {
    return pack([1, MADT_TYPE.LOCAL_APIC], [1, 8], [1, id], [1, id], [4, ENABLED])
  }
  return pack([1, MADT_TYPE.LOCAL_X2APIC], [1, 16], [2, 0], [4, id], [4, ENABLED], [4, id])
}

function ioApic({ id, gpa, gsiBase }: IoApic): Uint8Array {
  return pack([1, MADT_TYPE.IO_APIC], [1, 12], [1, id], [1, 0], [4, gpa], [4, gsiBase])
}

function override(entry: InterruptOverride): Uint8Array {
  const { irq, gsi } = entry
  const type = MADT_TYPE.INTERRUPT_SOURCE_OVERRIDE
  return pack([1, type], [1, 10], [1, ISA_BUS], [1, irq], [4, gsi], [2, interruptFlags(entry)])
}

function x2ApicNmi(): Uint8Array {
  const type = MADT_TYPE.LOCAL_X2APIC_NMI
  return pack([1, type], [1, 12], [2, 0], [4, ALL_X2APICS], [1, NMI_LINT], [2, 0], [1, 0])
}
