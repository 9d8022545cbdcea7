// Says on a terminal how far the images have been read, where that takes long enough to wonder.

import { basename } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import type { ImageProgress, OnImageProgress } from '../machine/image.js'

const PATIENCE_MS = 300
const CLEAR_LINE = '\r\x1b[K'

/** Something to write to; a terminal or a test's stand-in for one. */
export interface Screen {
  write(text: string): unknown
}

/** Draws on `screen`, in one line that is gone when everything has been read. */
export function imageProgress(screen: Screen, now: () => number = Date.now): OnImageProgress {
  const began = now()
  const images = new Map<string, ImageProgress>()
  let drawn = false
  return (progress) => {
    images.set(progress.path, progress)
    const all = [...images.values()]
    const isDone = all.every(({ loaded, total }) => loaded >= total)
    if (isDone && drawn) screen.write(CLEAR_LINE)
    if (isDone) drawn = false
    if (isDone || now() - began < PATIENCE_MS) return
    drawn = true
    screen.write(`${CLEAR_LINE}${all.map(percentage).join('  ')}`)
  }
}

function percentage({ path, loaded, total }: ImageProgress): string {
  const percent = total === 0 ? 100 : Math.floor((100 * loaded) / total)
  return `${stripVTControlCharacters(basename(path))} ${percent} %`
}
