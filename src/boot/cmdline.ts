// The kernel command line: checked, terminated and claimed.

import { checkString } from './arguments.js'
import { BootError, hex } from './boot-error.js'
import { CMDLINE_AREA_SIZE, CMDLINE_GPA } from './layout.js'
import type { LoadPlan } from './load-plan.js'

/**
 * The longest command line, in bytes without the terminating zero, that an x86 Linux takes when no
 * setup header says otherwise (COMMAND_LINE_SIZE is 2048 with the zero).
 */
export const DEFAULT_CMDLINE_LIMIT = 2047

/**
 * The bytes of a command line with its terminating zero.
 *
 * @param limit - the most bytes allowed without the zero (`cmdline_size` of the setup header)
 * @throws BootError `ERR_BOOT_CMDLINE_TOO_LONG`; `ERR_BOOT_CMDLINE_INVALID` for anything that is
 *   not printable ASCII, because the kernel gives other bytes no defined meaning
 */
export function encodeCmdline(cmdline: string, limit: number = DEFAULT_CMDLINE_LIMIT): Uint8Array {
  checkString('cmdline', cmdline)
  const bytes = new Uint8Array(cmdline.length + 1)
  for (let i = 0; i < cmdline.length; i++) {
    const code = cmdline.charCodeAt(i)
    if (code < 0x20 || code > 0x7e) {
      const message =
        `the command line has character code ${hex(code)} at position ${i}; ` +
        'only printable ASCII is allowed'
      throw new BootError('ERR_BOOT_CMDLINE_INVALID', message, { offset: i })
    }
    bytes[i] = code
  }
  if (cmdline.length > limit) {
    const message =
      `the command line is ${cmdline.length} bytes long, this kernel takes at most ${limit}; ` +
      'shorten it or move options into the initramfs'
    throw new BootError('ERR_BOOT_CMDLINE_TOO_LONG', message, { size: cmdline.length, limit })
  }
  return bytes
}

/** Claims and fills the command line's place; returns its address. Same errors as encodeCmdline. */
export function planCmdline(plan: LoadPlan, cmdline: string, limit: number): number {
  const bytes = encodeCmdline(cmdline, Math.min(limit, CMDLINE_AREA_SIZE - 1))
  plan.claim('command line', CMDLINE_GPA, bytes.length)
  plan.write(CMDLINE_GPA, bytes)
  return CMDLINE_GPA
}
