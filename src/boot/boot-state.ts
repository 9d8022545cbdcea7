// What a loader hands back: the registers with which a vCPU starts, as plain data with the kernel's
// field names, so that the core can merge it into what KVM_GET_SREGS returned.

import type { DescriptorTableRegister, Segment } from '../x86/segment.js'
import type { Placement } from './load-plan.js'
import type { MemoryMapEntry } from './memory-map.js'

/** General registers that a loader may set. */
export type BootRegisterName =
  | 'rax'
  | 'rbx'
  | 'rcx'
  | 'rdx'
  | 'rsi'
  | 'rdi'
  | 'rsp'
  | 'rbp'
  | 'rip'
  | 'rflags'

/** Registers to set; those that are absent keep their reset value. */
export type BootRegs = Readonly<Partial<Record<BootRegisterName, bigint>>>

/** The part of `struct kvm_sregs` that a loader sets; the rest keeps its reset value. */
export interface BootSregs {
  readonly cr0: bigint
  readonly cr3: bigint
  readonly cr4: bigint
  readonly efer: bigint
  readonly cs: Segment
  readonly ds: Segment
  readonly es: Segment
  readonly fs: Segment
  readonly gs: Segment
  readonly ss: Segment
  readonly tr: Segment
  readonly ldt: Segment
  readonly gdt: DescriptorTableRegister
  readonly idt: DescriptorTableRegister
}

/** Processor mode at the first instruction. */
export type BootMode = 'real' | 'protected' | 'long'

/** How the boot processor starts. */
export interface CpuBootState {
  readonly mode: BootMode
  readonly regs: BootRegs
  readonly sregs: BootSregs
}

/** The convention by which the guest is entered. */
export type BootProtocol = 'linux64' | 'pvh' | 'multiboot' | 'flat' | 'firmware'

/** The result of every loader: how to start the boot processor and what now lies where. */
export interface BootState extends CpuBootState {
  readonly protocol: BootProtocol
  /** Everything that was placed in guest memory, ascending by address. */
  readonly placements: readonly Placement[]
  /** The memory map that the guest was given; empty for a flat image or firmware. */
  readonly memoryMap: readonly MemoryMapEntry[]
}
