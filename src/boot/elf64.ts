// An ELF64 kernel, loaded where its program headers say: entered either like Linux (long mode, zero
// page) or through its PVH note (32-bit protected mode, hvm_start_info).

import { BootError, hex } from './boot-error.js'
import type { BootState } from './boot-state.js'
import { DEFAULT_CMDLINE_LIMIT, planCmdline } from './cmdline.js'
import { longMode, planGdt, planLongModeTables, protectedMode } from './cpu-modes.js'
import { type ElfImage, type ElfSegment, PF_X, PT_LOAD, parseElf } from './elf.js'
import { type InitrdPlacement, placeInitrd } from './initrd.js'
import { GPA_4G } from './layout.js'
import { beginLinuxLoad, type LinuxImages, type LinuxLoad } from './linux-options.js'
import type { LoadTarget } from './load-plan.js'
import { findPvhEntry, planPvhStartInfo } from './pvh.js'
import { planZeroPage } from './zero-page.js'

/** How to enter an ELF64 kernel; `'auto'` takes PVH when the image carries the note. */
export type ElfProtocol = 'auto' | 'linux64' | 'pvh'

/**
 * Loads an ELF64 kernel.
 *
 * With `'linux64'` the entry point is `e_entry`, in long mode with RSI at a zero page (Linux/x86
 * boot protocol; `e_entry` of a vmlinux is a physical address). With `'pvh'` it is the address in
 * the note XEN_ELFNOTE_PHYS32_ENTRY, in protected mode with paging off and EBX at a
 * `struct hvm_start_info` (Xen, "x86/HVM direct boot ABI").
 *
 * @throws BootError before anything is written, when the image is malformed, of another kind, or
 *   does not fit; `ERR_BOOT_UNSUPPORTED` for `'pvh'` without the note
 */
export function loadElf64(
  memory: LoadTarget,
  images: LinuxImages,
  protocol: ElfProtocol = 'auto',
): BootState {
  const load = beginLinuxLoad(memory, images)
  const elf = parseElf(load.kernel)
  if (elf.bits !== 64) {
    const message = 'ELF image: 32-bit (EI_CLASS 1); use a kernel built for x86-64'
    throw new BootError('ERR_BOOT_UNSUPPORTED', message, { offset: 4 })
  }
  const pvhEntry = protocol === 'linux64' ? undefined : findPvhEntry(elf)
  if (pvhEntry !== undefined) return loadPvh(memory, load, elf, pvhEntry)
  if (protocol === 'pvh') {
    const message =
      'ELF image: no note XEN_ELFNOTE_PHYS32_ENTRY, so it has no PVH entry; ' +
      'build the kernel with CONFIG_PVH=y or use the protocol linux64'
    throw new BootError('ERR_BOOT_UNSUPPORTED', message)
  }
  return loadLinux64(memory, load, elf)
}

function loadLinux64(memory: LoadTarget, load: LinuxLoad, elf: ElfImage): BootState {
  const { plan, memoryMap, rsdpGpa } = load
  planLongModeTables(plan)
  const { cmdlineGpa, initrd } = planCommon(load, elf)
  const entry = checkEntry(elf, elf.entry, 'e_entry')
  const content = { kernelGpa: entry, cmdlineGpa, initrd, memoryMap, rsdpGpa }
  const zeroPage = planZeroPage(plan, content)
  plan.commit(memory)
  const cpu = longMode({ rip: BigInt(entry), rsi: BigInt(zeroPage) })
  return { ...cpu, protocol: 'linux64', placements: plan.placements, memoryMap }
}

function loadPvh(memory: LoadTarget, load: LinuxLoad, elf: ElfImage, pvhEntry: bigint): BootState {
  const { plan, memoryMap, rsdpGpa } = load
  planGdt(plan, 'protected')
  const { cmdlineGpa, initrd } = planCommon(load, elf)
  const entry = checkEntry(elf, pvhEntry, 'XEN_ELFNOTE_PHYS32_ENTRY')
  const startInfo = planPvhStartInfo(plan, { cmdlineGpa, initrd, memoryMap, rsdpGpa })
  plan.commit(memory)
  const cpu = protectedMode({ rip: BigInt(entry), rbx: BigInt(startInfo) })
  return { ...cpu, protocol: 'pvh', placements: plan.placements, memoryMap }
}

interface CommonPlacements {
  readonly cmdlineGpa: number
  readonly initrd: InitrdPlacement
}

function planCommon({ plan, cmdline, initrd }: LinuxLoad, elf: ElfImage): CommonPlacements {
  const cmdlineGpa = planCmdline(plan, cmdline, DEFAULT_CMDLINE_LIMIT)
  const segments = loadable(elf)
  if (segments.length === 0) {
    throw new BootError('ERR_BOOT_BAD_IMAGE', 'ELF image: no PT_LOAD segment, nothing to load')
  }
  for (const { index, paddr, memorySize, data } of segments) {
    plan.claim(`kernel segment ${index}`, paddr, memorySize)
    plan.write(paddr, data)
    plan.zero(paddr + data.length, memorySize - data.length)
  }
  // No header tells how high the kernel reaches; a PVH module list is read by 32-bit code.
  const limits = { addrMax: GPA_4G - 1, above4G: false }
  return { cmdlineGpa, initrd: placeInitrd(plan, initrd, limits) }
}

function loadable(elf: ElfImage): ElfSegment[] {
  return elf.segments.filter((segment) => segment.type === PT_LOAD && segment.memorySize > 0)
}

/** An entry outside the loaded code would start the guest in zeros: refuse it with the reason. */
function checkEntry(elf: ElfImage, entry: bigint, field: string): number {
  const home = loadable(elf).find(({ flags, paddr, data }) => {
    const end = BigInt(paddr + data.length)
    return flags % 2 === PF_X && entry >= BigInt(paddr) && entry < end
  })
  if (home && entry < BigInt(GPA_4G)) return Number(entry)
  const message =
    `ELF image: ${field} ${hex(entry)} is not inside an executable segment's physical ` +
    'addresses below 4 GiB; the entry must be a physical address'
  throw new BootError('ERR_BOOT_BAD_IMAGE', message)
}
