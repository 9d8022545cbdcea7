// How the host schedules a vCPU's thread: the arguments of sched_setscheduler(2) and its kin.

import { integer, invalidArgType, list } from '../validate.js'

/** A scheduling policy (sched(7)). */
export interface ThreadScheduler {
  /** `'other'`, `'batch'` and `'idle'` share the CPU; `'fifo'` and `'rr'` are real-time. */
  policy: 'other' | 'batch' | 'idle' | 'fifo' | 'rr'
  /** 1 to 99 for the real-time policies, else 0, which is the default. */
  priority?: number
}

// Linux's SCHED_*.
const POLICIES = { other: 0, fifo: 1, rr: 2, batch: 3, idle: 5 } as const

/** Linux's number of a policy. */
export function schedulerNumber(policy: ThreadScheduler['policy']): number {
  if (Object.hasOwn(POLICIES, policy)) return POLICIES[policy]
  throw invalidArgType('scheduler.policy', `one of ${Object.keys(POLICIES).join(', ')}`, policy)
}

const MOST_CPUS = 8192

/** The mask that sched_setaffinity takes: a bit for each CPU. */
export function cpuMask(cpus: readonly number[]): Uint8Array {
  const numbers = list(cpus, 'cpus').map((cpu, i) => integer(cpu, `cpus[${i}]`, 0, MOST_CPUS - 1))
  const bytes = new Uint8Array(MOST_CPUS / 8)
  for (const cpu of numbers) bytes[cpu >>> 3]! |= 1 << (cpu & 7)
  return bytes
}
