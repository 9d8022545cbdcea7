// @ts-check
// Makes one module of test files, of the library, and of what runs them (bundled/run.mjs): for a machine
// in which reading and compiling hundreds of modules takes minutes.
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { build } from 'esbuild'

const root = join(import.meta.dirname, '..')

/**
 * Modules find files of the project from where they are, so each is told where it was.
 *
 * @type {import('esbuild').Plugin}
 */
const keepPlaces = {
  name: 'keep-places',
  setup({ onLoad }) {
    onLoad({ filter: /\/(?:src|test)\/.*\.ts$/ }, ({ path }) => {
      const contents = readFileSync(path, 'utf8')
        .replaceAll('import.meta.dirname', JSON.stringify(dirname(path)))
        .replaceAll('import.meta.url', JSON.stringify(pathToFileURL(path).href))
      return { contents, loader: 'ts' }
    })
  },
}

/**
 * @param {readonly string[]} files paths in the project
 * @param {string} outfile
 */
export async function bundleTests(files, outfile) {
  const imports = files.map((file) => {
    const path = JSON.stringify(join(root, file))
    return `${JSON.stringify(file)}: () => import(${path}),`
  })
  await build({
    stdin: {
      contents: `import { run } from './run.mjs'\nawait run({ ${imports.join('\n')} })\n`,
      resolveDir: join(root, 'lab/bundled'),
    },
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    alias: { vitest: join(root, 'lab/bundled/vitest.mjs') },
    // Native and WebAssembly modules are where npm has put them.
    external: ['node-gyp-build', 'iced-x86'],
    plugins: [keepPlaces],
  })
}
