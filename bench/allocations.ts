// How many bytes of JavaScript's heap an operation costs.

import { PerformanceObserver } from 'node:perf_hooks'
import { setImmediate } from 'node:timers/promises'
import { getHeapStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Block } from './harness.js'

/**
 * Bytes that `count` operations allocate, besides what the measurement itself does. `undefined` when
 * the garbage collector ran meanwhile every time: then it was a lot.
 */
export async function bytesAllocated(block: Block, count: number): Promise<number | undefined> {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const nothing: Block = () => {}
  block(count)
  let least: number | undefined
  for (let attempt = 0; attempt < 5; attempt++) {
    collect()
    const overhead = await growth(nothing, count)
    collect()
    const bytes = await growth(block, count)
    if (bytes === undefined || overhead === undefined) continue
    least = Math.min(least ?? Infinity, Math.max(0, bytes - overhead))
    if (least === 0) break
  }
  return least
}

/** How much the heap grew, unless it was collected meanwhile. */
async function growth(block: Block, count: number): Promise<number | undefined> {
  let collections = 0
  const observer = new PerformanceObserver((list) => {
    collections += list.getEntries().length
  })
  observer.observe({ entryTypes: ['gc'] })
  const before = getHeapStatistics().used_heap_size
  block(count)
  const bytes = getHeapStatistics().used_heap_size - before
  // The observer is told of a collection by the event loop.
  for (let turn = 0; turn < 3; turn++) await setImmediate()
  observer.disconnect()
  return collections === 0 ? bytes : undefined
}
