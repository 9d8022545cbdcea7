// Images that a machine boots, from files or memory.

import { open } from 'node:fs/promises'
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

const PART = 4 * 2 ** 20

/** The bytes of an image. */
export async function readImage(
  image: Image,
  name: string,
  onProgress: OnImageProgress = () => {},
): Promise<Uint8Array> {
  if (image instanceof Uint8Array) return image
  if (typeof image !== 'string') throw invalidArgType(name, 'a path or a Uint8Array', image)
  await using file = await open(image)
  const { size: total } = await file.stat()
  const bytes = Buffer.allocUnsafe(total)
  let loaded = 0
  onProgress({ path: image, loaded, total })
  while (loaded < total) {
    const { bytesRead } = await file.read(bytes, loaded, Math.min(PART, total - loaded))
    if (bytesRead === 0) break
    loaded += bytesRead
    onProgress({ path: image, loaded, total })
  }
  return bytes.subarray(0, loaded)
}
