// The machine as its ACPI tables describe it.

import {
  type AcpiOptions,
  type AcpiTables,
  aml,
  amlResources,
  createAcpiTables,
  encodeTableLoader,
  PC_INTERRUPT_OVERRIDES,
  placeAcpi,
} from '../boot/index.js'
import { FW_CFG_PORT, FW_CFG_PORTS, PVPANIC_PORT } from '../devices/index.js'
import type { PhysicalMemory } from '../x86/index.js'
import { ECAM_GPA, PCI_GSIS, PCI_MEMORY_32, pciMemory64 } from './address-map.js'

const { ioPorts, resourceTemplate } = amlResources

/** Present, enabled, functioning, but nothing for a user to see (ACPI 6.5 §6.3.7). */
const HIDDEN = 0x0b

/** Writes the tables of a machine with processors 0 to `cpus` - 1. */
export function placeMachineAcpi(memory: PhysicalMemory, cpus: number): AcpiTables {
  return placeAcpi(memory, acpiOptions(memory, cpus))
}

/** The same tables as files of fw_cfg, for firmware to place. */
export function machineAcpiFiles(
  memory: PhysicalMemory,
  cpus: number,
): ReadonlyMap<string, Uint8Array> {
  return encodeTableLoader(createAcpiTables(acpiOptions(memory, cpus)))
}

function acpiOptions(memory: PhysicalMemory, cpus: number): AcpiOptions {
  return {
    cpus: Array.from({ length: cpus }, (_, id) => id),
    // KERNEL: KVM connects the timer, ISA interrupt 0, to pin 0 of its IOAPIC and not, as PCs do, to 2.
    interruptOverrides: PC_INTERRUPT_OVERRIDES.filter(({ irq }) => irq !== 0),
    pci: {
      ecamGpa: ECAM_GPA,
      lastBus: 0,
      memory32: PCI_MEMORY_32,
      memory64: pciMemory64(memory.ranges),
      intxGsis: PCI_GSIS,
    },
    devices: [
      portDevice('FWCF', 'QEMU0002', FW_CFG_PORT, FW_CFG_PORTS),
      portDevice('PEVT', 'QEMU0001', PVPANIC_PORT, 1),
    ],
  }
}

function portDevice(name: string, id: string, port: number, length: number): aml.Aml {
  return aml.device(
    name,
    aml.name('_HID', aml.string(id)),
    aml.name('_STA', aml.integer(HIDDEN)),
    aml.name('_CRS', resourceTemplate(ioPorts(port, length))),
  )
}
