// Pages that a thread brings in before they are needed.

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { GuestMemory } from '../../src/index.js'

const PAGE = 4096
const MIB = 2 ** 20
const GPA = 16 * MIB
const SIZE = 8 * MIB

const backings = ['memfd', 'anonymous'] as const

test.each(backings)('what was asked for comes, and nothing else: %s', async (backing) => {
  using memory = GuestMemory.create([{ gpa: GPA, size: SIZE }], { backing, thp: 'never' })
  memory.prefault(GPA + PAGE, 5 * MIB)
  const wanted = [{ gpa: GPA + PAGE, size: 5 * MIB }]
  await expect.poll(() => [...memory.residency(GPA, SIZE).ranges()]).toEqual(wanted)
})

test('a file that is mapped for oneself is only read', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'prefault-'))
  const path = join(folder, 'file')
  writeFileSync(path, Buffer.alloc(SIZE, 7))
  const backing = { file: path, mode: 'private' } as const
  using memory = GuestMemory.create([{ gpa: GPA, size: SIZE }], { backing })
  const mapped = () => memory.pageState(GPA + SIZE - PAGE)
  expect(mapped().present).toBe(false)
  memory.prefault(GPA, SIZE, 'read')
  await expect.poll(() => mapped().present).toBe(true)
  expect(mapped().file).toBe(true)
  expect(memory.readU8(GPA + SIZE - 1)).toBe(7)
  memory.prefault(GPA, SIZE)
  await expect.poll(() => mapped().file).toBe(false)
  expect(memory.readU8(GPA + SIZE - 1)).toBe(7)
  rmSync(folder, { recursive: true })
})

test('it writes nothing over what is there', async () => {
  using memory = GuestMemory.create([{ gpa: GPA, size: SIZE }])
  memory.prefault(GPA, SIZE)
  for (let gpa = GPA; gpa < GPA + SIZE; gpa += PAGE) memory.writeU32(gpa, gpa)
  await expect.poll(() => memory.residency(GPA, SIZE).count).toBe(SIZE / PAGE)
  for (let gpa = GPA; gpa < GPA + SIZE; gpa += PAGE) expect(memory.readU32(gpa)).toBe(gpa)
})

const threads = () =>
  readdirSync('/proc/self/task').filter((id) => {
    try {
      return readFileSync(`/proc/self/task/${id}/comm`, 'utf8').startsWith('kvm-prefault')
    } catch {
      return false
    }
  }).length

test('memory that is closed meanwhile is not kept', async () => {
  for (let i = 0; i < 50; i++) {
    using memory = GuestMemory.create([{ gpa: 0, size: 1024 * MIB }])
    memory.prefault(0, 512 * MIB)
    memory.prefault(512 * MIB, 512 * MIB)
  }
  // A hundred threads that brought in 50 GiB would be at it for much longer.
  await expect.poll(threads, { timeout: 10_000 }).toBe(0)
})

test.each([
  [GPA + 1, PAGE, 'ERR_OUT_OF_RANGE'],
  [GPA, 1, 'ERR_OUT_OF_RANGE'],
  [GPA - PAGE, 2 * PAGE, 'ERR_KVM_GUEST_FAULT'],
  [GPA + SIZE - PAGE, 2 * PAGE, 'ERR_KVM_GUEST_FAULT'],
])('from %d on, %d bytes are refused', (gpa, length, code) => {
  using memory = GuestMemory.create([{ gpa: GPA, size: SIZE }])
  expect(() => memory.prefault(gpa, length)).toThrow(expect.objectContaining({ code }))
})

test('pages cannot be brought in to be executed', () => {
  using memory = GuestMemory.create([{ gpa: GPA, size: SIZE }])
  const code = 'ERR_INVALID_ARG_TYPE'
  expect(() => memory.prefault(GPA, PAGE, 'execute' as 'read')).toThrow(
    expect.objectContaining({ code }),
  )
})
