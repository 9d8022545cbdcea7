// Images that a machine boots, from files or memory. A file is mapped and not read: its bytes go into guest RAM
// without a copy of them in between, and take no memory of this process afterwards.

import { statSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { alignUp } from '../boot/align.js'
import { GuestMemory } from '../core/memory.js'
import { invalidArgType } from '../core/validate.js'

/** An image, as a path or as its bytes. */
export type Image = string | Uint8Array

/** How far the reading of an image's file is. */
export interface ImageProgress {
  readonly path: string
  /** Bytes read so far. */
  readonly loaded: number
  /** Bytes in all. */
  readonly total: number
}

/** Is told of each image at its start, between its parts and at its end. */
export type OnImageProgress = (progress: ImageProgress) => void

/** An image that can be looked at, again and again. */
export interface ImageBytes {
  readonly bytes: Uint8Array
  /** Gives back the memory that it takes until it is looked at again. */
  release(): void
}

/** Brings a part of an image into memory, or begins to bring in all of it; tells how many bytes, none at the file's end. */
type ReadPart = (from: number, size: number) => Promise<number>

/** Of the host's memory. */
export const PAGE = 4096
/** From this size on, a thread that brings memory in takes less time than it saves. */
export const LARGE = 2 * 2 ** 20
const PART = 4 * 2 ** 20

/** The bytes of an image. */
export async function readImage(
  image: Image,
  name: string,
  onProgress?: OnImageProgress,
): Promise<ImageBytes> {
  if (image instanceof Uint8Array) return { bytes: image, release() {} }
  if (typeof image !== 'string') throw invalidArgType(name, 'a path or a Uint8Array', image)
  // Not awaited: the first file that a process waits for has it start threads, which takes longer than the look.
  const { size: total } = statSync(image)
  const { bytes, readPart, ...rest } = mapped(image, total) ?? copied(image, total)
  let loaded = 0
  onProgress?.({ path: image, loaded, total })
  while (loaded < total) {
    const got = await readPart(loaded, onProgress === undefined ? total : PART)
    if (got === 0) break
    loaded += got
    onProgress?.({ path: image, loaded, total })
    if (loaded < total) await setImmediate()
  }
  return { bytes: bytes.subarray(0, loaded), ...rest }
}

/** Undefined where the file system cannot map the file, or the kernel (before 5.14) not populate it. */
function mapped(path: string, total: number): (ImageBytes & { readPart: ReadPart }) | undefined {
  const size = Math.ceil(total / PAGE) * PAGE
  let memory: GuestMemory | undefined
  try {
    memory = GuestMemory.create([{ gpa: 0, size }], { backing: { file: path, mode: 'private' } })
    memory.advise(0, PAGE, 'populateRead')
  } catch {
    memory?.close()
    return undefined
  }
  const region = memory
  return {
    bytes: region.view(0, total),
    release: () => region.discard(0, size),
    async readPart(from, length) {
      const part = Math.min(alignUp(length, PAGE), size - from)
      if (part === size && size >= LARGE) region.prefault(0, size, 'read')
      else region.advise(from, part, 'populateRead')
      return Math.min(part, total - from)
    },
  }
}

function copied(path: string, total: number): ImageBytes & { readPart: ReadPart } {
  const bytes = Buffer.allocUnsafe(total)
  const readPart: ReadPart = async (from, length) => {
    // Loaded when needed: it takes longer than all of an image that is mapped.
    const { open } = await import('node:fs/promises')
    await using file = await open(path)
    return (await file.read(bytes, from, Math.min(length, total - from), from)).bytesRead
  }
  return { bytes, release() {}, readPart }
}
