// The front door: looks at an image's first bytes and calls the loader for its format.

import { outOfRange } from '../x86/out-of-range.js'
import { checkBytes } from './arguments.js'
import { BootError } from './boot-error.js'
import type { BootState } from './boot-state.js'
import { loadBzImage } from './bz-image.js'
import { isElf } from './elf.js'
import { type ElfProtocol, loadElf64 } from './elf64.js'
import type { LinuxImages } from './linux-options.js'
import type { LoadTarget } from './load-plan.js'
import { isBzImage } from './setup-header.js'

/** What {@link loadLinux} loads. */
export interface LinuxLoadOptions extends LinuxImages {
  /**
   * How the kernel is entered. `'auto'` (the default) takes the 64-bit boot protocol for a bzImage,
   * PVH for an ELF64 image with the note, and the 64-bit Linux entry for one without.
   */
  readonly protocol?: ElfProtocol | undefined
}

const PROTOCOLS: readonly ElfProtocol[] = ['auto', 'linux64', 'pvh']

/**
 * Loads a Linux kernel, recognised by its first bytes: a bzImage as distributions package it, or an
 * ELF64 vmlinux.
 *
 * @returns how the boot processor is to start, and what was placed where
 * @throws BootError before anything is written to guest memory; see {@link BootError.code}
 */
export function loadLinux(memory: LoadTarget, options: LinuxLoadOptions): BootState {
  const { kernel, protocol = 'auto' } = options
  checkBytes('kernel', kernel)
  if (!PROTOCOLS.includes(protocol)) throw outOfRange('protocol', PROTOCOLS.join(', '), protocol)
  if (isElf(kernel)) return loadElf64(memory, options, protocol)
  if (!isBzImage(kernel)) throw unrecognised(kernel)
  if (protocol !== 'pvh') return loadBzImage(memory, options)
  const message =
    'a bzImage has no PVH entry; use the protocol linux64, or the vmlinux from which it was made'
  throw new BootError('ERR_BOOT_UNSUPPORTED', message)
}

/** Beginnings of files that are easily taken for a kernel, with what to do about them. */
const NOT_KERNELS: readonly (readonly [bytes: readonly number[], what: string])[] = [
  [[0x1f, 0x8b], 'gzip data; decompress it first'],
  [[0xfd, 0x37, 0x7a, 0x58, 0x5a], 'xz data; decompress it first'],
  [[0x28, 0xb5, 0x2f, 0xfd], 'zstd data; decompress it first'],
  [[0x30, 0x37, 0x30, 0x37, 0x30], 'a cpio archive; are kernel and initrd swapped?'],
  [[0x21, 0x3c, 0x61, 0x72, 0x63, 0x68], 'a Debian package; unpack it first'],
]

function unrecognised(image: Uint8Array): BootError {
  const known = NOT_KERNELS.find(([bytes]) => bytes.every((byte, i) => image[i] === byte))
  const first = Array.from(image.subarray(0, 8), (byte) => byte.toString(16).padStart(2, '0'))
  const what = known
    ? `it is ${known[1]}`
    : `it is ${image.length} bytes that begin with ${first.join(' ') || 'nothing'}`
  const message = `the kernel is neither a bzImage nor an ELF image: ${what}`
  return new BootError('ERR_BOOT_BAD_IMAGE', message, { offset: 0 })
}
