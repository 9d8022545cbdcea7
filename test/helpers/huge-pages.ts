// Pages for the host's pool of huge pages, for as long as a test needs them.

import { mkdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const FOLDER = '/sys/kernel/mm/hugepages'
/** Tests of other files change the same numbers. */
const LOCK = join(tmpdir(), 'node-kvm-huge-pages.lock')
/** Whoever holds it longer was killed. */
const STALE_MS = 60_000

/**
 * Adds pages of that size to the pool, if it can, or finds that it has as many free.
 *
 * @returns What takes out again what was added, which the end of the process does as well; undefined when
 *   there are too few.
 */
export function addHugePages(kib: 2048 | 1048576, count: number): (() => void) | undefined {
  const folder = `${FOLDER}/hugepages-${kib}kB`
  const path = `${folder}/nr_hugepages`
  const read = (file = path) => Number(readFileSync(file, 'latin1'))
  try {
    return locked(() => {
      const before = read()
      writeFileSync(path, `${before + count}`)
      if (read() >= before + count) return removal(path, read, count)
      writeFileSync(path, `${before}`)
      return read(`${folder}/free_hugepages`) >= count ? () => {} : undefined
    })
  } catch {
    // No such size, or no right to.
    return undefined
  }
}

function removal(path: string, read: () => number, count: number): () => void {
  const remove = () => {
    process.off('exit', remove)
    locked(() => writeFileSync(path, `${Math.max(read() - count, 0)}`))
  }
  process.on('exit', remove)
  return remove
}

function locked<T>(action: () => T): T {
  while (!lock()) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10)
  try {
    return action()
  } finally {
    rmdirSync(LOCK)
  }
}

function lock(): boolean {
  try {
    mkdirSync(LOCK)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
  const since = statSync(LOCK, { throwIfNoEntry: false })?.mtimeMs ?? Date.now()
  if (Date.now() - since > STALE_MS) rmdirSync(LOCK)
  return false
}
