// Pages for the host's pool of huge pages, for as long as a test needs them.

import { readFileSync, writeFileSync } from 'node:fs'

const FOLDER = '/sys/kernel/mm/hugepages'

/**
 * Adds pages of that size to the pool.
 *
 * @returns What takes them out again, which the end of the process does as well; undefined when this
 *   host cannot, or does not let this process.
 */
export function addHugePages(kib: 2048 | 1048576, count: number): (() => void) | undefined {
  const path = `${FOLDER}/hugepages-${kib}kB/nr_hugepages`
  const read = () => Number(readFileSync(path, 'latin1'))
  try {
    const before = read()
    const restore = () => writeFileSync(path, `${before}`)
    process.on('exit', restore)
    writeFileSync(path, `${before + count}`)
    const remove = () => {
      process.off('exit', restore)
      restore()
    }
    if (read() >= before + count) return remove
    remove()
  } catch {
    // No such size, or no right to.
  }
  return undefined
}
