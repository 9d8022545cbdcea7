// Runs the test files that need KVM, where there is any. On a machine without it each of these files is
// one skipped test; a device that is there and does not work is a failure, as everywhere.

import { relative } from 'node:path'
import type { VitestRunnerImportSource } from '@vitest/runner'
import { TestRunner, test } from 'vitest'
import { kvmMissing } from './kvm-missing.js'

export default class KvmRunner extends TestRunner {
  override importFile(path: string, source: VitestRunnerImportSource): unknown {
    if (source !== 'collect' || kvmMissing === undefined) return super.importFile(path, source)
    return test(relative(this.config.root, path), (context) => context.skip(kvmMissing))
  }
}
