// A saved guest that goes on lazily, its RAM coming from a file while it runs, and many at once on
// one file.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { DATA, PAGES, SIZE, STEP, SUM, SUM_PORT, WRITES } from '../../examples/guests/pages.js'
import { clone, restoreLazily, save } from '../../examples/restore.js'
import {
  GuestMemory,
  Kvm,
  Userfault,
  type UserfaultOptions,
  type VcpuState,
} from '../../src/index.js'

const PAGE = 4096
const folder = mkdtempSync(join(tmpdir(), 'node-kvm-restore-'))
const file = join(folder, 'ram')
let state: VcpuState
beforeAll(async () => {
  state = await save(file)
})
afterAll(() => rmSync(folder, { recursive: true }))

/** What RAM is when the guest has ended. */
function model(): Buffer {
  const ram = readFileSync(file)
  for (let i = 0; i < WRITES; i++) ram.writeBigUInt64LE(BigInt(1 + i + SUM), DATA + i * PAGE)
  return ram
}

describe('lazily', () => {
  beforeEach((context) => {
    if (Userfault.support() === undefined) context.skip('this process may not use userfaultfd')
  })

  test('only what the guest touches is read while it runs, the rest afterwards', async () => {
    const { sum, atEnd, complete } = await restoreLazily(file, state)
    expect(sum).toBe(SUM)
    // Besides data: code and page tables.
    expect(atEnd.fromFile).toBeGreaterThan(PAGES / STEP)
    expect(atEnd.fromFile).toBeLessThan(PAGES / STEP + 2 * WRITES)
    expect(complete).toMatchObject({ fromFile: SIZE / PAGE, zeroed: 0, waiting: 0 })
  })

  const fromJavaScript = async (gpa: number) => {
    const source = await open(file)
    const { buffer } = await source.read(new Uint8Array(PAGE), 0, PAGE, gpa)
    await source.close()
    return buffer
  }
  test.each<[string, 'memfd' | 'anonymous', UserfaultOptions]>([
    ['the file', 'memfd', { missing: { file } }],
    ['the file', 'anonymous', { missing: { file } }],
    ['a handler that reads it', 'memfd', { missing: fromJavaScript }],
    ['a handler that reads it', 'anonymous', { missing: fromJavaScript }],
  ])('while it is fetched from %s into %s memory', async (_, backing, options) => {
    using kvm = Kvm.open()
    using vm = kvm.createVm()
    using memory = GuestMemory.create(SIZE, { backing })
    vm.mapMemory(memory)
    using vcpu = vm.createVcpu(0)
    vcpu.restoreState(state)
    using userfault = Userfault.create(memory, options)
    let sum: number | undefined
    vcpu.start((exit) => {
      if (exit.type === 'io' && exit.port === SUM_PORT) sum = exit.value
      vcpu.requestStop()
    })
    await Promise.all([vcpu.join(), userfault.prefetch()])
    expect(sum).toBe(SUM)
    userfault.close()
    expect(Buffer.compare(memory.view(0, SIZE), model())).toBe(0)
  })
})

test('clones share the file and pay for what they write', () => {
  const before = readFileSync(file)
  const usages = clone(file, state, 8)
  for (const { privateDirty, rss } of usages) {
    expect(privateDirty).toBeGreaterThanOrEqual(WRITES * PAGE)
    expect(privateDirty).toBeLessThan(2 * WRITES * PAGE)
    expect(rss).toBeGreaterThan((PAGES / STEP) * PAGE)
  }
  expect(Buffer.compare(readFileSync(file), before)).toBe(0)
})
