import { defineConfig } from 'vitest/config'

// One project for each thing a test may need: nothing, /dev/kvm, a process of its own, the npm
// registry, the lab. No retries: a test that fails once has found something.
const project = (name: string, testTimeout = 20_000) => ({
  extends: true as const,
  test: { name, include: [`test/${name}/**/*.test.ts`], testTimeout, hookTimeout: testTimeout },
})

export default defineConfig({
  oxc: { target: 'node20' },
  test: {
    pool: 'forks',
    reporters: ['default', './tools/count-reporter.mjs'],
    projects: [
      project('unit'),
      project('kvm'),
      project('process', 60_000),
      project('package', 300_000),
      project('lab', 900_000),
    ],
  },
})
