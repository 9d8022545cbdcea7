// What tests say of an outcome, apart from any test runner: each gives whether it holds and, lazily,
// the text for a failure.

import type { KvmRegs, KvmSregs } from '../uapi/index.js'
import { type Decoded, decodeBits } from '../x86/bitfields.js'
import { RFLAGS } from '../x86/rflags.js'
import { describeOutcome, type ExitFields, type Outcome, type Raised } from './outcome.js'

/** Whether an expectation holds, and what to say if not (or, negated, if so). */
export interface MatchResult {
  readonly pass: boolean
  /** Why not; where `pass` is true, why not the contrary. */
  readonly message: () => string
}

/** Registers and flags (`ZF: true`) at the end of a run, those that matter. */
export type CpuState = Partial<KvmRegs> &
  Partial<Pick<KvmSregs, 'cr0' | 'cr2' | 'cr3' | 'cr4' | 'cr8' | 'efer'>> &
  Partial<Decoded<typeof RFLAGS>>

function result(outcome: Outcome, pass: boolean, expected: string): MatchResult {
  return {
    pass,
    message: () => `expected ${pass ? 'not ' : ''}${expected}, but ${describeOutcome(outcome)}`,
  }
}

/** A value for people: numbers in hexadecimal. */
export const shown = (value: unknown): string =>
  typeof value === 'bigint' || typeof value === 'number' ? `0x${value.toString(16)}` : String(value)

/** Names and values of the fields that differ. */
function differences(actual: object, expected: object): string[] {
  return Object.entries(expected).flatMap(([name, value]) => {
    const found = (actual as Record<string, unknown>)[name]
    return Object.is(found, value) ? [] : [`${name} ${shown(value)} (it is ${shown(found)})`]
  })
}

/** All that {@link CpuState} can ask for. */
export const stateOf = ({ sregs, regs }: Outcome) => ({
  ...sregs,
  ...regs,
  ...decodeBits(RFLAGS, regs.rflags),
})

function checkOutcome(value: unknown): Outcome {
  const outcome = value as Outcome | null
  if (typeof outcome === 'object' && outcome !== null && 'program' in outcome) return outcome
  throw new TypeError('an outcome of a test guest is expected')
}

/** Expectations of an {@link Outcome}. */
export const matchers = {
  /** The code came to its end. */
  toFinish(received: unknown): MatchResult {
    const outcome = checkOutcome(received)
    return result(outcome, outcome.kind === 'done', 'the guest to come to its end')
  },

  /** The code raised that exception; null: it raised none and came to its end. */
  toRaise(received: unknown, name: string | null, details: Partial<Raised> = {}): MatchResult {
    const outcome = checkOutcome(received)
    if (name === null) return matchers.toFinish(outcome)
    const { raised } = outcome
    const expected = { name, ...details }
    const pass = raised !== undefined && differences(raised, expected).length === 0
    const fieldsShown = Object.entries(details).map(
      ([field, value]) => `, ${field} ${shown(value)}`,
    )
    return result(outcome, pass, `the guest to raise ${name}${fieldsShown.join('')}`)
  },

  /** KVM came back with an exit of that type and those fields. */
  toExit(
    received: unknown,
    type: string,
    fields: Readonly<Record<string, unknown>> = {},
  ): MatchResult {
    const outcome = checkOutcome(received)
    const { exit } = outcome
    const pass = exit?.type === type && differences(exit, fields).length === 0
    const fieldsShown = Object.entries(fields).map(([field, value]) => ` ${field} ${shown(value)}`)
    return result(outcome, pass, `the guest to end with the exit ${type}${fieldsShown.join(',')}`)
  },

  /** KVM came back with these exits, in this order and no others; of each the fields that are named. */
  toExitInOrder(received: unknown, exits: readonly Partial<ExitFields>[]): MatchResult {
    const outcome = checkOutcome(received)
    const found = outcome.exits
    const wrong = exits.findIndex((exit, i) => differences(found[i] ?? {}, exit).length > 0)
    const pass = wrong < 0 && found.length === exits.length
    const where = wrong < 0 ? `${exits.length} exits` : `exit ${wrong + 1} to be other`
    return result(outcome, pass, `${where} (there were ${found.length})`)
  },

  /** The guest executed HLT with those registers. */
  toHaltWith(received: unknown, state: CpuState = {}): MatchResult {
    const outcome = checkOutcome(received)
    const wrong = differences(stateOf(outcome), state)
    const pass = outcome.exit?.type === 'hlt' && wrong.length === 0
    return result(outcome, pass, `the guest to halt with ${wrong.join(', ') || 'that state'}`)
  },

  /** However the run ended, the registers are those. */
  toMatchCpuState(received: unknown, state: CpuState): MatchResult {
    const outcome = checkOutcome(received)
    const wrong = differences(stateOf(outcome), state)
    return result(outcome, wrong.length === 0, `${wrong.join(', ') || 'that state'}`)
  },
}

let registered: Promise<void> | undefined

/** Under vitest, `expect` learns the matchers by itself. */
export function registerMatchers(): Promise<void> {
  registered ??= process.env.VITEST ? extendVitest() : Promise.resolve()
  return registered
}

async function extendVitest(): Promise<void> {
  const name = 'vitest'
  const { expect } = (await import(name)) as {
    expect: { extend(matchers: object): void }
  }
  expect.extend(matchers)
}
