// What becomes of a feature's instruction where CPUID shows the feature, and where it hides it.

import { KvmError } from '../core/errors.js'
import { asm } from './assembler/asm.js'
import type { FeatureInstruction } from './features.js'
import { TestGuest } from './guest.js'
import type { Ring } from './modes.js'
import { missing } from './requires.js'
import { UnsupportedModeError } from './unsupported.js'

/** What was found of a feature in one ring. */
export interface FeatureFinding {
  readonly feature: string
  readonly ring: Ring
  /** KVM says that guests may have it. */
  readonly supported: boolean
  /**
   * Where CPUID shows it, and where CPUID hides it: `works`, the exception that was raised, the exit
   * by which KVM gave up, or `refused` when KVM did not even take the registers that it needs.
   */
  readonly shown: string
  readonly hidden: string
}

/** Runs the feature's instruction in both kinds of guest. */
export function probeFeature(instruction: FeatureInstruction, ring: Ring): FeatureFinding {
  const { feature } = instruction
  return {
    feature,
    ring,
    supported: missing(`cpu:${feature}`) === undefined,
    shown: tryWith(instruction, ring, true),
    hidden: tryWith(instruction, ring, false),
  }
}

function tryWith({ feature, code, guest }: FeatureInstruction, ring: Ring, on: boolean): string {
  let g: TestGuest
  try {
    g = new TestGuest({ ...guest, mode: 'long', ring, cpuid: { ...needs(guest), [feature]: on } })
  } catch (error) {
    if (error instanceof KvmError || error instanceof UnsupportedModeError) return 'refused'
    throw error
  }
  try {
    const { kind, raised, exit } = g.run(asm`${code}`, { timeoutMs: 500 })
    return kind === 'done' ? 'works' : (raised?.name ?? exit?.type ?? kind)
  } finally {
    g.close()
  }
}

/** XCR0 can only be set where CPUID shows XSAVE. */
function needs(guest: FeatureInstruction['guest']): { xsave?: boolean } {
  return guest?.xcr0 === undefined ? {} : { xsave: true }
}
