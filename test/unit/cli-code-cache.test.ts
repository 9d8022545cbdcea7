// `node-kvm run` is loaded with the code that the build made of it, and without where that does not fit.

import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, expect, test } from 'vitest'
import { codeCacheOf, compileModule, requireCached } from '../../src/cli/code-cache.js'

const run = join(import.meta.dirname, '..', '..', 'lib', 'cli', 'parts', 'run.cjs')
const SOURCE = 'exports.place = [__filename, __dirname, typeof require("node:fs").statSync];\n'
const folders: string[] = []
let file: string
let exported: { place: string[] }

beforeEach(() => {
  // Each its own: Node remembers what it has required.
  const folder = mkdtempSync(join(tmpdir(), 'node-kvm-code-'))
  folders.push(folder)
  file = join(folder, 'module.cjs')
  exported = { place: [file, folder, 'function'] }
  writeFileSync(file, SOURCE)
  writeFileSync(codeCacheOf(file), compileModule(file).script.createCachedData())
})
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true })
})

test('a module runs by its code as by its source', () => {
  const { script, run } = compileModule(file)
  expect(run()).toEqual(exported)
  expect(compileModule(file, script.createCachedData()).script.cachedDataRejected).toBe(false)
  expect(requireCached(file)).toEqual(exported)
})

test('code of another source is not taken', () => {
  writeFileSync(file, `${SOURCE}exports.more = 1\n`)
  expect(requireCached(file)).toEqual({ ...exported, more: 1 })
})

test('code of another version of V8, and cut code, is not taken', () => {
  const code = compileModule(file).script.createCachedData()
  for (const [i, wrong] of [Buffer.from(code).fill(0, 4, 8), code.subarray(0, 40)].entries()) {
    // V8 remembers what it has compiled, and takes that.
    writeFileSync(file, SOURCE.replace('\n', String(i)))
    expect(compileModule(file, wrong).script.cachedDataRejected).toBe(true)
    writeFileSync(codeCacheOf(file), wrong)
    expect(requireCached(file)).toEqual(exported)
  }
})

test('missing code is done without', () => {
  rmSync(codeCacheOf(file))
  expect(requireCached(file)).toEqual(exported)
})

test('what the build made fits the Node that made it, and flags that change code are respected', () => {
  expect(existsSync(codeCacheOf(run))).toBe(true)
  copyFileSync(codeCacheOf(run), codeCacheOf(file))
  copyFileSync(run, file)
  const script = `
    const { compileModule, codeCacheOf } = await import('${join(run, '../../code-cache.js')}')
    const code = require('node:fs').readFileSync(codeCacheOf(${JSON.stringify(file)}))
    console.log(compileModule(${JSON.stringify(file)}, code).script.cachedDataRejected)`
  const rejected = (...flags: string[]) =>
    spawnSync(process.execPath, [...flags, '-e', `(async () => {${script}})()`]).stdout.toString()
  expect(rejected()).toBe('false\n')
  expect(rejected('--no-opt')).toBe('true\n')
})
