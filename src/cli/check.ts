// `node-kvm check`: the feature tests of the package against this machine's KVM.

import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import type { CheckResult } from '../testing/checks/run-checks.js'
import type { FeatureFinding } from '../testing/index.js'
import { standardOutput } from './standard-output.js'

/** Help for `node-kvm check`. */
export const usage = `Usage: node-kvm check [options]

Runs small guests that each show one feature of the processor or of KVM, and
prints where this machine does otherwise than the manuals say. Needs the package
iced-x86, which assembles the guests: npm install iced-x86

      --all           print what is as expected, too
      --only TEXT     only checks whose area, name or mode contains TEXT
      --json          one JSON array with every result
      --junit FILE    write the results for a CI system
      --features      instead: what the instruction of each CPUID feature does where
                      the guest is shown the feature, and where it is hidden

The exit status is 0 when all is as expected, 1 when something deviates and 2 when
no check was run.`

/** Runs the command; gives the exit status. */
export async function run(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: {
      all: { type: 'boolean' },
      only: { type: 'string' },
      json: { type: 'boolean' },
      junit: { type: 'string' },
      features: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help) {
    standardOutput().write(`${usage}\n`)
    return 0
  }
  if (values.features) {
    await showFeatures(values.only, values.json === true)
    return 0
  }
  const results: CheckResult[] = []
  for await (const area of runAreas(values.only)) {
    results.push(...area)
    if (!values.json) standardOutput().write(`${areaText(area, values.all === true)}\n\n`)
  }
  if (results.length === 0) {
    process.stderr.write(`no check contains '${values.only}'\n`)
    return 2
  }
  if (values.junit !== undefined) writeFileSync(values.junit, toJunit(results))
  standardOutput().write(`${values.json ? JSON.stringify(results, null, 2) : summary(results)}\n`)
  return results.some(({ status }) => status === 'deviates') ? 1 : 0
}

/** Loads what needs the assembler. */
async function withAssembler<T>(load: () => Promise<T>): Promise<T> {
  try {
    return await load()
  } catch (error) {
    if ((error as { code?: string }).code !== 'ERR_MODULE_NOT_FOUND') throw error
    throw Object.assign(new Error('the package iced-x86 is missing: npm install iced-x86'), {
      code: 'ERR_MODULE_NOT_FOUND',
      cause: error,
    })
  }
}

/** The results of each area when it is through: some take minutes where an emulator runs the guests. */
async function* runAreas(only = ''): AsyncGenerator<CheckResult[], void, void> {
  const { runChecks } = await withAssembler(() => import('../testing/checks/run-checks.js'))
  const wanted = only.toLowerCase()
  const all = runChecks((area, { name }, { mode }) =>
    [area, name, mode].some((text) => text.toLowerCase().includes(wanted)),
  )
  let results: CheckResult[] = []
  for await (const result of all) {
    if (results.length > 0 && results[0]!.area !== result.area) {
      yield results
      results = []
    }
    results.push(result)
  }
  if (results.length > 0) yield results
}

/** Each feature of the processor with its instruction, in the rings where that is allowed. */
async function showFeatures(only: string | undefined, asJson: boolean): Promise<void> {
  const { FEATURE_INSTRUCTIONS, probeFeature } = await withAssembler(
    () => import('../testing/index.js'),
  )
  const findings = FEATURE_INSTRUCTIONS.filter(({ feature }) =>
    feature.includes(only ?? ''),
  ).flatMap((instruction) =>
    (instruction.privileged ? ([0] as const) : ([0, 3] as const)).map((ring) =>
      probeFeature(instruction, ring),
    ),
  )
  standardOutput().write(
    `${asJson ? JSON.stringify(findings, null, 2) : toFeatureText(findings)}\n`,
  )
}

function toFeatureText(findings: readonly FeatureFinding[]): string {
  const row = (...cells: string[]) =>
    cells
      .map((cell) => cell.padEnd(16))
      .join('  ')
      .trimEnd()
  const rows = findings.map(({ feature, ring, supported, shown, hidden }) =>
    row(feature, String(ring), supported ? 'yes' : 'no', shown, hidden),
  )
  return [row('feature', 'ring', 'KVM supports it', 'shown', 'hidden'), ...rows].join('\n')
}

const MARKS = { 'as expected': 'ok', deviates: 'DEVIATES', 'not here': 'not here' } as const

/** An area's results; what is as expected is only counted unless `all`. */
function areaText(results: readonly CheckResult[], all: boolean): string {
  const expected = results.filter(({ status }) => status === 'as expected').length
  const shown = results.filter(({ status }) => all || status === 'deviates').map(toLines)
  return [`${results[0]!.area}: ${expected} of ${results.length} as expected`, ...shown].join('\n')
}

function toLines({ status, mode, ring, name, expected, found, source }: CheckResult): string {
  const where = `${mode}, ring ${ring}`
  const head = `  ${MARKS[status].padEnd(8)}  ${where.padEnd(17)}  ${name}`
  if (status === 'as expected') return head
  const indent = ' '.repeat(12)
  return [head, `${indent}expected  ${expected}  (${source})`, `${indent}found     ${found}`].join(
    '\n',
  )
}

/** Who executes what, such as `native: long 3`. */
function engineLines(results: readonly CheckResult[]): string[] {
  const engines = new Map<string, Set<string>>()
  for (const { engine, mode, ring } of results) {
    if (engine === undefined) continue
    engines.set(engine, (engines.get(engine) ?? new Set()).add(`${mode} ${ring}`))
  }
  return Array.from(engines, ([engine, places]) => `${engine}: ${[...places].join(', ')}`)
}

function summary(results: readonly CheckResult[]): string {
  const count = (status: CheckResult['status']) =>
    results.filter((result) => result.status === status).length
  const skipped = new Set(
    results.filter(({ status }) => status === 'not here').map(({ found }) => found),
  )
  return [
    ...engineLines(results),
    `${count('as expected')} as expected, ${count('deviates')} deviate, ${count('not here')} not here`,
    ...[...skipped].map((reason) => `  not here: ${reason}`),
  ].join('\n')
}

const ENTITIES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }
const escapeXml = (text: string): string => text.replace(/[&<>"]/g, (char) => ENTITIES[char]!)

/** The JUnit format as CI systems read it: a suite for the run, a case for each result. */
function toJunit(results: readonly CheckResult[]): string {
  const cases = results.map(({ area, name, mode, ring, status, expected, found }) => {
    const head = `  <testcase classname="${escapeXml(area)}" name="${escapeXml(`${name} (${mode}, ring ${ring})`)}"`
    if (status === 'as expected') return `${head}/>`
    const text = escapeXml(`expected ${expected}, found ${found}`)
    const inner =
      status === 'deviates' ? `<failure message="${text}"/>` : `<skipped message="${text}"/>`
    return `${head}>${inner}</testcase>`
  })
  const failures = results.filter(({ status }) => status === 'deviates').length
  const skipped = results.filter(({ status }) => status === 'not here').length
  const counts = `tests="${results.length}" failures="${failures}" skipped="${skipped}"`
  return `<?xml version="1.0" encoding="UTF-8"?>\n<testsuite name="node-kvm check" ${counts}>\n${cases.join('\n')}\n</testsuite>\n`
}
