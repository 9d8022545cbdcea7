// The programs of docs/interrupts.md, run as a reader would run them, but in this process: each goes
// on from the first block, and prints what its comments say.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test, vi } from 'vitest'
import { has } from '../helpers/probe.js'

const root = join(import.meta.dirname, '..', '..')
/** The lab's compiler is slow: it takes what the host has compiled. */
const library = process.env.LAB ? ['lib', 'js'] : ['src', 'ts']
const entry = (...path: string[]) => join(root, library[0]!, ...path, `index.${library[1]}`)
mkdirSync(join(root, 'build'), { recursive: true })
const folder = mkdtempSync(join(root, 'build', 'guide-'))
afterAll(() => rmSync(folder, { recursive: true }))

const guide = readFileSync(join(root, 'docs', 'interrupts.md'), 'utf8')
const [guest, ...programs] = [
  ...guide.matchAll(/(?:^### (.*)\n[^#]*?)?```ts\n([\s\S]*?)```/gm),
].map(([, title = '', code = '']) => ({ title, code }))

test('there is a program for each kind', () => {
  expect(programs.map(({ title }) => title)).not.toContain('')
  expect(programs.length).toBe(8)
})

test.for(programs)('$title', async ({ title, code }, context) => {
  if (title === 'An SMI' && !has('KVM_CAP_X86_SMM')) {
    context.skip('this KVM lacks KVM_CAP_X86_SMM')
  }
  const expected = [...code.matchAll(/console\.log\(.*\) \/\/ (.*)$/gm)].map(([, text]) => text)
  const source = (guest!.code + code)
    .replaceAll(`'node-kvm'`, `'${entry()}'`)
    .replaceAll(`'node-kvm/x86'`, `'${entry('x86')}'`)
  const file = join(folder, `${title.replaceAll(/\W+/g, '-')}.ts`)
  writeFileSync(file, source)
  const log = vi.spyOn(console, 'log').mockImplementation(() => {})
  await import(file)
  expect(log.mock.calls.map(([text]) => String(text))).toEqual(expected)
  expect(expected.length).toBeGreaterThan(0)
  log.mockRestore()
})
