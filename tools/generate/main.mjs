// npm run generate -- --headers DIR [--clang NAME] [--version X.Y.Z] [--out DIR]
//
// Writes src/uapi/generated and native/requests.inc from a set of kernel headers and the facts in
// reference/. See README.md beside this file for where to get headers.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { Compiler, findClang } from './compiler.mjs'
import { emitStructs } from './emit-structs.mjs'
import { emitConstants, emitLayouts, emitNative, emitRequests, usersOf } from './emit-words.mjs'
import { pointerCapabilities } from './facts.mjs'
import { readShapes } from './model.mjs'
import { attributeHeaders, readEnumerators, readRecords } from './records.mjs'
import { readConstants, readRequests } from './words.mjs'

const root = join(dirname(fileURLToPath(import.meta.url)), '../..')

/** @param {string} name */
function reference(name) {
  return JSON.parse(readFileSync(join(root, 'reference', `${name}.json`), 'utf8'))
}

/** linux/version.h names the kernel. @param {string} headers */
function versionOf(headers) {
  const text = readFileSync(join(headers, 'linux/version.h'), 'utf8')
  const part = (/** @type {string} */ name) => new RegExp(`${name} (\\d+)`).exec(text)?.[1]
  const parts = ['PATCHLEVEL', 'SUBLEVEL'].map((name) => part(`LINUX_VERSION_${name}`))
  return [part('LINUX_VERSION_MAJOR'), ...parts].join('.')
}

/** @param {string} headers @param {string | undefined} clang */
function generate(headers, clang) {
  const compiler = new Compiler(headers, findClang(clang))
  try {
    const tree = compiler.syntaxTree()
    attributeHeaders(tree)
    const macros = compiler.macros()
    const constants = readConstants(compiler, macros, readEnumerators(tree))
    const records = readRecords(compiler, tree)
    const requests = readRequests(compiler, macros, records, reference('kvm-ioctls'))
    return { constants, records, requests }
  } finally {
    compiler.close()
  }
}

const { values } = parseArgs({
  options: {
    headers: { type: 'string' },
    clang: { type: 'string' },
    out: { type: 'string', default: root },
  },
})
if (!values.headers) {
  console.error('usage: npm run generate -- --headers DIR (see tools/generate/README.md)')
  process.exit(2)
}

const version = versionOf(values.headers)
const { constants, records, requests } = generate(values.headers, values.clang)
const { exits } = reference('kvm-exits')
const shapes = readShapes(records, constants, exits)
const numbers = new Map(constants.map(({ name, value }) => [name, value]))
const pointers = pointerCapabilities.map((name) => {
  const value = numbers.get(name)
  if (typeof value !== 'number') throw new Error(`${name} is no capability of these headers`)
  return { name, value }
})

const target = join(values.out, 'src/uapi/generated')
mkdirSync(target, { recursive: true })
mkdirSync(join(values.out, 'native'), { recursive: true })
const texts = new Map([
  ['constants', emitConstants(constants, reference('kvm-capabilities'), exits, version)],
  ['requests', emitRequests(requests, version)],
  ['layouts', emitLayouts(shapes, version)],
  ...emitStructs(shapes, usersOf(requests), version),
])
for (const [name, text] of texts) writeFileSync(join(target, `${name}.ts`), text)
writeFileSync(join(values.out, 'native/requests.inc'), emitNative(requests, pointers, version))
console.log(
  `Linux ${version}: ${constants.length} constants, ${requests.length} requests, ${records.length} structs`,
)
