import type { SyncRegs } from '../core/vcpu/sync-regs.js'
import type { Vcpu } from '../core/vcpu.js'
import type { Raised } from './outcome.js'

/** The vCPU whose code has called a function of the test. */
export interface CallingCpu {
  /** Its number, from 0. */
  readonly index: number
  readonly vcpu: Vcpu
  /** Its registers, without an ioctl. What is written counts when its code goes on. */
  readonly regs: SyncRegs
  /** Keeps a line for the {@link Outcome}, which a failure shows. */
  log(text: string): void
}

/** A function of the test that a guest's code calls. What it throws ends the run. */
export type GuestCall = (cpu: CallingCpu) => void

/** Is told what one instruction has raised; undefined: nothing. */
export type SafeCall = (raised: Raised | undefined, cpu: CallingCpu) => void

/** What happens at a mark of the code. */
export type Hook =
  | { readonly call: GuestCall }
  /** The instruction at the mark may raise what it likes; the code goes on at the mark `next`. */
  | { readonly safe: SafeCall; readonly next: number }
