// Public face of the boot layer: `node-kvm/boot`.

export {
  type AcpiOptions,
  type AcpiTable,
  type AcpiTables,
  createAcpiTables,
} from './acpi/acpi-tables.js'
export * as aml from './acpi/aml.js'
export * as amlResources from './acpi/aml-resources.js'
export type { AcpiSerialPort } from './acpi/dsdt.js'
export type { ResetRegister } from './acpi/fadt.js'
export type { AcpiHpet } from './acpi/hpet.js'
export {
  type InterruptOverride,
  IO_APIC_GPA,
  type IoApic,
  KVM_IO_APIC,
  LOCAL_APIC_GPA,
  PC_INTERRUPT_OVERRIDES,
  XAPIC_ID_MAX,
} from './acpi/interrupt-topology.js'
export { encodeMpTable, type MpTableOptions, placeMpTable } from './acpi/mp-table.js'
export type { AcpiPciHost } from './acpi/pci-host.js'
export { placeAcpi } from './acpi/place-acpi.js'
export { ACPI_FILES, encodeTableLoader } from './acpi/table-loader.js'
export { BootError, type BootErrorCode, type BootErrorDetails } from './boot-error.js'
export type {
  BootMode,
  BootProtocol,
  BootRegisterName,
  BootRegs,
  BootSregs,
  BootState,
  CpuBootState,
} from './boot-state.js'
export { loadBzImage } from './bz-image.js'
export { DEFAULT_CMDLINE_LIMIT, encodeCmdline } from './cmdline.js'
export type { CpioEntry } from './cpio-format.js'
export { BOOT_CS, BOOT_DS, BOOT_TSS, longMode, protectedMode, realMode } from './cpu-modes.js'
export {
  type ElfImage,
  type ElfNote,
  type ElfSegment,
  EM_386,
  EM_X86_64,
  isElf,
  PF_X,
  PT_LOAD,
  PT_NOTE,
  parseElf,
  readElfNotes,
} from './elf.js'
export { type ElfProtocol, loadElf64 } from './elf64.js'
export { FIRMWARE_MAX_SIZE, type FirmwareState, loadFirmware } from './firmware.js'
export { type FlatImage, loadFlat } from './flat.js'
export { type InitrdLimits, type InitrdPlacement, placeInitrd } from './initrd.js'
export { type KernelLoadOptions, loadKernel } from './kernel.js'
export * from './layout.js'
export { type LinuxLoadOptions, loadLinux } from './linux.js'
export type { LinuxImages } from './linux-options.js'
export { LoadPlan, type LoadTarget, type Placement, type SearchWindow } from './load-plan.js'
export {
  createMemoryMap,
  E820_TYPE,
  type GpaRange,
  layOutRam,
  type MemoryMapEntry,
} from './memory-map.js'
export {
  isMultiboot,
  loadMultiboot,
  MULTIBOOT_BOOTLOADER_MAGIC,
  MULTIBOOT_HEADER_MAGIC,
  type MultibootModule,
  type MultibootOptions,
} from './multiboot.js'
export {
  encodePvhStartInfo,
  findPvhEntry,
  HVM_MEMMAP_ENTRY_SIZE,
  HVM_START_INFO,
  HVM_START_MAGIC,
  type PvhContent,
  XEN_ELFNOTE_PHYS32_ENTRY,
} from './pvh.js'
export { type CpioArchive, type CpioLimits, readCpio } from './read-cpio.js'
export {
  isBzImage,
  parseSetupHeader,
  SETUP_HEADER,
  type SetupHeader,
  XLF_CAN_BE_LOADED_ABOVE_4G,
  XLF_KERNEL_64,
} from './setup-header.js'
export { writeCpio } from './write-cpio.js'
export { E820_ENTRY_SIZE, encodeZeroPage, ZERO_PAGE, type ZeroPageContent } from './zero-page.js'
