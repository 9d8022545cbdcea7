// The words of KVM_SET_GUEST_DEBUG from what one wants to see.

import {
  KVM_GUESTDBG_BLOCKIRQ,
  KVM_GUESTDBG_ENABLE,
  KVM_GUESTDBG_INJECT_BP,
  KVM_GUESTDBG_INJECT_DB,
  KVM_GUESTDBG_SINGLESTEP,
  KVM_GUESTDBG_USE_HW_BP,
  KVM_GUESTDBG_USE_SW_BP,
  type KvmGuestDebug,
} from '../../uapi/index.js'
import { uint64 } from '../uint64.js'
import { list, object, outOfRange } from '../validate.js'

/** A hardware breakpoint. */
export interface HardwareBreakpoint {
  /** Linear address. */
  address: bigint
  /** What breaks: executing the instruction there (the default), a write, any data access, I/O. */
  on?: 'execute' | 'write' | 'readWrite' | 'io'
  /** Bytes watched, aligned to their number; 1 for `'execute'`. Default 1. */
  length?: 1 | 2 | 4 | 8
}

/** What {@link Vcpu.debugGuest} shall stop at; nothing unless said. */
export interface GuestDebugOptions {
  /** An exit after each instruction. */
  singleStep?: boolean
  /** No interrupts while stepping, so that a step does not end up in a handler. */
  blockIrq?: boolean
  /** The guest's INT3 ends the run instead of raising #BP. */
  softwareBreakpoints?: boolean
  /** Up to four. */
  breakpoints?: readonly HardwareBreakpoint[]
  /** Raises one #DB in the guest. */
  injectDb?: boolean
  /** Raises one #BP in the guest. */
  injectBp?: boolean
}

const MAX_BREAKPOINTS = 4
/** DR7: exact breakpoints, and bit 10, which is always set (SDM vol. 3B §18.2.4). */
const DR7_BASE = 0x600n
const CONDITIONS = { execute: 0n, write: 1n, io: 2n, readWrite: 3n }
const LENGTHS = { 1: 0n, 2: 1n, 4: 3n, 8: 2n }

/** The struct for `options`. */
export function guestDebug(options: GuestDebugOptions): KvmGuestDebug {
  const breakpoints = list(object(options, 'options').breakpoints ?? [], 'options.breakpoints')
  if (breakpoints.length > MAX_BREAKPOINTS) {
    throw outOfRange('options.breakpoints.length', `<= ${MAX_BREAKPOINTS}`, breakpoints.length)
  }
  const debugreg = new Array<bigint>(8).fill(0n)
  breakpoints.forEach((breakpoint, i) => {
    debugreg[i] = uint64(breakpoint.address, `options.breakpoints[${i}].address`)
  })
  debugreg[7] = breakpoints.reduce((dr7, breakpoint, i) => dr7 | enable(breakpoint, i), DR7_BASE)
  const control = controlBits(options, breakpoints.length > 0)
  return { control: control === 0 ? 0 : control | KVM_GUESTDBG_ENABLE, arch: { debugreg } }
}

function controlBits(options: GuestDebugOptions, hardware: boolean): number {
  return (
    (options.singleStep ? KVM_GUESTDBG_SINGLESTEP : 0) |
    (options.blockIrq ? KVM_GUESTDBG_BLOCKIRQ : 0) |
    (options.softwareBreakpoints ? KVM_GUESTDBG_USE_SW_BP : 0) |
    (hardware ? KVM_GUESTDBG_USE_HW_BP : 0) |
    (options.injectDb ? KVM_GUESTDBG_INJECT_DB : 0) |
    (options.injectBp ? KVM_GUESTDBG_INJECT_BP : 0)
  )
}

function enable({ on = 'execute', length = 1 }: HardwareBreakpoint, i: number): bigint {
  const condition = CONDITIONS[on]
  const size = LENGTHS[length]
  const name = `options.breakpoints[${i}]`
  if (condition === undefined) throw outOfRange(`${name}.on`, 'a kind of access', on)
  if (size === undefined || (on === 'execute' && length !== 1)) {
    throw outOfRange(`${name}.length`, on === 'execute' ? '1' : '1, 2, 4 or 8', length)
  }
  const global = 2n << BigInt(2 * i)
  return global | ((condition | (size << 2n)) << BigInt(16 + 4 * i))
}
