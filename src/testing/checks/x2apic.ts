// Pieces of code that use the local APIC by its MSRs.

import { asm, type Source } from '../assembler/asm.js'

/** A guest in which {@link X2APIC_ON} works. */
export const X2APIC_GUEST = {
  irqchip: 'kernel',
  cpuid: { x2apic: true, tsc_deadline_timer: true },
} as const

/** Writes one of its registers; `high` is the upper half. */
export const writeApic = (msr: number, low: number, high = 0): Source =>
  asm`mov ecx, ${msr}; mov eax, ${low}; mov edx, ${high}; wrmsr`

/** Turns it on, and lets it take interrupts. */
export const X2APIC_ON: Source = asm`
  mov ecx, 0x1b; rdmsr; or eax, 0xc00; wrmsr
  ${writeApic(0x80f, 0x1ff)}`

/** Waits for an interrupt, for ever. */
export const WAIT: Source = asm`sti; @wait: pause; jmp @wait`
