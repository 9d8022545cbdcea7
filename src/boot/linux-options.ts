// What all Linux loaders take, and the part of the work that they share.

import { checkInteger } from '../x86/out-of-range.js'
import { checkBytes } from './arguments.js'
import { GPA_END } from './layout.js'
import { LoadPlan, type LoadTarget } from './load-plan.js'
import { createMemoryMap, E820_TYPE, type MemoryMapEntry } from './memory-map.js'

/** What to boot, besides the kernel's own format. */
export interface LinuxImages {
  /** The kernel image: a bzImage as distributions package it, or an ELF64 vmlinux. */
  readonly kernel: Uint8Array
  /** Initial RAM disk (any format that the kernel takes); absent or empty for none. */
  readonly initrd?: Uint8Array | undefined
  /** Kernel command line, printable ASCII; default empty. */
  readonly cmdline?: string | undefined
  /**
   * Parts of RAM, or other ranges, that the guest's memory map must show with another type. The
   * loaders put nothing there.
   */
  readonly reservations?: readonly MemoryMapEntry[] | undefined
  /** Guest-physical address of the ACPI root pointer, when the caller has put one in RAM. */
  readonly rsdpGpa?: number | undefined
}

/** {@link LinuxImages} with every default in place, and the plan to load them. */
export interface LinuxLoad {
  readonly kernel: Uint8Array
  readonly initrd: Uint8Array | undefined
  readonly cmdline: string
  readonly rsdpGpa: number
  readonly memoryMap: readonly MemoryMapEntry[]
  readonly plan: LoadPlan
}

/** Checks the arguments and starts a plan over what the guest will know as RAM. */
export function beginLinuxLoad(memory: LoadTarget, images: LinuxImages): LinuxLoad {
  const { kernel, initrd, cmdline = '', reservations, rsdpGpa = 0 } = images
  checkBytes('kernel', kernel)
  if (initrd !== undefined) checkBytes('initrd', initrd)
  checkInteger('rsdpGpa', rsdpGpa, 0, GPA_END - 1)
  return { kernel, initrd, cmdline, rsdpGpa, ...beginLoad(memory, reservations) }
}

/** The guest's memory map, and a plan over what it calls RAM. */
export function beginLoad(
  memory: LoadTarget,
  reservations: readonly MemoryMapEntry[] = [],
): { memoryMap: readonly MemoryMapEntry[]; plan: LoadPlan } {
  const memoryMap = createMemoryMap(memory.ranges, reservations)
  const plan = new LoadPlan(memoryMap.filter((entry) => entry.type === E820_TYPE.RAM))
  return { memoryMap, plan }
}
