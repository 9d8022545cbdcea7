// A bzImage by the 64-bit boot protocol: its protected-mode part is put into RAM and entered at
// +0x200 in long mode; the kernel unpacks itself.

import { alignUp } from './align.js'
import { BootError, hex } from './boot-error.js'
import type { BootState } from './boot-state.js'
import { planCmdline } from './cmdline.js'
import { longMode, planLongModeTables } from './cpu-modes.js'
import { placeInitrd } from './initrd.js'
import { BZIMAGE_ENTRY64_OFFSET, GPA_4G, HIGH_MEMORY_GPA } from './layout.js'
import { beginLinuxLoad, type LinuxImages } from './linux-options.js'
import type { LoadPlan, LoadTarget } from './load-plan.js'
import { parseSetupHeader, type SetupHeader, XLF_CAN_BE_LOADED_ABOVE_4G } from './setup-header.js'
import { planZeroPage } from './zero-page.js'

/**
 * Loads a bzImage for the 64-bit entry point (Linux/x86 boot protocol, "64-bit Boot Protocol";
 * protocol 2.12 or newer with XLF_KERNEL_64). Writes the kernel, the RAM disk, the command line,
 * the zero page, a GDT and page tables that map the first 4 GiB to themselves.
 *
 * @throws BootError before anything is written, when the image is malformed, of another kind, or
 *   does not fit
 */
export function loadBzImage(memory: LoadTarget, images: LinuxImages): BootState {
  const { kernel, initrd, cmdline, rsdpGpa, memoryMap, plan } = beginLinuxLoad(memory, images)
  const header = parseSetupHeader(kernel)
  planLongModeTables(plan)
  const cmdlineGpa = planCmdline(plan, cmdline, header.cmdlineSize)
  const kernelGpa = placeKernel(plan, header)
  const initrdAt = placeInitrd(plan, initrd, {
    addrMax: header.initrdAddrMax,
    above4G: (header.xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G) !== 0,
  })
  const zeroPage = planZeroPage(plan, {
    setupHeader: header.bytes,
    kernelGpa,
    cmdlineGpa,
    initrd: initrdAt,
    memoryMap,
    rsdpGpa,
  })
  plan.commit(memory)
  const rip = BigInt(kernelGpa + BZIMAGE_ENTRY64_OFFSET)
  const cpu = longMode({ rip, rsi: BigInt(zeroPage) })
  return { ...cpu, protocol: 'linux64', placements: plan.placements, memoryMap }
}

/**
 * Claims the area that the kernel runs in, and puts the compressed kernel at its start. Loading
 * below `pref_address` would gain nothing: the kernel moves up to it before it unpacks.
 */
function placeKernel(plan: LoadPlan, header: SetupHeader): number {
  const { payload, prefAddress } = header
  if (payload.length <= BZIMAGE_ENTRY64_OFFSET) {
    const message = `bzImage: ${payload.length} bytes of code do not reach the entry point at 0x200`
    throw new BootError('ERR_BOOT_BAD_IMAGE', message, { size: payload.length })
  }
  const size = Math.max(header.initSize, payload.length)
  const gpa = header.relocatable
    ? placeRelocatable(plan, header, size)
    : placeFixed(plan, prefAddress, size)
  plan.write(gpa, payload)
  return gpa
}

function placeFixed(plan: LoadPlan, gpa: number, size: number): number {
  if (gpa + size > GPA_4G) throw noSpace(plan, size, gpa)
  plan.claim('kernel', gpa, size)
  return gpa
}

function placeRelocatable(plan: LoadPlan, header: SetupHeader, size: number): number {
  const from = Math.max(header.prefAddress, HIGH_MEMORY_GPA)
  const window = { alignment: header.kernelAlignment, from, end: GPA_4G }
  const gpa = plan.claimLowest('kernel', size, window)
  if (gpa === undefined) throw noSpace(plan, size, alignUp(from, header.kernelAlignment))
  return gpa
}

function noSpace(plan: LoadPlan, size: number, gpa: number): BootError {
  const message =
    `the kernel needs ${hex(size)} bytes (init_size) of RAM at ${hex(gpa)} or above, below 4 GiB; ` +
    `usable RAM is ${plan.describeUsable()}. Give the guest more memory`
  return new BootError('ERR_BOOT_NO_SPACE', message, { placement: 'kernel', gpa, size })
}
