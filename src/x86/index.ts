/**
 * The x86 architecture as data and pure functions: registers, CPUID, MSRs, segments, paging, the
 * local APIC. Nothing here opens /dev/kvm; it works on any system.
 *
 * Sources are named as SDM (Intel 64 and IA-32 Architectures Software Developer's Manual; section
 * numbers of the 2023 editions), APM (AMD64 Architecture Programmer's Manual), ISE reference (Intel
 * Architecture Instruction Set Extensions Programming Reference), TLFS (Hypervisor Top Level
 * Functional Specification).
 *
 * @packageDocumentation
 */

export * from './bitfields.js'
export * from './buffer-memory.js'
export * from './control-registers.js'
export * from './cpu-models.js'
export * from './cpuid-entry.js'
export * from './cpuid-feature-bits.js'
export * from './cpuid-features.js'
export * from './cpuid-identity.js'
export * from './cpuid-table.js'
export * from './cpuid-topology.js'
export * from './cpuid-xsave.js'
export * from './debug-registers.js'
export * from './efer.js'
export * from './error-codes.js'
export * from './exceptions.js'
export * from './gate.js'
export * from './ipi.js'
export * from './lapic-fields.js'
export * from './lapic-registers.js'
export * from './lapic-state.js'
export * from './msi.js'
export * from './msr.js'
export * from './msr-fields.js'
export * from './msr-names.js'
export * from './page-entry.js'
export * from './page-table-builder.js'
export * from './page-walk.js'
export * from './paging-mode.js'
export type { PhysicalMemory } from './physical-memory.js'
export * from './rflags.js'
export * from './segment.js'
export * from './segment-descriptor.js'
export * from './selector.js'
export * from './vmx-capabilities.js'
export * from './vmx-controls.js'
export * from './xcr0.js'
