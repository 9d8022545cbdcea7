// Dependencies between the layers point down. What a file imports decides, types included.

import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { expect, test } from 'vitest'

const source = join(import.meta.dirname, '..', '..', 'src')

const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  uapi: [],
  x86: [],
  boot: ['devices', 'x86', 'uapi'],
  devices: ['x86', 'uapi'],
  'binding.ts': ['uapi'],
  core: ['x86', 'uapi', 'binding.ts'],
  io: ['core', 'devices', 'x86', 'uapi', 'binding.ts'],
  machine: ['io', 'core', 'boot', 'devices', 'x86', 'uapi'],
  testing: ['core', 'boot', 'devices', 'x86', 'uapi', 'index.ts'],
  'index.ts': ['core', 'io', 'machine', 'x86'],
  cli: ['machine', 'io', 'testing', 'core', 'boot', 'devices', 'x86', 'uapi', 'index.ts'],
}

const files = readdirSync(source, { recursive: true, encoding: 'utf8' }).filter((name) =>
  name.endsWith('.ts'),
)
const layerOf = (name: string) => name.split('/')[0]!

function importsOf(name: string): string[] {
  const text = readFileSync(join(source, name), 'utf8')
  const specifiers = text.matchAll(/(?:from|import|import\()\s*'(\.[^']+)'/g)
  return Array.from(specifiers, ([, specifier]) =>
    relative(source, join(source, dirname(name), specifier!)).replace(/\.js$/, '.ts'),
  )
}

test('every file belongs to a layer', () => {
  expect(files.length).toBeGreaterThan(50)
  expect(files.filter((name) => !(layerOf(name) in ALLOWED))).toEqual([])
})

test('no import points up', () => {
  const upward = files.flatMap((name) => {
    const layer = layerOf(name)
    return importsOf(name)
      .filter((imported) => ![layer, ...ALLOWED[layer]!].includes(layerOf(imported)))
      .map((imported) => `${name} imports ${imported}`)
  })
  expect(upward).toEqual([])
})

test('only the binding loads the addon', () => {
  const loaders = files.filter((name) =>
    /node-gyp-build|process\.dlopen|\.node'/.test(readFileSync(join(source, name), 'utf8')),
  )
  expect(loaders).toEqual(['binding.ts'])
})
