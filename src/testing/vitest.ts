// Types for `expect(outcome).toRaise('#GP')`. The matchers register themselves when a guest is made
// under vitest; this module is imported for what TypeScript is to know.

import type {} from 'vitest'
import type { CpuState } from './matchers.js'
import type { ExitFields, Raised } from './outcome.js'

interface GuestMatchers<R> {
  /** The code came to its end. */
  toFinish(): R
  /** The code raised that exception; null: none. */
  toRaise(name: string | null, details?: Partial<Raised>): R
  /** KVM came back with an exit of that type and those fields. */
  toExit(type: string, fields?: Readonly<Record<string, unknown>>): R
  /** KVM came back with these exits and no others. */
  toExitInOrder(exits: readonly Partial<ExitFields>[]): R
  /** The guest executed HLT with those registers. */
  toHaltWith(state?: CpuState): R
  /** However the run ended, the registers are those. */
  toMatchCpuState(state: CpuState): R
}

declare module 'vitest' {
  // biome-ignore lint/suspicious/noExplicitAny: vitest declares it so
  interface Matchers<T = any> extends GuestMatchers<T> {}
}
