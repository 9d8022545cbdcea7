import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

/**
 * Collects garbage until `done` says so, with turns of the event loop between, in which finalizers
 * run. Fails when that does not help.
 */
export async function collectUntil(done: () => boolean): Promise<void> {
  for (let round = 0; round < 50; round++) {
    collect()
    await new Promise((resolve) => setImmediate(resolve))
    if (done()) return
  }
  throw new Error('garbage collection did not bring it about')
}

/** Collects garbage several times, for what must not happen. */
export async function collectSeveralTimes(): Promise<void> {
  let rounds = 0
  await collectUntil(() => ++rounds === 5)
}
