// @ts-check
// Runs bundled test files, one after the other in this process, by vitest's own runner. Prints a line for
// each test as it ends, and leaves the counts where tools/count-reporter.mjs leaves them.
import { writeFileSync } from 'node:fs'
import { startTests } from '@vitest/runner'

/** As long as in vitest.config.ts, for emulated processors: a limit there only catches what hangs. */
const TIMEOUT_MS = 120_000

/** @type {import('@vitest/runner').VitestRunnerConfig} */
const CONFIG = {
  root: process.cwd(),
  setupFiles: [],
  name: undefined,
  passWithNoTests: false,
  testNamePattern: undefined,
  allowOnly: false,
  sequence: { seed: 0, hooks: 'stack', setupFiles: 'list' },
  chaiConfig: undefined,
  maxConcurrency: 1,
  testTimeout: TIMEOUT_MS,
  hookTimeout: TIMEOUT_MS,
  retry: 0,
  includeTaskLocation: false,
  tags: [],
  tagsFilter: undefined,
  strictTags: true,
}

/**
 * Runs the files; the process ends with 1 when anything failed.
 *
 * @param {Record<string, () => Promise<unknown>>} files what imports each, by its path
 */
export async function run(files) {
  const ended = await startTests(Object.keys(files), {
    config: CONFIG,
    importFile: (path) => files[path]?.(),
    onBeforeRunSuite: (suite) => {
      if ('filepath' in suite) console.log(suite.filepath)
    },
    onAfterRetryTask: printTest,
  })
  /** @type {import('../../tools/count-reporter.mjs').Counts} */
  const counts = { passed: 0, failed: 0, skipped: [], files: Object.keys(files), died: 0 }
  for (const file of ended) count(file, counts)
  const { passed, failed, skipped } = counts
  console.log(`${passed} passed, ${failed} failed, ${skipped.length} skipped`)
  const report = process.env.NODE_KVM_COUNTS
  if (report) writeFileSync(report, JSON.stringify(counts))
  process.exitCode = failed === 0 && passed > 0 ? 0 : 1
}

/** @param {import('@vitest/runner').Test} test */
function printTest({ fullTestName, result }) {
  const note = noteOf(result)
  const seconds = (Date.now() - (result?.startTime ?? 0)) / 1000
  console.log(
    `  ${result?.state} ${fullTestName}${note ? ` [${note}]` : ''} (${seconds.toFixed(1)} s)`,
  )
  printErrors(fullTestName, result)
}

/**
 * @param {object | undefined} result
 * @returns {string | undefined} what `context.skip()` was given
 */
function noteOf(result) {
  return /** @type {{ note?: string } | undefined} */ (result)?.note
}

/**
 * @param {import('@vitest/runner').Task} task
 * @param {import('../../tools/count-reporter.mjs').Counts} counts
 */
function count(task, counts) {
  const { result } = task
  if (task.type === 'suite') {
    // A file that could not be imported, or a hook for all: their tests did not run.
    if (result?.errors?.length) counts.failed++
    printErrors(task.fullName, result)
    for (const child of task.tasks) count(child, counts)
  } else if (task.mode === 'skip') {
    counts.skipped.push({ name: task.fullName, reason: noteOf(result) })
  } else if (result?.state === 'pass') {
    counts.passed++
  } else {
    counts.failed++
  }
}

/** @param {string} name @param {import('@vitest/runner').TaskResult | undefined} result */
function printErrors(name, result) {
  for (const { message, stack, diff } of result?.errors ?? [])
    console.log(`--- ${name}\n${stack ?? message}\n${diff ?? ''}`)
}
