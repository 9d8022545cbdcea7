import { defineConfig } from 'vitest/config'

// Three projects by what a test needs: nothing, /dev/kvm, or hardware semantics (the lab).
// No retries anywhere: a test that fails once has found something.
export default defineConfig({
  oxc: { target: 'node20' },
  test: {
    pool: 'forks',
    retry: 0,
    testTimeout: 20_000,
    include: ['test/{unit,kvm,process}/**/*.test.ts'],
  },
})
