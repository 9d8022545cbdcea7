/**
 * Tests of hardware features: guests of a few instructions in any mode, and what became of them.
 *
 * Needs the package iced-x86, which assembles their code.
 *
 * @packageDocumentation
 */

export { asm, type Interpolated, type Source } from './assembler/asm.js'
export { type AssembleOptions, assemble } from './assembler/assemble.js'
export { AssemblyError } from './assembler/assembly-error.js'
export type { Bits } from './assembler/opcodes.js'
export { Program } from './assembler/program.js'
export { assertOutcome, type OutcomeAssertions } from './assert-outcome.js'
export type { CallingCpu, GuestCall, SafeCall } from './calling-cpu.js'
export { Channel } from './channel.js'
export { type Engine, engineOf } from './engine.js'
export { FEATURE_INSTRUCTIONS, type FeatureInstruction } from './features.js'
export { guest, TestGuest } from './guest.js'
export type { GuestOptions } from './guest-set-up.js'
export { type CpuState, type MatchResult, matchers } from './matchers.js'
export { type Combination, matrix } from './matrix.js'
export { MODES, type Mode, type ModeName, type Ring } from './modes.js'
export { describeOutcome, type ExitFields, type Outcome, type Raised } from './outcome.js'
export { GuestPages, type MappedEntry } from './pages.js'
export { type FeatureFinding, probeFeature } from './probe-feature.js'
export { missing, type Requirement, requires, type SkippableTest } from './requires.js'
export type { GuestStatistics } from './statistics.js'
export type { Step } from './stepping.js'
export type { RunGuestOptions } from './test-cpu.js'
export { UnsupportedModeError } from './unsupported.js'
