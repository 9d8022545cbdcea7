// Where the machine's own parts are; RAM and what kernels expect is in the boot layer's layout.

import { type GpaRange, MMIO_HOLE_GPA } from '../boot/index.js'

const GIB = 2 ** 30

/** Configuration space of the PCI bus, below the interrupt controllers. */
export const ECAM_GPA = 0xe800_0000

/** BARs of 32 bits: from where RAM must end to configuration space. */
export const PCI_MEMORY_32: GpaRange = { gpa: MMIO_HOLE_GPA, size: ECAM_GPA - MMIO_HOLE_GPA }

/** I/O BARs, above the ports of a PC's fixed devices. */
export const PCI_IO = { base: 0x1000, size: 0xf000 }

/** GSIs of INTA to INTD of slot 0; below are the ISA interrupts. */
export const PCI_GSIS = [16, 17, 18, 19] as const

/** Registers of virtio devices that are not on the PCI bus, one behind the other, up to the IOAPIC. */
export const VIRTIO_MMIO: GpaRange = { gpa: 0xea00_0000, size: 0x100_0000 }

/** GSIs that those devices share by turns. */
export const VIRTIO_MMIO_GSIS = [20, 21, 22, 23] as const

/** BARs of 64 bits: behind RAM, and low enough for processors with 36 address bits. */
export function pciMemory64(ram: readonly GpaRange[]): GpaRange {
  const end = Math.max(4 * GIB, ...ram.map(({ gpa, size }) => gpa + size))
  return { gpa: Math.ceil(end / GIB) * GIB, size: 16 * GIB }
}
