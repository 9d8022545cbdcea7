// The front door for every kind of kernel: looks at the image and calls its loader.

import { outOfRange } from '../x86/out-of-range.js'
import { BootError } from './boot-error.js'
import type { BootState } from './boot-state.js'
import { isElf, parseElf } from './elf.js'
import { type LinuxLoadOptions, loadLinux } from './linux.js'
import type { LoadTarget } from './load-plan.js'
import { isMultiboot, loadMultiboot, type MultibootModule } from './multiboot.js'
import { findPvhEntry } from './pvh.js'
import { isBzImage } from './setup-header.js'

/** What {@link loadKernel} loads. */
export interface KernelLoadOptions extends Omit<LinuxLoadOptions, 'protocol'> {
  /**
   * How the kernel is entered. `'auto'` (the default) takes multiboot for an image with its header
   * that is neither a bzImage nor has a PVH entry, and for the rest what `loadLinux` takes.
   */
  readonly protocol?: LinuxLoadOptions['protocol'] | 'multiboot'
  /** For multiboot only. There, `initrd` is the first module. */
  readonly modules?: readonly MultibootModule[] | undefined
}

/**
 * Loads a kernel: Linux (see {@link loadLinux}) or multiboot (see {@link loadMultiboot}).
 *
 * @throws BootError as these; `ERR_BOOT_UNSUPPORTED` for modules of a kernel that takes none
 */
export function loadKernel(memory: LoadTarget, options: KernelLoadOptions): BootState {
  const { protocol = 'auto', modules = [], ...linux } = options
  if (!Array.isArray(modules)) throw outOfRange('modules', 'a list', modules)
  if (protocol === 'multiboot' || (protocol === 'auto' && prefersMultiboot(options.kernel))) {
    const { initrd } = options
    const all = initrd === undefined ? modules : [{ image: initrd, cmdline: 'initrd' }, ...modules]
    return loadMultiboot(memory, { ...linux, modules: all })
  }
  if (modules.length > 0) {
    throw new BootError('ERR_BOOT_UNSUPPORTED', 'only a multiboot kernel takes modules')
  }
  return loadLinux(memory, { ...linux, protocol })
}

function prefersMultiboot(kernel: Uint8Array): boolean {
  if (!(kernel instanceof Uint8Array) || !isMultiboot(kernel) || isBzImage(kernel)) return false
  return !isElf(kernel) || findPvhEntry(parseElf(kernel)) === undefined
}
