// The PVH boot convention: the ELF note that names the 32-bit entry, and the start info that the
// guest finds at EBX (Xen, "x86/HVM direct boot ABI" and the public header arch-x86/hvm/start_info).

import { BootError } from './boot-error.js'
import { type ElfImage, readElfNotes } from './elf.js'
import type { InitrdPlacement } from './initrd.js'
import {
  BOOT_PARAMS_GPA,
  BYTES_PER_PAGE,
  PVH_MEMORY_MAP_GPA,
  PVH_MODULE_LIST_GPA,
} from './layout.js'
import type { LoadPlan } from './load-plan.js'
import type { MemoryMapEntry } from './memory-map.js'

/** Note type of owner "Xen" whose descriptor is the physical address of the 32-bit entry. */
export const XEN_ELFNOTE_PHYS32_ENTRY = 18

/** First field of `struct hvm_start_info`. */
export const HVM_START_MAGIC = 0x336e_c578

/** Bytes in one `struct hvm_memmap_table_entry`. */
export const HVM_MEMMAP_ENTRY_SIZE = 24

/** Field offsets of `struct hvm_start_info`, version 1. */
export const HVM_START_INFO = {
  magic: 0,
  version: 4,
  flags: 8,
  nr_modules: 12,
  modlist_paddr: 16,
  cmdline_paddr: 24,
  rsdp_paddr: 32,
  memmap_paddr: 40,
  memmap_entries: 48,
} as const

/**
 * The PVH entry point, or undefined when the image has no such note.
 *
 * @throws BootError `ERR_BOOT_BAD_IMAGE` when the note's descriptor is not 4 or 8 bytes long
 */
export function findPvhEntry(elf: ElfImage): bigint | undefined {
  const note = readElfNotes(elf).find(
    ({ name, type }) => name === 'Xen' && type === XEN_ELFNOTE_PHYS32_ENTRY,
  )
  if (!note) return undefined
  const { data, offset } = note
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength)
  if (data.length === 4) return BigInt(view.getUint32(0, true))
  if (data.length === 8) return view.getBigUint64(0, true)
  const message = `ELF image: the PVH entry note has ${data.length} bytes, must have 4 or 8`
  throw new BootError('ERR_BOOT_BAD_IMAGE', message, { offset })
}

/** What the start info tells the guest. */
export interface PvhContent {
  readonly cmdlineGpa: number
  readonly initrd: InitrdPlacement
  readonly memoryMap: readonly MemoryMapEntry[]
  /** ACPI root pointer; 0 when the guest is to search for it. */
  readonly rsdpGpa: number
}

/** Claims and fills the page with start info, module list and memory map; returns its address. */
export function planPvhStartInfo(plan: LoadPlan, content: PvhContent): number {
  plan.claim('boot parameters', BOOT_PARAMS_GPA, BYTES_PER_PAGE)
  plan.write(BOOT_PARAMS_GPA, encodePvhStartInfo(content))
  return BOOT_PARAMS_GPA
}

/** The page at {@link BOOT_PARAMS_GPA} for a PVH guest. The RAM disk is its only module. */
export function encodePvhStartInfo(content: PvhContent): Uint8Array {
  const { initrd, memoryMap } = content
  const page = new Uint8Array(BYTES_PER_PAGE)
  const view = new DataView(page.buffer)
  view.setUint32(HVM_START_INFO.magic, HVM_START_MAGIC, true)
  view.setUint32(HVM_START_INFO.version, 1, true)
  view.setBigUint64(HVM_START_INFO.cmdline_paddr, BigInt(content.cmdlineGpa), true)
  view.setBigUint64(HVM_START_INFO.rsdp_paddr, BigInt(content.rsdpGpa), true)
  view.setBigUint64(HVM_START_INFO.memmap_paddr, BigInt(PVH_MEMORY_MAP_GPA), true)
  view.setUint32(HVM_START_INFO.memmap_entries, memoryMap.length, true)
  if (initrd.size > 0) {
    view.setUint32(HVM_START_INFO.nr_modules, 1, true)
    view.setBigUint64(HVM_START_INFO.modlist_paddr, BigInt(PVH_MODULE_LIST_GPA), true)
    const module = PVH_MODULE_LIST_GPA - BOOT_PARAMS_GPA
    view.setBigUint64(module, BigInt(initrd.gpa), true)
    view.setBigUint64(module + 8, BigInt(initrd.size), true)
  }
  for (const [index, { gpa, size, type }] of memoryMap.entries()) {
    const entry = PVH_MEMORY_MAP_GPA - BOOT_PARAMS_GPA + index * HVM_MEMMAP_ENTRY_SIZE
    view.setBigUint64(entry, BigInt(gpa), true)
    view.setBigUint64(entry + 8, BigInt(size), true)
    view.setUint32(entry + 16, type, true)
  }
  return page
}
