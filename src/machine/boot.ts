// What a machine boots: reads the images and hands them to the loader of their kind.

import { alignDown, alignUp } from '../boot/align.js'
import {
  type AcpiTables,
  type BootMode,
  type BootState,
  type FirmwareState,
  type KernelLoadOptions,
  type LoadTarget,
  loadFirmware,
  loadFlat,
  loadKernel,
} from '../boot/index.js'
import { mergeRanges } from '../boot/memory-map.js'
import type { GuestMemory } from '../core/memory.js'
import { list, object } from '../core/validate.js'
import {
  type Image,
  type ImageBytes,
  LARGE,
  type OnImageProgress,
  PAGE,
  readImage,
} from './image.js'

/** A kernel, entered the way that it asks for. */
export interface KernelBoot {
  /** A Linux bzImage, an ELF64 vmlinux, or a multiboot kernel. */
  kernel: Image
  /** An initial RAM disk. A multiboot kernel gets it as its first module. */
  initrd?: Image
  /** The kernel's command line. */
  cmdline?: string
  /** More files for a multiboot kernel, each with the string that goes with it. */
  modules?: readonly { image: Image; cmdline?: string }[]
  /** How to enter the kernel; see `KernelLoadOptions` of node-kvm/boot. */
  protocol?: 'auto' | 'linux64' | 'pvh' | 'multiboot'
}

/** Raw code at an address. */
export interface FlatBoot {
  flat: Image
  /** Guest-physical address of its first byte. */
  gpa: number
  /** The processor's mode at the first instruction; see `FlatImage` of node-kvm/boot. */
  mode: BootMode
  /** Address of the first instruction. Default `gpa`. */
  entry?: number
  /** Default 0. */
  stackPointer?: number
}

/** A firmware image, started at the reset vector; it ends at 4 GiB and finds the rest itself. */
export interface FirmwareBoot {
  firmware: Image
}

/** What {@link Machine.create} boots. */
export type MachineBoot = KernelBoot | FlatBoot | FirmwareBoot

type Load = (memory: LoadTarget, acpi: Partial<AcpiTables>) => BootState | FirmwareState

/** The same with every image at hand, as often to be loaded as the machine is reset. */
export class Loader {
  readonly #load: Load
  readonly #images: readonly ImageBytes[]

  constructor(load: Load, images: readonly ImageBytes[]) {
    this.#load = load
    this.#images = images
  }

  /** Puts everything in its place. */
  load(memory: LoadTarget, acpi: AcpiTables): BootState | FirmwareState {
    const state = this.#load(memory, acpi)
    for (const image of this.#images) image.release()
    return state
  }

  /**
   * Begins to bring in the memory that the images will be written to: clearing it takes longer than all else, and the
   * machine can be made meanwhile.
   */
  prefault(memory: GuestMemory): void {
    const { placements } = this.#load({ ranges: memory.ranges, write() {}, fill() {} }, {})
    // Each is brought in by a thread, and while one is at it the stack of another has to wait for the address space.
    for (const { gpa, size } of mergeRanges(placements, LARGE - 1)) {
      if (size < LARGE) continue
      const from = alignDown(gpa, PAGE)
      memory.prefault(from, alignUp(gpa + size, PAGE) - from)
    }
  }
}

/** Reads the images of `boot`. */
export async function readBoot(boot: MachineBoot, onProgress?: OnImageProgress): Promise<Loader> {
  object(boot, 'boot')
  const images: ImageBytes[] = []
  const read = async (image: Image, name: string): Promise<Uint8Array> => {
    const each = await readImage(image, name, onProgress)
    images.push(each)
    return each.bytes
  }
  return new Loader(await readLoader(boot, read), images)
}

type Read = (image: Image, name: string) => Promise<Uint8Array>

async function readLoader(boot: MachineBoot, read: Read): Promise<Load> {
  if ('firmware' in boot) {
    const image = await read(boot.firmware, 'boot.firmware')
    return (memory) => loadFirmware(memory, image)
  }
  if ('flat' in boot) {
    const image = await read(boot.flat, 'boot.flat')
    return (memory) => loadFlat(memory, { ...boot, image })
  }
  const load = await readKernel(boot, read)
  return (memory, { rsdpGpa, reservations }) =>
    loadKernel(memory, { ...load, rsdpGpa, reservations })
}

async function readKernel(boot: KernelBoot, read: Read): Promise<KernelLoadOptions> {
  const { cmdline, protocol } = boot
  const modules = list(boot.modules ?? [], 'boot.modules')
  const [kernel, initrd, ...files] = await Promise.all([
    read(boot.kernel, 'boot.kernel'),
    boot.initrd === undefined ? undefined : read(boot.initrd, 'boot.initrd'),
    ...modules.map(({ image }, i) => read(image, `boot.modules[${i}].image`)),
  ])
  return {
    kernel,
    initrd,
    cmdline,
    protocol,
    modules: modules.map((module, i) => ({ image: files[i]!, cmdline: module.cmdline })),
  }
}
