// Runs the checks on the present machine and says of each what was expected and what was found.

import { type Engine, engineOf } from '../engine.js'
import { TestGuest } from '../guest.js'
import { shown, stateOf } from '../matchers.js'
import type { Outcome } from '../outcome.js'
import { missing } from '../requires.js'
import { arithmetic } from './arithmetic.js'
import type { CheckArea, Expectation, FeatureCheck, Place } from './check.js'
import { debugging } from './debugging.js'
import { interrupts } from './interrupts.js'
import { processors } from './processors.js'
import { protection } from './protection.js'
import { stringsAndStack } from './strings-and-stack.js'
import { system } from './system.js'
import { timers } from './timers.js'
import { vector } from './vector.js'

/** All checks, by area. */
export const CHECKS: readonly CheckArea[] = [
  arithmetic,
  stringsAndStack,
  vector,
  interrupts,
  protection,
  system,
  timers,
  processors,
  debugging,
]

/** What became of one check in one mode and ring. */
export interface CheckResult {
  readonly area: string
  readonly name: string
  /** Where the manuals say it. */
  readonly source: string
  readonly mode: string
  readonly ring: number
  /** Who executes such code here; undefined where KVM does not count what it emulates. */
  readonly engine: Engine | undefined
  /** `deviates`: this machine does otherwise. `not here`: it cannot be asked, `found` says why. */
  readonly status: 'as expected' | 'deviates' | 'not here'
  readonly expected: string
  readonly found: string
}

const hex = (value: number | bigint): string => `0x${value.toString(16)}`
const list = (values: readonly number[]): string => values.map(hex).join(' ')

/** What the expectation asks for and what the outcome has, in the same words where they agree. */
function compare(expect: Expectation, outcome: Outcome): { expected: string; found: string } {
  const expected: string[] = []
  const found: string[] = []
  const note = (wanted: string, seen: string) => {
    expected.push(wanted)
    found.push(seen)
  }
  const { raised, exit, program } = outcome
  const ending = expect.exit ? `exit ${expect.exit}` : (expect.raises ?? 'the end')
  note(
    ending,
    raised
      ? raised.name
      : exit
        ? `exit ${exit.type}`
        : outcome.kind === 'done'
          ? 'the end'
          : 'no end',
  )
  if (ending !== found[0])
    return { expected: describeExpected(expect), found: describeFound(outcome) }
  if (raised && expect.errorCode !== undefined) {
    note(`error code ${hex(expect.errorCode)}`, `error code ${hex(raised.errorCode ?? -1)}`)
  }
  if (raised && expect.cr2 !== undefined) note(`cr2 ${hex(expect.cr2)}`, `cr2 ${hex(raised.cr2!)}`)
  if (raised && expect.at !== undefined) {
    const { at } = expect
    const place = typeof at === 'string' ? program.symbols.get(at)! : program.origin + BigInt(at)
    note(`at ${hex(place)}`, `at ${hex(raised.rip)}`)
  }
  if (expect.values) note(`values ${list(expect.values)}`, `values ${list(outcome.values)}`)
  const state: Record<string, unknown> = stateOf(outcome)
  for (const [name, value] of Object.entries(expect.state ?? {})) {
    note(`${name} ${shown(value)}`, `${name} ${shown(state[name])}`)
  }
  return { expected: expected.join(', '), found: found.join(', ') }
}

function describeExpected({ raises, exit, values }: Expectation): string {
  if (exit) return `exit ${exit}`
  if (raises) return raises
  return values ? `values ${list(values)}` : 'the end'
}

function describeFound(outcome: Outcome): string {
  const { raised, exit, kind, values, regs } = outcome
  const seen = values.length > 0 ? `, values ${list(values)}` : ''
  if (raised) return `${raised.name} at ${hex(raised.rip)}${seen}`
  if (kind === 'timeout') return `no end, at ${hex(regs.rip)}${seen}`
  if (kind === 'done') return `the end${seen}`
  return `exit ${exit!.type} at ${hex(regs.rip)}${seen}`
}

/** How long a check's guest may run. */
const TIMEOUT_MS = 2000
/** The same with several vCPUs, which wait for each other on however few processors the host has. */
const TIMEOUT_TOGETHER_MS = 10_000

/** Runs one check in one place. */
export async function runCheck(
  area: string,
  check: FeatureCheck,
  place: Place,
): Promise<CheckResult> {
  const { name, source } = check
  const head = { area, name, source, ...place, engine: undefined }
  const reason = [`mode:${place.mode}` as const, ...(check.requires ?? [])]
    .map(missing)
    .find((each) => each !== undefined)
  const expected = describeExpected(check.expect)
  if (reason !== undefined) return { ...head, status: 'not here', expected, found: reason }
  const counts = missing('KVM_CAP_BINARY_STATS_FD') === undefined
  const there = { ...head, engine: counts ? engineOf(place.mode, place.ring) : undefined }
  let g: TestGuest
  try {
    g = new TestGuest({ ...check.guest, ...place, ...(check.other && { cpus: 2 }) })
  } catch (error) {
    return {
      ...there,
      status: 'deviates',
      expected,
      found: `no guest: ${(error as Error).message}`,
    }
  }
  try {
    check.prepare?.(g)
    const outcome = await runCode(g, check)
    const result = compare(check.expect, outcome)
    const status = result.expected === result.found ? 'as expected' : 'deviates'
    return { ...there, status, ...result }
  } finally {
    g.close()
  }
}

async function runCode(g: TestGuest, check: FeatureCheck): Promise<Outcome> {
  const code = typeof check.code === 'function' ? check.code(g) : check.code
  const options = {
    timeoutMs: TIMEOUT_MS,
    ...(check.regs && { regs: check.regs }),
    ...(check.sregs && { sregs: check.sregs(g.vcpu.getSregs()) }),
  }
  if (check.other === undefined) return g.run(code, options)
  const other = check.other(g)
  const together = { ...options, timeoutMs: TIMEOUT_TOGETHER_MS }
  const [outcome] = await g.runAll((cpu) => (cpu === 0 ? code : other), together)
  return outcome!
}

/** Runs all checks, or those of which `wanted` holds, one by one. */
export async function* runChecks(
  wanted: (area: string, check: FeatureCheck, place: Place) => boolean = () => true,
): AsyncGenerator<CheckResult, void, void> {
  for (const { area, checks } of CHECKS) {
    for (const check of checks) {
      for (const place of check.places) {
        if (wanted(area, check, place)) yield await runCheck(area, check, place)
      }
    }
  }
}
