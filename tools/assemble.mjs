// Turns a guest's assembly into TypeScript: the bytes, each line under its source. What is committed
// is what runs; a test assembles again and compares.
//
//   npm run assemble

import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'

const root = join(import.meta.dirname, '..')

/** Every guest that is written in assembly, and where it is loaded. */
export const GUESTS = [
  { source: 'examples/guests/boot-sector.S', gpa: 0x7c00 },
  { source: 'examples/guests/frames.S', gpa: 0x10_0000 },
  { source: 'examples/guests/reverse.S', gpa: 0x10_0000 },
  { source: 'examples/guests/smp.S', gpa: 0x9000 },
  { source: 'test/helpers/guests/hostile.S', gpa: 0x10_0000 },
  { source: 'test/helpers/guests/interrupted.S', gpa: 0x9000 },
  { source: 'test/helpers/guests/multiboot.S', gpa: 0x10_0000 },
  { source: 'test/helpers/guests/platform.S', gpa: 0x10_0000 },
  { source: 'test/helpers/guests/puppet.S', gpa: 0x10_0000 },
  { source: 'test/helpers/guests/vectors.S', gpa: 0x9000 },
].map(({ source, gpa }) => ({ source: join(root, source), gpa }))

/** @param {string} source @returns {string} the TypeScript beside it */
export const moduleOf = (source) => source.replace(/\.S$/, '.ts')

/**
 * @param {string} source path of a .S file
 * @param {number} gpa where the guest will be loaded
 * @returns {string} the text of a TypeScript module
 */
export function assemble(source, gpa) {
  const folder = mkdtempSync(join(tmpdir(), 'assemble-'))
  try {
    const at = (/** @type {string} */ name) => join(folder, name)
    const listing = execFileSync('as', [
      '--64',
      '-aln',
      '--listing-lhs-width=2',
      '-I',
      dirname(source),
      '-o',
      at('o'),
      source,
    ])
    execFileSync('ld', ['-e', '0', `-Ttext=0x${gpa.toString(16)}`, '-o', at('elf'), at('o')])
    execFileSync('objcopy', ['-O', 'binary', '-j', '.text', at('elf'), at('bin')])
    const symbols = execFileSync('nm', [at('elf')], { encoding: 'utf8' })
    return render(basename(source), gpa, readFileSync(at('bin')), listing.toString(), symbols)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** @param {string} listing @returns {{ offset: number, text: string }[]} */
function sourceLines(listing) {
  const lines = []
  let text = ''
  for (const line of listing.split('\n')) {
    const match = /^\s*\d+ (?:([0-9a-f]{4}) [0-9A-F ]+)?\s*(.*)$/.exec(line)
    if (!match) continue
    if (/^\s*\d+\s/.test(line) && match[2]) text = match[2]
    if (match[1]) lines.push({ offset: Number.parseInt(match[1], 16), text: text.trim() })
  }
  return lines
}

/**
 * @param {string} name @param {number} gpa @param {Buffer} bytes
 * @param {string} listing @param {string} symbols
 */
function render(name, gpa, bytes, listing, symbols) {
  const lines = sourceLines(listing)
  const rows = []
  for (let i = 0; i < lines.length; i++) {
    const { offset, text } = lines[i]
    if (i > 0 && lines[i - 1].text === text && text === '') continue
    const end = lines[i + 1]?.offset ?? bytes.length
    if (end <= offset) continue
    rows.push(`  '${bytes.subarray(offset, end).toString('hex')}', // ${text}`)
  }
  const exported = [...symbols.matchAll(/^([0-9a-f]+) [tT] (start|parameters)$/gm)]
  const fields = exported.map(
    ([, address, symbol]) => `  ${symbol}: 0x${Number.parseInt(address, 16).toString(16)},`,
  )
  return `// Assembled from ${name}; change that and run \`npm run assemble\`.

/** Where the guest is loaded, where it starts, where the host puts its parameters. */
export const layout = {
  gpa: 0x${gpa.toString(16)},
${fields.sort().join('\n')}
} as const

// biome-ignore format: one line of source, one line of bytes
const lines = [
${rows.join('\n')}
]

/** The guest's code and data. */
export const image: Uint8Array = Buffer.from(lines.join(''), 'hex')
`
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  for (const { source, gpa } of GUESTS) writeFileSync(moduleOf(source), assemble(source, gpa))
}
