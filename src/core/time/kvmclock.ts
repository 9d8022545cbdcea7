// kvmclock: the page through which KVM tells a guest what time it is, seen from the VMM.

import { MSR_KVM_SYSTEM_TIME_NEW } from '../../uapi/index.js'
import type { PhysicalMemory } from '../../x86/physical-memory.js'
import { integer, outOfRange } from '../validate.js'
import type { Vcpu } from '../vcpu.js'

/** `pvclock_vcpu_time_info`, 32 bytes. Source: Linux, Documentation/virt/kvm/x86/msr.rst. */
export interface PvClock {
  /** Even; one more update is two more. */
  version: number
  /** The guest's TSC at the last update. */
  tscTimestamp: bigint
  /** Nanoseconds of the VM's clock at the last update. */
  systemTime: bigint
  /** Multiplier, in 2^-32 nanoseconds per shifted cycle. */
  tscToSystemMul: number
  /** Shift of a TSC difference before it is multiplied: left if positive. */
  tscShift: number
  /** The clocks of all vCPUs agree (`PVCLOCK_TSC_STABLE_BIT`). */
  tscStable: boolean
  /** The guest was paused by its host since it last cleared this, see {@link Vcpu.kvmclockCtrl}. */
  guestPaused: boolean
}

const ENABLED = 1n
const TSC_STABLE = 1
const GUEST_PAUSED = 2
const ATTEMPTS = 1000

/**
 * Does what a guest does to begin with kvmclock: writes MSR_KVM_SYSTEM_TIME_NEW. KVM fills the page
 * whenever it enters the vCPU with news.
 *
 * @param gpa Of 32 bytes of RAM, a multiple of 4.
 */
export function enableKvmclock(vcpu: Vcpu, gpa: number): void {
  if (integer(gpa, 'gpa', 0, 2 ** 52) % 4 !== 0) throw outOfRange('gpa', 'a multiple of 4', gpa)
  vcpu.setMsrs([{ index: MSR_KVM_SYSTEM_TIME_NEW, data: BigInt(gpa) + ENABLED }])
}

/**
 * Reads the page while KVM may be writing it: an odd version, or one that changed meanwhile, means
 * to read again.
 *
 * @throws Error when it never settles, as a page that is none does not.
 */
export function readPvClock(memory: PhysicalMemory, gpa: number): PvClock {
  for (let i = 0; i < ATTEMPTS; i++) {
    const version = memory.readU32(gpa)
    if (version % 2 !== 0) continue
    const clock = readFields(memory, gpa, version)
    if (memory.readU32(gpa) === version) return clock
  }
  throw new Error('kvmclock: the version does not become even')
}

function readFields(memory: PhysicalMemory, gpa: number, version: number): PvClock {
  const word = memory.readU32(gpa + 28)
  const flags = Math.floor(word / 0x100) % 0x100
  return {
    version,
    tscTimestamp: memory.readU64(gpa + 8),
    systemTime: memory.readU64(gpa + 16),
    tscToSystemMul: memory.readU32(gpa + 24),
    tscShift: (word << 24) >> 24,
    tscStable: (flags & TSC_STABLE) !== 0,
    guestPaused: (flags & GUEST_PAUSED) !== 0,
  }
}

/** The nanoseconds of the VM's clock when the guest's TSC is `tsc`, as the guest computes them. */
export function pvClockNanoseconds(clock: PvClock, tsc: bigint): bigint {
  const cycles = BigInt.asUintN(64, tsc - clock.tscTimestamp)
  const shift = BigInt(Math.abs(clock.tscShift))
  const shifted = BigInt.asUintN(64, clock.tscShift < 0 ? cycles >> shift : cycles << shift)
  return clock.systemTime + ((shifted * BigInt(clock.tscToSystemMul)) >> 32n)
}
