import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

// One project for each thing a test may need: nothing, /dev/kvm, that and a process of its own, the npm
// registry, the lab. No retries: a test that fails once has found something.
const project = (name: string, testTimeout = 20_000, runner?: string) => ({
  extends: true as const,
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    testTimeout,
    hookTimeout: testTimeout,
    ...(runner && { runner }),
  },
})

/** Skips, with the reason, what cannot run on a machine without KVM. */
const KVM_RUNNER = './test/helpers/kvm-runner.ts'

const common = {
  pool: 'forks' as const,
  reporters: ['default', './tools/count-reporter.mjs'],
  // What the host has compiled, the lab need not compile again.
  experimental: { fsModuleCache: true, fsModuleCachePath: 'build/vitest-cache' },
}

// The lab's processor is emulated: there one process runs the KVM tests one after the other, since
// starting one costs more than most tests, and a time limit there only catches what hangs.
const lab = {
  ...common,
  include: ['test/kvm/**/*.test.ts'],
  testTimeout: 120_000,
  hookTimeout: 120_000,
  isolate: false,
  fileParallelism: false,
  server: { deps: { external: [/\/lib\//] } },
}

// And it loads what the host has compiled: a compiler is the slowest thing to run there.
const compiled = {
  find: /^(?:\.\.\/)+src\/(.*)$/,
  replacement: fileURLToPath(new URL('./lib/$1', import.meta.url)),
}

const host = {
  ...common,
  projects: [
    project('unit'),
    project('kvm', 20_000, KVM_RUNNER),
    project('process', 60_000, KVM_RUNNER),
    project('package', 300_000),
    project('lab', 900_000),
  ],
}

export default defineConfig({
  oxc: { target: 'node20' },
  ...(process.env.LAB ? { test: lab, resolve: { alias: [compiled] } } : { test: host }),
})
