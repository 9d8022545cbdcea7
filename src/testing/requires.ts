// What a test needs of the machine. All of it is asked of the machine itself, once.

import { readFileSync } from 'node:fs'
import { KvmError } from '../core/errors.js'
import { hostReport } from '../core/host/host-report.js'
import { Kvm } from '../core/kvm.js'
import { capabilityNumbers, invalidArgValue } from '../uapi/index.js'
import type { CpuidFeatureName } from '../x86/cpuid-features.js'
import { CpuidTable } from '../x86/cpuid-table.js'
import { engineOf } from './engine.js'
import { TestGuest } from './guest.js'
import { MODES, type ModeName } from './modes.js'
import { UnsupportedModeError } from './unsupported.js'

/**
 * A capability of KVM; `cpu:` a feature that KVM supports for guests; `processor:` a flag of
 * /proc/cpuinfo; `vendor:` its maker, as CPUID has it; `engine:` what runs guests (`native`: the processor runs 64-bit code of ring 3
 * itself, under VMX, SVM or neither; `interpreted`: KVM's emulator runs that of ring 0); `mode:` a mode of {@link MODES}.
 */
export type Requirement =
  | keyof typeof capabilityNumbers
  | `cpu:${CpuidFeatureName}`
  | `processor:${string}`
  | 'vendor:GenuineIntel'
  | 'vendor:AuthenticAMD'
  | `engine:${'hardware' | 'software' | 'native' | 'interpreted'}`
  | `mode:${ModeName}`

/** What test runners hand to a test: both vitest's and node:test's have it. */
export interface SkippableTest {
  /** Ends (vitest) or marks (node:test) the test as skipped. */
  skip(reason?: string): void
}

const reasons = new Map<string, string | undefined>()

/** Why the requirement is not met here; undefined where it is. */
export function missing(requirement: Requirement): string | undefined {
  if (!reasons.has(requirement)) reasons.set(requirement, probe(requirement))
  return reasons.get(requirement)
}

function probe(requirement: Requirement): string | undefined {
  const [kind, name = ''] = requirement.split(':')
  if (kind === 'cpu') return probeFeature(name as CpuidFeatureName)
  if (kind === 'processor') return probeProcessor(name)
  if (kind === 'vendor') return probeVendor(name)
  if (kind === 'engine') return probeEngine(name)
  if (kind === 'mode' && name in MODES) return probeMode(name as ModeName)
  const number = (capabilityNumbers as Record<string, number>)[requirement]
  if (number === undefined) throw invalidArgValue('requirement', `'${requirement}' is not known`)
  using kvm = Kvm.open()
  using vm = kvm.createVm()
  return vm.checkExtension(number) > 0 ? undefined : `this KVM lacks ${requirement}`
}

function probeFeature(name: CpuidFeatureName): string | undefined {
  using kvm = Kvm.open()
  const has = new CpuidTable(kvm.getSupportedCpuid()).has(name)
  return has ? undefined : `this KVM does not support ${name} for guests`
}

/** What /proc/cpuinfo says of the first processor. */
const cpuinfo = (field: string): string =>
  new RegExp(`^${field}\\s*: (.*)$`, 'm').exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? ''

function probeProcessor(flag: string): string | undefined {
  return cpuinfo('flags').split(' ').includes(flag) ? undefined : `the processor lacks ${flag}`
}

function probeVendor(wanted: string): string | undefined {
  const vendor = cpuinfo('vendor_id')
  return vendor === wanted ? undefined : `the processor's vendor is ${vendor}`
}

function probeEngine(wanted: string): string | undefined {
  if (wanted === 'native' || wanted === 'interpreted') {
    const ring = wanted === 'native' ? 3 : 0
    const found = engineOf('long', ring)
    const is = (found === 'interpreted') === (wanted === 'interpreted')
    return is ? undefined : `64-bit code of ring ${ring} is ${found} here`
  }
  const report = hostReport()
  if (!report.available) return report.reason
  const { kind, evidence } = report.engine
  return kind === wanted ? undefined : `this KVM's engine is ${kind}: ${evidence.join(', ')}`
}

function probeMode(mode: ModeName): string | undefined {
  try {
    new TestGuest({ mode }).close()
    return undefined
  } catch (error) {
    if (error instanceof UnsupportedModeError || error instanceof KvmError) return error.message
    throw error
  }
}

/**
 * Skips the test, with the reason, where something that it needs is missing. With the environment
 * variable `NODE_KVM_REQUIRE_ALL` nothing may be missing: then it throws.
 *
 * ```ts
 * test('AVX2 in ring 3', async (t) => {
 *   if (!requires(t, 'cpu:avx2')) return
 * ```
 *
 * @returns Whether everything is there; node:test goes on after a skip, vitest does not.
 */
export function requires(test: SkippableTest, ...requirements: Requirement[]): boolean {
  const reason = requirements.map(missing).find((each) => each !== undefined)
  if (reason === undefined) return true
  if (process.env.NODE_KVM_REQUIRE_ALL) throw new Error(reason)
  test.skip(reason)
  return false
}
