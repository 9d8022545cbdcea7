// What both the MADT and the MP table say about processors and interrupts.

import { ACPI_SCI_IRQ } from '../../devices/acpi-ports.js'
import { checkInteger, outOfRange } from '../../x86/out-of-range.js'

/** Where every local APIC answers after reset (SDM vol. 3A §11.4.1). */
export const LOCAL_APIC_GPA = 0xfee0_0000

/** Where a PC's first I/O APIC answers. */
export const IO_APIC_GPA = 0xfec0_0000

/** The highest id that an 8-bit local APIC id can have; 255 addresses all. */
export const XAPIC_ID_MAX = 254

/** An I/O APIC. */
export interface IoApic {
  readonly id: number
  /** Address of its registers. */
  readonly gpa: number
  /** Global system interrupt of its first input. */
  readonly gsiBase: number
}

/** The one that KVM's own interrupt controllers have: 24 inputs, GSI 0 to 23. */
export const KVM_IO_APIC: IoApic = { id: 0, gpa: IO_APIC_GPA, gsiBase: 0 }

/** An ISA interrupt that does not arrive at the GSI of its number, or not as ISA interrupts do. */
export interface InterruptOverride {
  /** ISA interrupt, 0 to 15. */
  readonly irq: number
  readonly gsi: number
  /** Default: as the ISA bus has it, edge-triggered. */
  readonly trigger?: 'edge' | 'level' | undefined
  /** Default: as the ISA bus has it, active high. */
  readonly polarity?: 'high' | 'low' | undefined
}

/**
 * The timer at GSI 2 and the SCI level-triggered, as on PCs. KVM's default routing brings the
 * timer's interrupt, GSI 0, to input 0 of its I/O APIC: route GSI 0 to input 2 by
 * KVM_SET_GSI_ROUTING, or leave this override out.
 */
export const PC_INTERRUPT_OVERRIDES: readonly InterruptOverride[] = [
  { irq: 0, gsi: 2 },
  { irq: ACPI_SCI_IRQ, gsi: ACPI_SCI_IRQ, trigger: 'level', polarity: 'high' },
]

/** Polarity and trigger as MADT and MP table encode them; 0 is "as the bus has it". */
export function interruptFlags({ trigger, polarity }: InterruptOverride): number {
  const active = polarity === undefined ? 0 : polarity === 'high' ? 1 : 3
  const mode = trigger === undefined ? 0 : trigger === 'edge' ? 1 : 3
  return active + 4 * mode
}

/** Refuses an empty list, ids beyond `max`, and an id given twice. */
export function checkApicIds(ids: readonly number[], max: number): void {
  checkInteger('cpus.length', ids.length, 1, max + 1)
  const seen = new Set<number>()
  for (const id of ids) {
    checkInteger('cpus', id, 0, max)
    if (seen.has(id)) throw outOfRange('cpus', 'without repeated ids', id)
    seen.add(id)
  }
}
