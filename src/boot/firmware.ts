// A firmware image where a PC has it: read-only, ending at 4 GiB, its last 256 KiB once more below
// 1 MiB, and the processor at the reset vector.

import { outOfRange } from '../x86/out-of-range.js'
import { checkBytes } from './arguments.js'
import type { BootState } from './boot-state.js'
import { realMode } from './cpu-modes.js'
import { BYTES_PER_PAGE, GPA_4G, HIGH_MEMORY_GPA } from './layout.js'
import { LoadPlan, type LoadTarget } from './load-plan.js'

/** The most that a firmware image may take below 4 GiB: 16 MiB. */
export const FIRMWARE_MAX_SIZE = 0x100_0000

/** What {@link loadFirmware} gives: where to map the image, and how to start. */
export interface FirmwareState extends BootState {
  /** The image and its place below 4 GiB, to be mapped read-only by the caller. */
  readonly rom: { readonly gpa: number; readonly image: Uint8Array }
}

const SHADOW_SIZE = 0x4_0000
const RESET_CS = 0xf000
const RESET_CS_BASE = 0xffff_0000n
const RESET_IP = 0xfff0n

/**
 * Copies the end of a firmware image below 1 MiB, where it can write to itself as if it had enabled
 * shadow RAM, and describes a vCPU after reset (SDM vol. 3A §10.1.4: CS base 0xffff0000, IP 0xfff0).
 *
 * @throws RangeError `ERR_OUT_OF_RANGE` unless the image is whole pages, at most 16 MiB; BootError
 *   `ERR_BOOT_NO_SPACE` when there is no RAM below 1 MiB
 */
export function loadFirmware(memory: LoadTarget, image: Uint8Array): FirmwareState {
  checkBytes('firmware', image)
  const size = image.length
  if (size === 0 || size % BYTES_PER_PAGE !== 0 || size > FIRMWARE_MAX_SIZE) {
    throw outOfRange('firmware.length', `whole pages, at most ${FIRMWARE_MAX_SIZE} bytes`, size)
  }
  const plan = new LoadPlan(memory.ranges)
  const shadow = image.subarray(-SHADOW_SIZE)
  const shadowGpa = HIGH_MEMORY_GPA - shadow.length
  plan.claim('firmware shadow', shadowGpa, shadow.length)
  plan.write(shadowGpa, shadow)
  plan.commit(memory)
  const cpu = realMode(RESET_CS, { rip: RESET_IP })
  const cs = { ...cpu.sregs.cs, base: RESET_CS_BASE }
  return {
    ...cpu,
    sregs: { ...cpu.sregs, cs },
    protocol: 'firmware',
    placements: plan.placements,
    memoryMap: [],
    rom: { gpa: GPA_4G - size, image },
  }
}
