// A feature test as data: a few instructions, and what the manuals say becomes of them.

import type { KvmRegs, KvmSregs } from '../../uapi/index.js'
import { asm, type Source } from '../assembler/asm.js'
import type { TestGuest } from '../guest.js'
import type { GuestOptions } from '../guest-set-up.js'
import { PORT_VALUE } from '../layout.js'
import type { CpuState } from '../matchers.js'
import type { ModeName, Ring } from '../modes.js'
import type { Requirement } from '../requires.js'

/** What shall become of a check's code. All that is said must hold. */
export interface Expectation {
  /** The exception; null, or nothing said: the code comes to its end. */
  readonly raises?: string | null
  readonly errorCode?: number
  /** Where: a distance from the start of the code, or a label. */
  readonly at?: number | string
  readonly cr2?: bigint
  /** The type of the KVM exit that ends the run, where one shall. */
  readonly exit?: string
  /** What the code reports, in order. */
  readonly values?: readonly number[]
  readonly state?: CpuState
}

/** Where a check's code runs. */
export interface Place {
  readonly mode: ModeName
  readonly ring: Ring
}

/** A test of one feature. */
export interface FeatureCheck {
  /** What shall be so, in a few words. */
  readonly name: string
  /** Where the manuals say it. */
  readonly source: string
  readonly places: readonly Place[]
  readonly requires?: readonly Requirement[]
  readonly guest?: Omit<GuestOptions, 'mode' | 'ring'>
  /** Changes to the guest before the run: its page tables, memory, handlers. */
  readonly prepare?: (g: TestGuest) => void
  readonly code: Source | ((g: TestGuest) => Source)
  /** What a second vCPU runs meanwhile. What is expected is expected of the first. */
  readonly other?: (g: TestGuest) => Source
  readonly regs?: Partial<KvmRegs>
  /** Special registers that differ at the start. */
  readonly sregs?: (of: KvmSregs) => Partial<KvmSregs>
  readonly expect: Expectation
}

/** Checks of one area. */
export interface CheckArea {
  readonly area: string
  readonly checks: readonly FeatureCheck[]
}

/** Sends EAX to the test; changes nothing. */
export const report: Source = asm`out ${PORT_VALUE}, eax`

/** 64-bit code. */
export const RING0: readonly Place[] = [{ mode: 'long', ring: 0 }]
export const RING3: readonly Place[] = [{ mode: 'long', ring: 3 }]
export const LONG: readonly Place[] = [...RING0, ...RING3]
/** Code that is the same in all code sizes. */
export const EVERYWHERE: readonly Place[] = [
  { mode: 'real', ring: 0 },
  { mode: 'protected', ring: 0 },
  { mode: 'protected', ring: 3 },
  { mode: 'compat', ring: 3 },
  ...LONG,
]
/** 32-bit code. */
export const PROTECTED: readonly Place[] = [
  { mode: 'protected', ring: 0 },
  { mode: 'protected', ring: 3 },
]
export const REAL: readonly Place[] = [{ mode: 'real', ring: 0 }]

type More = Partial<Omit<FeatureCheck, 'name' | 'source' | 'code' | 'expect'>>

/** Checks that share the places where they run. */
export function checksAt(places: readonly Place[]) {
  return (
    name: string,
    source: string,
    code: FeatureCheck['code'],
    expect: Expectation = {},
    more: More = {},
  ): FeatureCheck => ({ name, source, code, expect, places, ...more })
}
