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
  placeMpTable,
  XAPIC_ID_MAX,
} from '../boot/index.js'
import { FW_CFG_PORT, FW_CFG_PORTS, PVPANIC_PORT, VIRTIO_MMIO_SIZE } from '../devices/index.js'
import type { PhysicalMemory } from '../x86/index.js'
import { ECAM_GPA, PCI_GSIS, PCI_MEMORY_32, pciMemory64 } from './address-map.js'

const { interrupt, ioPorts, memory32Fixed, resourceTemplate } = amlResources

/** Present, enabled, functioning, but nothing for a user to see (ACPI 6.5 §6.3.7). */
const HIDDEN = 0x0b

/** Where a virtio device outside of PCI has its registers, and where its interrupt arrives. */
export interface VirtioMmioPlace {
  readonly gpa: number
  readonly gsi: number
}

/** What the tables tell beside the memory. */
export interface BoardDescription {
  /** APIC ids. */
  readonly cpus: readonly number[]
  readonly virtioMmio?: readonly VirtioMmioPlace[]
  /** Whether anything is on the PCI bus. Default true. */
  readonly hasPci?: boolean
}

/**
 * Writes the tables of a machine; beside them an MP table, which has the same of processors for guests without
 * ACPI, where it can name all ids.
 */
export function placeMachineAcpi(memory: PhysicalMemory, board: BoardDescription): AcpiTables {
  const { cpus } = board
  const options = acpiOptions(memory, board)
  // Its IOAPIC has the id behind the last.
  const fits = Math.max(...cpus) < XAPIC_ID_MAX
  if (fits) placeMpTable(memory, { cpus, interruptOverrides: options.interruptOverrides })
  return placeAcpi(memory, options)
}

/** The same tables as files of fw_cfg, for firmware to place. */
export function machineAcpiFiles(
  memory: PhysicalMemory,
  board: BoardDescription,
): ReadonlyMap<string, Uint8Array> {
  return encodeTableLoader(createAcpiTables(acpiOptions(memory, board)))
}

function acpiOptions(
  memory: PhysicalMemory,
  { cpus, virtioMmio = [], hasPci = true }: BoardDescription,
): AcpiOptions {
  const pci = {
    ecamGpa: ECAM_GPA,
    lastBus: 0,
    memory32: PCI_MEMORY_32,
    memory64: pciMemory64(memory.ranges),
    intxGsis: PCI_GSIS,
  }
  return {
    cpus,
    // KERNEL: KVM connects the timer, ISA interrupt 0, to pin 0 of its IOAPIC and not, as PCs do, to 2.
    interruptOverrides: PC_INTERRUPT_OVERRIDES.filter(({ irq }) => irq !== 0),
    // It has no keyboard, and guests that reset by it do not ask.
    keyboardController: false,
    pci: hasPci ? pci : undefined,
    devices: [
      portDevice('FWCF', 'QEMU0002', FW_CFG_PORT, FW_CFG_PORTS),
      portDevice('PEVT', 'QEMU0001', PVPANIC_PORT, 1),
      ...virtioMmio.map(virtioMmioDevice),
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

/** The id under which Linux and QEMU know registers of virtio in memory. */
function virtioMmioDevice({ gpa, gsi }: VirtioMmioPlace, index: number): aml.Aml {
  const line = { trigger: 'level', polarity: 'high', shared: true } as const
  return aml.device(
    `VM${index.toString(16).toUpperCase().padStart(2, '0')}`,
    aml.name('_HID', aml.string('LNRO0005')),
    aml.name('_UID', aml.integer(index)),
    aml.name('_CCA', aml.integer(1)),
    aml.name('_CRS', resourceTemplate(memory32Fixed(gpa, VIRTIO_MMIO_SIZE), interrupt(gsi, line))),
  )
}
