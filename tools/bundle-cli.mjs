// @ts-check
// Part of `npm run build:ts`: makes the command one file for each of its subcommands and a few that they share.
// Compiled file by file it loads 310 modules to run a machine, which takes longer than all the rest of its start.
import { execFileSync } from 'node:child_process'
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
 * CommonJS starts quicker, as Node then loads of its own modules only what is used.
 *
 * @type {import('esbuild').BuildOptions}
 */
const commonJs = {
  ...common,
  outExtension: { '.js': '.cjs' },
  format: 'cjs',
  // What it is for, createRequire, takes a path as well.
  define: { 'import.meta.url': '__filename' },
}

/**
 * Leaves the subcommands out of the command: `run`, whose start is waited for, is loaded with its code, the others as
 * ES modules.
 *
 * @type {import('esbuild').Plugin}
 */
const subcommands = {
  name: 'subcommands',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^\.\/(check|info|run)\.js$/ }, ({ path, kind }) => {
      if (kind !== 'dynamic-import') return undefined
      if (path === './run.js') return { path: 'run', namespace: 'cached' }
      return { path: path.replace('./', './parts/'), external: true }
    })
    onLoad({ filter: /^/, namespace: 'cached' }, () => ({
      contents: `import { requireCached } from './code-cache.js'
        export const { run, usage } = requireCached(require.resolve('./parts/run.cjs'))`,
      resolveDir: `${root}/src/cli`,
    }))
  },
}

/**
 * Has Node load those of its modules that only some machines need when a function of theirs is first called.
 *
 * @type {import('esbuild').Plugin}
 */
const lateModules = {
  name: 'late modules',
  setup({ onResolve, onLoad }) {
    /** @type {Record<string, string[]>} */
    const functions = { 'node:net': ['connect', 'createServer', 'isIPv6'] }
    onResolve({ filter: /^node:/ }, ({ path, namespace }) =>
      namespace !== 'late' && path in functions ? { path, namespace: 'late' } : undefined,
    )
    onLoad({ filter: /^/, namespace: 'late' }, ({ path }) => ({
      contents: (functions[path] ?? [])
        .map((name) => `export const ${name} = (...args) => require('${path}').${name}(...args)`)
        .join('\n'),
    }))
  },
}

// The compiler's own main.js would be a second command.
for (const name of ['parts', 'main.js', 'main.js.map']) {
  rmSync(`${root}/lib/cli/${name}`, { recursive: true, force: true })
}
await build({
  ...commonJs,
  entryPoints: ['src/cli/main.ts'],
  external: ['./parts/run.cjs'],
  plugins: [subcommands],
})
await build({
  ...common,
  entryPoints: { 'parts/info': 'src/cli/info.ts', 'parts/check': 'src/cli/check.ts' },
  chunkNames: 'parts/[name]-[hash]',
  splitting: true,
  format: 'esm',
})
await build({
  ...commonJs,
  entryPoints: { 'parts/run': 'src/cli/run.ts' },
  banner: { js: 'const COMMAND_ROOT = require("node:path").join(__dirname, "../../..")' },
  plugins: [lateModules],
  // Half as much to read. Names stay, so that a stack tells something.
  minifyWhitespace: true,
  minifySyntax: true,
})
// In a process of its own, which has compiled nothing else.
execFileSync(process.execPath, [`${root}/tools/code-cache.mjs`], {
  stdio: ['ignore', 'inherit', 'inherit'],
})
