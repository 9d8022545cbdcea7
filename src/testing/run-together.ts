// Runs several vCPUs at once, each on a thread of its own.

import type { Outcome } from './outcome.js'
import { type RunGuestOptions, type TestCpu, TIMEOUT_MS } from './test-cpu.js'

/** Starts the vCPUs, which stand at their code's beginning, and waits until the last has ended. */
export async function runTogether(
  cpus: readonly TestCpu[],
  options: RunGuestOptions,
): Promise<Outcome[]> {
  const outcomes: Outcome[] = []
  const stopAll = () => {
    for (const { vcpu } of cpus) vcpu.requestStop()
  }
  const timer = setTimeout(stopAll, options.timeoutMs ?? TIMEOUT_MS)
  const runs = cpus.map(async (cpu) => {
    const { vcpu } = cpu
    try {
      vcpu.start((exit) => {
        const outcome = cpu.answer(exit, options)
        if (!outcome) return
        outcomes[cpu.index] = outcome
        vcpu.requestStop()
      })
      await vcpu.join()
    } catch (error) {
      // Such as what a function of the test has thrown: the others may wait for this vCPU.
      stopAll()
      throw error
    }
    outcomes[cpu.index] ??= cpu.outcome('timeout')
  })
  const ends = await Promise.allSettled(runs)
  clearTimeout(timer)
  const failed = ends.find((end) => end.status === 'rejected')
  if (failed) throw failed.reason
  return outcomes
}
