// Code that stops on its way: after each instruction, or at places of the test's choice.

import type { SyncRegs } from '../core/vcpu/sync-regs.js'
import type { Vcpu } from '../core/vcpu.js'
import type { KvmRegs } from '../uapi/index.js'
import type { Program } from './assembler/program.js'
import type { Outcome } from './outcome.js'

/** One instruction of {@link TestGuest.step}, or one stop of {@link TestGuest.stopAt}. */
export interface Step {
  /** Linear address of the instruction. */
  readonly rip: bigint
  /** The statement of the source; undefined outside of it, as in a handler. */
  readonly text: string | undefined
  /** General registers: of a step behind the instruction, of a stop before it. */
  readonly regs: KvmRegs
}

/** Code that stands at its beginning. */
export interface Started {
  readonly vcpu: Vcpu
  readonly regs: SyncRegs
  readonly program: Program
  /** Goes on to the next exit. */
  readonly go: () => Outcome
}

/** Stops behind each instruction. */
export function* stepThrough({ vcpu, regs, program, go }: Started): Generator<Step, Outcome, void> {
  vcpu.debugGuest({ singleStep: true })
  try {
    for (let { rip } = vcpu.getRegs(); ; ) {
      const outcome = go()
      // The instruction that says so is none of the source.
      if (outcome.kind === 'done') return outcome
      const behind = regs.getRegs()
      yield { rip, text: program.sourceAt(rip), regs: behind }
      if (outcome.exit?.type !== 'debug') return outcome
      rip = behind.rip
    }
  } finally {
    vcpu.debugGuest()
  }
}

/** Stops before the instructions at these addresses, by breakpoints of the processor. */
export function* stopAtEach(
  { vcpu, regs, program, go }: Started,
  addresses: readonly bigint[],
): Generator<Step, Outcome, void> {
  const breakpoints = addresses.map((address) => ({ address }))
  try {
    for (;;) {
      vcpu.debugGuest({ breakpoints })
      let outcome = go()
      if (outcome.exit?.type !== 'debug') return outcome
      const at = regs.getRegs()
      yield { rip: at.rip, text: program.sourceAt(at.rip), regs: at }
      // Not every KVM lets the instruction pass a breakpoint that it has just stopped at.
      vcpu.debugGuest({ singleStep: true })
      outcome = go()
      if (outcome.exit?.type !== 'debug') return outcome
    }
  } finally {
    vcpu.debugGuest()
  }
}

/** Runs it through and keeps the latest instructions, so many. */
export function traced(steps: Generator<Step, Outcome, void>, count: number): Outcome {
  const trace: string[] = []
  for (;;) {
    const { done, value } = steps.next()
    if (done) return { ...value, trace }
    const { rip, text = '(not of the source)' } = value
    trace.push(`${rip.toString(16).padStart(8, '0')}  ${text}`)
    if (trace.length > count) trace.shift()
  }
}
