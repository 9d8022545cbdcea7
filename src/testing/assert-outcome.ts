// The matchers for test runners without `expect`, such as node:test.

import { AssertionError } from 'node:assert'
import { type MatchResult, matchers } from './matchers.js'
import type { Outcome } from './outcome.js'

type Matchers = typeof matchers

/** The names of {@link matchers}, as methods that throw. */
export type OutcomeAssertions = {
  [Name in keyof Matchers]: Matchers[Name] extends (
    received: unknown,
    ...rest: infer Rest
  ) => MatchResult
    ? (...rest: Rest) => void
    : never
}

/**
 * The matchers as assertions, for any test runner:
 *
 * ```ts
 * assertOutcome(g.run(asm`ud2`)).toRaise('#UD')
 * ```
 *
 * @throws AssertionError with the guest's registers and code, where the expectation does not hold.
 */
export function assertOutcome(outcome: Outcome): OutcomeAssertions {
  const bound = Object.entries(matchers).map(([name, matcher]) => {
    const check = matcher as (received: unknown, ...rest: unknown[]) => MatchResult
    return [name, (...rest: unknown[]) => assertResult(check(outcome, ...rest))]
  })
  return Object.fromEntries(bound) as OutcomeAssertions
}

function assertResult({ pass, message }: MatchResult): void {
  if (!pass) throw new AssertionError({ message: message() })
}
