// A vitest reporter that leaves what CI counts: numbers, and each skipped test with its reason. Give
// `ctx.skip(reason)` the probed fact, or name it in the title of what is skipped.

import { writeFileSync } from 'node:fs'

/** @typedef {{ name: string, reason: string | undefined }} Skipped */
/** @typedef {{ passed: number, failed: number, skipped: Skipped[] }} Counts */

export default class CountReporter {
  /** @param {{ onTestCaseResult?: never }} _context */
  constructor(_context) {
    /** @type {Counts} */
    this.counts = { passed: 0, failed: 0, skipped: [] }
  }

  /** @param {import('vitest/node').TestCase} test */
  onTestCaseResult(test) {
    const result = test.result()
    if (result.state === 'passed') this.counts.passed++
    else if (result.state === 'skipped') {
      this.counts.skipped.push({ name: test.fullName, reason: result.note })
    } else this.counts.failed++
  }

  /**
   * @param {readonly import('vitest/node').TestModule[]} modules
   * @param {readonly unknown[]} unhandledErrors
   */
  onTestRunEnd(modules, unhandledErrors) {
    // A file that could not be loaded has no tests, only errors.
    this.counts.failed += modules.filter((module) => module.errors().length > 0).length
    this.counts.failed += unhandledErrors.length
    const file = process.env.NODE_KVM_COUNTS
    if (file) writeFileSync(file, JSON.stringify(this.counts))
  }
}
