// Puts the ACPI tables into RAM.

import type { PhysicalMemory } from '../../x86/physical-memory.js'
import { LoadPlan } from '../load-plan.js'
import { type AcpiOptions, type AcpiTables, createAcpiTables } from './acpi-tables.js'

/**
 * Makes the tables and writes them. The result can be spread into a loader's options, which take
 * from it `rsdpGpa` and `reservations`:
 * `loadLinux(memory, { kernel, ...placeAcpi(memory, { cpus }) })`.
 *
 * @throws as {@link createAcpiTables}; BootError `ERR_BOOT_NO_SPACE` where there is no RAM. Nothing
 *   has been written then.
 */
export function placeAcpi(memory: PhysicalMemory, options: AcpiOptions): AcpiTables {
  const acpi = createAcpiTables(options)
  const plan = new LoadPlan(memory.ranges)
  for (const { name, gpa, bytes } of acpi.tables) {
    plan.claim(`ACPI table ${name}`, gpa, bytes.length)
    plan.write(gpa, bytes)
  }
  plan.commit(memory)
  return acpi
}
