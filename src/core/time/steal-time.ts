// Steal time: what KVM tells a guest of the time that its vCPU wanted to run and could not.

import { MSR_KVM_STEAL_TIME } from '../../uapi/index.js'
import type { PhysicalMemory } from '../../x86/physical-memory.js'
import { integer, outOfRange } from '../validate.js'
import type { Vcpu } from '../vcpu.js'

/** `kvm_steal_time`, 64 bytes. Source: Linux, Documentation/virt/kvm/x86/msr.rst. */
export interface StealTime {
  /** Nanoseconds, in all. */
  steal: bigint
  /** Even; one more update is two more. */
  version: number
  /** Whether the vCPU is off its CPU now. */
  preempted: boolean
}

const ENABLED = 1n
const SIZE = 64
const ATTEMPTS = 1000

/**
 * Does what a guest does to be told: writes MSR_KVM_STEAL_TIME. The guest must be offered
 * `kvm_steal_time` in CPUID.
 *
 * @param gpa Of 64 bytes of RAM, a multiple of 64.
 * @throws KvmError naming the MSR, where the host has no scheduler statistics.
 */
export function enableStealTime(vcpu: Vcpu, gpa: number): void {
  if (integer(gpa, 'gpa', 0, 2 ** 52) % SIZE !== 0) throw outOfRange('gpa', 'a multiple of 64', gpa)
  vcpu.setMsrs([{ index: MSR_KVM_STEAL_TIME, data: BigInt(gpa) + ENABLED }])
}

/** Reads it while KVM may be writing it. @throws Error when the version never settles. */
export function readStealTime(memory: PhysicalMemory, gpa: number): StealTime {
  for (let i = 0; i < ATTEMPTS; i++) {
    const version = memory.readU32(gpa + 8)
    if (version % 2 !== 0) continue
    const steal = memory.readU64(gpa)
    const preempted = memory.readU32(gpa + 16) % 0x100 !== 0
    if (memory.readU32(gpa + 8) === version) return { steal, version, preempted }
  }
  throw new Error('steal time: the version does not become even')
}
