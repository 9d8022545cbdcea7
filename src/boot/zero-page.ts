// The Linux zero page (`struct boot_params`): what a 64-bit Linux entry finds at RSI.

import type { InitrdPlacement } from './initrd.js'
import { BOOT_PARAMS_GPA, BYTES_PER_PAGE, DEFAULT_LINUX_ALIGNMENT } from './layout.js'
import type { LoadPlan } from './load-plan.js'
import type { MemoryMapEntry } from './memory-map.js'
import {
  BOOT_FLAG,
  HEADER_MAGIC,
  LOADED_HIGH,
  SETUP_HEADER,
  SETUP_HEADER_START,
} from './setup-header.js'

/** Field offsets outside the setup header (Linux/x86 boot protocol, "The zero page"). */
export const ZERO_PAGE = {
  acpi_rsdp_addr: 0x070,
  ext_ramdisk_image: 0x0c0,
  ext_ramdisk_size: 0x0c4,
  ext_cmd_line_ptr: 0x0c8,
  e820_entries: 0x1e8,
  e820_table: 0x2d0,
} as const

/** Bytes in one `struct boot_e820_entry`; it is packed. */
export const E820_ENTRY_SIZE = 20
/** `type_of_loader` of a loader without an assigned number. */
const LOADER_UNDEFINED = 0xff
/** `vid_mode` "normal": the kernel keeps the text mode. */
const VID_MODE_NORMAL = 0xffff

/** What goes into the zero page. */
export interface ZeroPageContent {
  /** The image's own setup header, from offset 0x1f1; absent for a bare ELF kernel. */
  readonly setupHeader?: Uint8Array | undefined
  /** Where a bzImage's protected-mode code was loaded; the kernel's place otherwise. */
  readonly kernelGpa: number
  readonly cmdlineGpa: number
  readonly initrd: InitrdPlacement
  readonly memoryMap: readonly MemoryMapEntry[]
  /** ACPI root pointer; 0 when the guest is to search for it. */
  readonly rsdpGpa: number
}

/** The zero page as bytes. */
export function encodeZeroPage(content: ZeroPageContent): Uint8Array {
  const page = new Uint8Array(BYTES_PER_PAGE)
  const view = new DataView(page.buffer)
  if (content.setupHeader) page.set(content.setupHeader, SETUP_HEADER_START)
  else writeMinimalHeader(view)

  view.setUint16(SETUP_HEADER.vid_mode, VID_MODE_NORMAL, true)
  view.setUint8(SETUP_HEADER.type_of_loader, LOADER_UNDEFINED)
  view.setUint32(SETUP_HEADER.code32_start, content.kernelGpa, true)
  // The list of setup_data belongs to the loader; what an image carries there means nothing.
  view.setBigUint64(SETUP_HEADER.setup_data, 0n, true)
  setSplit(view, SETUP_HEADER.cmd_line_ptr, ZERO_PAGE.ext_cmd_line_ptr, content.cmdlineGpa)
  setSplit(view, SETUP_HEADER.ramdisk_image, ZERO_PAGE.ext_ramdisk_image, content.initrd.gpa)
  setSplit(view, SETUP_HEADER.ramdisk_size, ZERO_PAGE.ext_ramdisk_size, content.initrd.size)
  view.setBigUint64(ZERO_PAGE.acpi_rsdp_addr, BigInt(content.rsdpGpa), true)
  writeMemoryMap(view, content.memoryMap)
  return page
}

/** Claims and fills the zero page; returns its address. */
export function planZeroPage(plan: LoadPlan, content: ZeroPageContent): number {
  plan.claim('boot parameters', BOOT_PARAMS_GPA, BYTES_PER_PAGE)
  plan.write(BOOT_PARAMS_GPA, encodeZeroPage(content))
  return BOOT_PARAMS_GPA
}

/** A bare vmlinux has no header to copy; these are the fields by which a kernel trusts the page. */
function writeMinimalHeader(view: DataView): void {
  view.setUint16(SETUP_HEADER.boot_flag, BOOT_FLAG, true)
  view.setUint32(SETUP_HEADER.header, HEADER_MAGIC, true)
  view.setUint16(SETUP_HEADER.version, 0x020c, true)
  view.setUint8(SETUP_HEADER.loadflags, LOADED_HIGH)
  view.setUint32(SETUP_HEADER.kernel_alignment, DEFAULT_LINUX_ALIGNMENT, true)
}

/** A 64-bit value whose halves stand in two places. */
function setSplit(view: DataView, low: number, high: number, value: number): void {
  view.setUint32(low, value % 2 ** 32, true)
  view.setUint32(high, Math.floor(value / 2 ** 32), true)
}

function writeMemoryMap(view: DataView, map: readonly MemoryMapEntry[]): void {
  view.setUint8(ZERO_PAGE.e820_entries, map.length)
  for (const [index, { gpa, size, type }] of map.entries()) {
    const entry = ZERO_PAGE.e820_table + index * E820_ENTRY_SIZE
    view.setBigUint64(entry, BigInt(gpa), true)
    view.setBigUint64(entry + 8, BigInt(size), true)
    view.setUint32(entry + 16, type, true)
  }
}
