// @ts-check
// Part of `npm run build:ts`: makes the command one file for each of its subcommands and a few that they share.
// Compiled file by file it loads 310 modules to run a machine, which takes longer than all the rest of its start.
import { rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const root = fileURLToPath(new URL('..', import.meta.url))

/** @type {import('esbuild').BuildOptions} */
const common = {
  absWorkingDir: root,
  outdir: 'lib/cli',
  bundle: true,
  platform: 'node',
  target: 'node20.19',
  packages: 'external',
  logLevel: 'warning',
}

/**
 * Leaves `run` out of the modules, for a file of its own that is required: CommonJS starts quicker, as Node then loads of its
 * own modules only what is used, and what starts a machine has been waited for.
 *
 * @type {import('esbuild').Plugin}
 */
const requiredRun = {
  name: 'required run',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^\.\/run\.js$/ }, ({ kind }) =>
      kind === 'dynamic-import' ? { path: 'run', namespace: 'required' } : undefined,
    )
    onLoad({ filter: /^/, namespace: 'required' }, () => ({
      contents: `import { createRequire } from 'node:module'
        export const { run, usage } = createRequire(import.meta.url)('./run.cjs')`,
    }))
  },
}

rmSync(`${root}/lib/cli/parts`, { recursive: true, force: true })
await build({
  ...common,
  entryPoints: ['src/cli/main.ts'],
  chunkNames: 'parts/[name]-[hash]',
  splitting: true,
  format: 'esm',
  plugins: [requiredRun],
})
await build({
  ...common,
  entryPoints: { 'parts/run': 'src/cli/run.ts' },
  outExtension: { '.js': '.cjs' },
  format: 'cjs',
  // Half as much to read. Names stay, so that a stack tells something.
  minifyWhitespace: true,
  minifySyntax: true,
  // What it is for, createRequire, takes a path as well.
  define: { 'import.meta.url': '__filename' },
})
