// A raw image at an address of the caller's choice: test guests, boot sectors, small kernels.

import { checkInteger, outOfRange } from '../x86/out-of-range.js'
import { checkBytes, checkRange } from './arguments.js'
import type { BootMode, BootState, CpuBootState } from './boot-state.js'
import { longMode, planGdt, planLongModeTables, protectedMode, realMode } from './cpu-modes.js'
import { GPA_4G, HIGH_MEMORY_GPA } from './layout.js'
import { LoadPlan, type LoadTarget } from './load-plan.js'

/** What {@link loadFlat} loads. */
export interface FlatImage {
  /** The bytes, loaded as they are; not empty. */
  readonly image: Uint8Array
  /** Guest-physical address to load them at. */
  readonly gpa: number
  /** Guest-physical address of the first instruction; default `gpa`. */
  readonly entry?: number | undefined
  /**
   * Processor mode at entry. `'real'`: entry below 1 MiB, CS:IP with CS 0 below 64 KiB and a
   * paragraph-aligned CS above. `'protected'`: flat 32-bit segments, paging off. `'long'`: the first
   * 4 GiB mapped to themselves. The last two put a GDT at 0x1000, `'long'` also page tables from
   * 0x3000 to 0x8fff.
   */
  readonly mode: BootMode
  /** Initial stack pointer; default 0. */
  readonly stackPointer?: number | undefined
}

/**
 * Loads a flat image into RAM and describes a vCPU that starts in it.
 *
 * @throws BootError `ERR_BOOT_NO_SPACE` or `ERR_BOOT_OVERLAP` before anything is written;
 *   RangeError with code `ERR_OUT_OF_RANGE` for an entry that the mode cannot reach
 */
export function loadFlat(memory: LoadTarget, flat: FlatImage): BootState {
  const { image, gpa, entry = gpa, mode, stackPointer = 0 } = flat
  checkBytes('image', image)
  checkRange('image', gpa, image.length)
  checkInteger('entry', entry, 0, (mode === 'real' ? HIGH_MEMORY_GPA : GPA_4G) - 1)
  checkInteger('stackPointer', stackPointer, 0, mode === 'real' ? 0xffff : GPA_4G)
  const plan = new LoadPlan(memory.ranges)
  const cpu = prepare(plan, mode, entry, BigInt(stackPointer))
  plan.claim('flat image', gpa, image.length)
  plan.write(gpa, image)
  plan.commit(memory)
  return { ...cpu, protocol: 'flat', placements: plan.placements, memoryMap: [] }
}

function prepare(plan: LoadPlan, mode: BootMode, entry: number, rsp: bigint): CpuBootState {
  switch (mode) {
    case 'real': {
      const cs = entry <= 0xffff ? 0 : Math.floor(entry / 16)
      return realMode(cs, { rip: BigInt(entry - cs * 16), rsp })
    }
    case 'protected':
      planGdt(plan, 'protected')
      return protectedMode({ rip: BigInt(entry), rsp })
    case 'long':
      planLongModeTables(plan)
      return longMode({ rip: BigInt(entry), rsp })
    default:
      throw outOfRange('mode', "'real', 'protected' or 'long'", mode)
  }
}
