// The last line of CI: `N passed, N failed, N skipped` over all reports of a folder (see
// count-reporter.mjs), after every skipped test with its reason.
//
//   node tools/count-tests.mjs FAILED_STEPS FOLDER

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const [failedSteps = '0', folder = '.'] = process.argv.slice(2)
let passed = 0
let skipped = 0
let failed = Number(failedSteps)

for (const name of readdirSync(folder).sort()) {
  /** @type {import('./count-reporter.mjs').Counts} */
  const counts = JSON.parse(readFileSync(join(folder, name), 'utf8'))
  passed += counts.passed
  failed += counts.failed + counts.died
  skipped += counts.skipped.length
  for (const test of counts.skipped) {
    const reason = test.reason ?? 'see its title'
    console.log(`skipped (${name.replace('.json', '')}): ${test.name}: ${reason}`)
  }
}

console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`)
process.exitCode = failed === 0 && passed > 0 ? 0 : 1
