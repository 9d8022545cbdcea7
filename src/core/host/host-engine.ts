// What executes guests behind the device file: a hardware extension or a software backend. Decided
// by which module is there, not by a list of backends: a module that is neither Intel's nor AMD's
// does without the extensions.

import type { HostCpu } from './host-cpu.js'
import type { HostModule } from './host-modules.js'

/** Who executes guest code. */
export interface HostEngine {
  /** Whether VMX or SVM is used; `unknown` when the host hides its modules. */
  kind: 'hardware' | 'software' | 'unknown'
  /** The extension in use. */
  technology: 'VMX' | 'SVM' | null
  /** Kernel module that provides it. */
  module: string | null
  /** What was seen that says so, in words. */
  evidence: string[]
}

const HARDWARE: Readonly<Record<string, 'VMX' | 'SVM'>> = { kvm_intel: 'VMX', kvm_amd: 'SVM' }

/**
 * Decides from modules and processor.
 *
 * @param hasVmxMsrs whether KVM lists the VMX capability MSRs, which only VMX has; the last resort
 *   where sysfs is hidden
 */
export function findHostEngine(
  modules: readonly HostModule[],
  cpu: HostCpu,
  hasVmxMsrs = false,
): HostEngine {
  const candidates = modules.filter(({ name }) => name !== 'kvm')
  const software = candidates.find(({ name }) => HARDWARE[name] === undefined)
  if (software !== undefined) return softwareEngine(software, cpu)
  const hardware = candidates.filter(({ name }) => suits(HARDWARE[name]!, cpu))
  const seen = [flagEvidence(cpu)]
  if (hardware.length === 1) return hardwareEngine(hardware[0]!, seen)
  const technology = cpu.virtualization ?? (hasVmxMsrs ? 'VMX' : null)
  if (technology === null) return { kind: 'unknown', technology, module: null, evidence: seen }
  if (hasVmxMsrs) seen.push('KVM lists VMX capability MSRs')
  return { kind: 'hardware', technology, module: null, evidence: seen }
}

function softwareEngine(module: HostModule, cpu: HostCpu): HostEngine {
  const evidence = [moduleEvidence(module), flagEvidence(cpu)]
  return { kind: 'software', technology: null, module: module.name, evidence }
}

function hardwareEngine(module: HostModule, seen: readonly string[]): HostEngine {
  const evidence = [moduleEvidence(module), ...seen]
  return { kind: 'hardware', technology: HARDWARE[module.name]!, module: module.name, evidence }
}

// Modules built into the kernel are there on every processor; those of the other vendor never ran.
function suits(technology: 'VMX' | 'SVM', cpu: HostCpu): boolean {
  return cpu.virtualization === null || cpu.virtualization === technology
}

function moduleEvidence({ name, builtIn }: HostModule): string {
  return `/sys/module/${name} (${builtIn ? 'built into the kernel' : 'loaded module'})`
}

function flagEvidence({ virtualization }: HostCpu): string {
  if (virtualization === null) return 'neither vmx nor svm in /proc/cpuinfo'
  return `${virtualization.toLowerCase()} in /proc/cpuinfo`
}
