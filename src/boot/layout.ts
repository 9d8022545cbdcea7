// The guest-physical address map that the loaders use. Every number that a loader writes to, or must
// keep away from, has its name here. All values are bytes or guest-physical addresses.

/** Bytes in the smallest x86 page (SDM vol. 3A §4.1). */
export const BYTES_PER_PAGE = 0x1000

/** One past the highest guest-physical address that x86-64 can express (52 bits). */
export const GPA_END = 2 ** 52

/** 4 GiB: one past what 32-bit code, and the initial identity map, can reach. */
export const GPA_4G = 0x1_0000_0000

/**
 * Global descriptor table, one page. The page below it stays free: Linux and firmware conventions
 * treat page 0 as the BIOS data area, and PVH reads an address of 0 as "not present".
 */
export const GDT_GPA = 0x1000

/** Linux `struct boot_params` ("zero page"), or `struct hvm_start_info` and its lists; one page. */
export const BOOT_PARAMS_GPA = 0x2000

/** Where the PVH module list stands in the page of {@link BOOT_PARAMS_GPA}. */
export const PVH_MODULE_LIST_GPA = BOOT_PARAMS_GPA + 0x40

/** Where the PVH memory map stands in the page of {@link BOOT_PARAMS_GPA}; fits 160 entries. */
export const PVH_MEMORY_MAP_GPA = BOOT_PARAMS_GPA + 0x100

/** PML4, then PDPT, then four page directories: the identity map of the first 4 GiB. */
export const PAGE_TABLES_GPA = 0x3000

/** Six pages: 1 PML4 + 1 PDPT + 4 page directories. */
export const PAGE_TABLES_SIZE = 6 * BYTES_PER_PAGE

/** Kernel command line, zero-terminated. */
export const CMDLINE_GPA = 0x2_0000

/** The most that the command line may take with its terminating zero: 64 KiB. */
export const CMDLINE_AREA_SIZE = 0x1_0000

/** End of conventional memory: from here to 640 KiB a PC keeps its extended BIOS data area. */
export const EBDA_GPA = 0x9_fc00

/** The last KiB below 640 KiB. */
export const EBDA_SIZE = 0x400

/**
 * ACPI tables, from the root pointer on. Guests without a boot loader's hint search from here to
 * 1 MiB for it (ACPI 6.5 §5.2.5.1).
 */
export const ACPI_GPA = 0xe_0000

/** The system BIOS segment; kernels scan it for firmware tables, so it is reported reserved. */
export const BIOS_GPA = 0xf_0000

/** The Intel MP table, in the system BIOS segment as kernels search for it; 16 KiB, up to 1 MiB. */
export const MP_TABLE_GPA = 0xf_c000

/** 1 MiB: the first address of extended memory. */
export const HIGH_MEMORY_GPA = 0x10_0000

/** Default start of the hole that PCI windows use; RAM beyond continues at 4 GiB. */
export const MMIO_HOLE_GPA = 0xc000_0000

/**
 * From here to 4 GiB live the I/O APIC, the local APICs, KVM's TSS pages and the reset vector. Even
 * when a memory slot covers them, they are not offered to the guest as RAM.
 */
export const PLATFORM_GPA = 0xfec0_0000

/** Offset of the 64-bit entry point from a bzImage's load address (boot protocol, 64-bit section). */
export const BZIMAGE_ENTRY64_OFFSET = 0x200

/** 16 MiB: the alignment and run address that x86-64 Linux is built with unless configured else. */
export const DEFAULT_LINUX_ALIGNMENT = 0x100_0000

/** Entries that fit in the zero page's e820 table (E820_MAX_ENTRIES_ZEROPAGE). */
export const E820_MAX_ENTRIES = 128
