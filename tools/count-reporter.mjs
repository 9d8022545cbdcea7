// A vitest reporter that leaves what CI counts: numbers, and each skipped test with its reason. Give
// `ctx.skip(reason)` the probed fact, or name it in the title of what is skipped.

import { writeFileSync } from 'node:fs'

/** @typedef {{ name: string, reason: string | undefined }} Skipped */
/**
 * `files`: those that ran to their end; `died`: how often a process that runs them did not.
 *
 * @typedef {{ passed: number, failed: number, skipped: Skipped[], files: string[], died: number }} Counts
 */

/** What vitest says of a process that ended with a file unfinished. */
const WORKER_DIED = /Worker (exited unexpectedly|forks emitted error)/

export default class CountReporter {
  /** @param {{ onTestCaseResult?: never }} _context */
  constructor(_context) {
    /** @type {Counts} */
    this.counts = { passed: 0, failed: 0, skipped: [], files: [], died: 0 }
  }

  /** @param {import('vitest/node').TestCase} test */
  onTestCaseResult(test) {
    const result = test.result()
    if (result.state === 'passed') this.counts.passed++
    else if (result.state === 'skipped') {
      this.counts.skipped.push({ name: test.fullName, reason: result.note })
    } else this.counts.failed++
  }

  /** @param {import('vitest/node').TestModule} module */
  onTestModuleEnd(module) {
    if (['pending', 'queued'].includes(module.state())) return
    // A file that could not be loaded has no tests, only errors.
    if (module.errors().length > 0) this.counts.failed++
    this.counts.files.push(module.relativeModuleId)
    this.#write()
  }

  /**
   * @param {readonly import('vitest/node').TestModule[]} _modules
   * @param {readonly { message?: string }[]} unhandledErrors
   */
  onTestRunEnd(_modules, unhandledErrors) {
    for (const { message = '' } of unhandledErrors) {
      if (WORKER_DIED.test(message)) this.counts.died++
      else this.counts.failed++
    }
    this.#write()
  }

  /** After each file: what follows may not end. */
  #write() {
    const file = process.env.NODE_KVM_COUNTS
    if (file) writeFileSync(file, JSON.stringify(this.counts))
  }
}
