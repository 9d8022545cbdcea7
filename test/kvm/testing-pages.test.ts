// Page tables of a test guest: rights, single entries, accessed and dirty bits, holes, pages that come
// late; and that what the test changes counts at once, in guests that have used the page before.
import { describe, expect, test } from 'vitest'
import '../../src/testing/vitest.js'
import { Userfault } from '../../src/index.js'
import { asm, guest, requires } from '../../src/testing/index.js'

const PAGE = 0x2_0000
const OTHER = 0x2_1000
const page = BigInt(PAGE)
const READ = asm`mov rbx, ${PAGE}; mov eax, [rbx]`
const WRITE = asm`mov rbx, ${PAGE}; mov dword [rbx], 7`

describe.each([0, 3] as const)('ring %i', (ring) => {
  test('rights that are taken away count in a guest that has used them', async () => {
    using g = await guest({ ring })
    expect(g.run(WRITE)).toFinish()
    g.pages.protect(page, 4096, { writable: false, user: true })
    expect(g.run(WRITE)).toRaise('#PF', { cr2: page, errorCode: ring === 3 ? 7 : 3 })
    expect(g.run(READ)).toMatchCpuState({ rax: 7n })
    g.pages.unmap(page, 4096)
    expect(g.run(READ)).toRaise('#PF', { cr2: page, errorCode: ring === 3 ? 4 : 0 })
    g.pages.map(page, PAGE, 4096, { user: true })
    expect(g.run(READ)).toMatchCpuState({ rax: 7n })
  })

  test('a page mapped elsewhere is read there, and after a reset where it was', async () => {
    using g = await guest({ ring })
    const write = () => {
      g.memory.writeU32(PAGE, 1)
      g.memory.writeU32(OTHER, 2)
    }
    write()
    expect(g.run(READ)).toMatchCpuState({ rax: 1n })
    g.pages.map(page, OTHER, 4096, { user: true })
    expect(g.pages.translate(page + 5n)).toBe(OTHER + 5)
    expect(g.run(READ)).toMatchCpuState({ rax: 2n })
    g.reset()
    write()
    expect(g.run(READ)).toMatchCpuState({ rax: 1n })
  })

  test('accessed and dirty bits come anew when they were cleared', async () => {
    using g = await guest({ ring })
    for (let round = 0; round < 3; round++) {
      g.run(WRITE)
      expect(g.pages.usage(page)).toEqual({ accessed: true, dirty: true })
      g.pages.clearUsage(page)
      expect(g.pages.usage(page)).toEqual({ accessed: false, dirty: false })
      g.run(READ)
      expect(g.pages.usage(page)).toEqual({ accessed: true, dirty: false })
      if (round === 1) g.reset()
    }
  })

  test('accessed and dirty bits come anew after a reset', async () => {
    using g = await guest({ ring })
    g.run(WRITE)
    g.reset()
    expect(g.pages.usage(page)).toEqual({ accessed: false, dirty: false })
    g.run(READ)
    expect(g.pages.usage(page)).toEqual({ accessed: true, dirty: false })
    g.run(WRITE)
    expect(g.pages.usage(page)).toEqual({ accessed: true, dirty: true })
  })

  test('a hole ends the run with an MMIO exit, until the reset', async () => {
    using g = await guest({ ring })
    g.pages.map(g.end, g.memory.size, 4096, { user: true })
    const source = asm`mov rbx, ${g.end}; mov eax, [rbx + 8]; ${g.report()}`
    expect(g.run(source)).toExit('mmio', { gpa: g.memory.size + 8, isWrite: false })
    const onExit = (exit: { type: string; value?: number }) => {
      exit.value = 0x55
      return exit.type === 'mmio'
    }
    expect(g.run(source, { onExit: onExit as never }).values).toEqual([0x55])
    g.reset()
    expect(g.run(source)).toRaise('#PF')
  })

  test('a page that is withheld comes when it is touched', async (t) => {
    if (!Userfault.support()?.missingShared) t.skip('no userfaultfd for shared memory here')
    using g = await guest({ ring })
    const asked: number[] = []
    g.withhold(PAGE, 8192, async (gpa) => {
      asked.push(gpa)
      return new Uint8Array(4096).fill(gpa >> 12)
    })
    const [outcome] = await g.runAll(
      asm`${READ}; ${g.report()}; mov eax, [rbx + 4096]; ${g.report()}; mov eax, [rbx]; ${g.report()}`,
      { timeoutMs: 20_000 },
    )
    expect(outcome!.values).toEqual([0x2020_2020, 0x2121_2121, 0x2020_2020])
    expect(asked).toEqual([PAGE, OTHER])
    g.reset()
    expect(g.run(READ)).toMatchCpuState({ rax: 0n })
  })
})

test('what the handler of a withheld page throws fails the run', async (t) => {
  if (!Userfault.support()?.missingShared) t.skip('no userfaultfd for shared memory here')
  using g = await guest()
  g.withhold(PAGE, 4096, () => {
    throw new Error('of the test')
  })
  const run = g.runAll(READ, { timeoutMs: 20_000 })
  await expect(run).rejects.toMatchObject({
    code: 'ERR_KVM_PAGE_LOST',
    cause: { message: 'of the test' },
  })
})

test('single entries take any bits', async () => {
  using g = await guest()
  g.pages.change(page, (entry) => entry | (1n << 51n))
  // Emulators do not agree on bit 0.
  expect(g.run(READ).raised!.errorCode! & 8).toBe(8)
  g.pages.change(page, (entry) => entry & ~(1n << 51n) & ~1n)
  expect(g.run(READ)).toRaise('#PF', { errorCode: 0 })
  g.pages.change(page, (entry) => entry | 1n)
  expect(g.run(READ)).toFinish()
})

test('an exception is read from a stack that is mapped elsewhere', async () => {
  using g = await guest()
  const stack = 0x10_0000n
  g.pages.map(stack, OTHER, 4096)
  const outcome = g.run(asm`nop; ud2`, { regs: { rsp: stack + 4096n } })
  expect(outcome).toRaise('#UD', { rip: g.code + 1n, rsp: stack + 4096n })
})

test('a walk says what the processor says', async () => {
  using g = await guest({ ring: 3 })
  g.pages.protect(page, 4096, { writable: false, user: true })
  const { fault, levels } = g.pages.walk(page, { user: true, write: true })
  expect(levels).toHaveLength(4)
  expect(g.run(WRITE)).toRaise('#PF', { errorCode: fault!.errorCode })
  expect(g.pages.entry(page)).toMatchObject({ level: 1, gpa: levels[3]!.entryGpa })
  expect(g.pages.entry(1n << 40n)).toBeUndefined()
})

test.each(['paging32', 'pae', 'long5'] as const)('mode %s', async (mode) => {
  const t = { skip: () => {} }
  if (!requires(t, `mode:${mode}`)) return
  using g = await guest({ mode })
  const read = asm`mov ebx, ${PAGE}; mov eax, [ebx]`
  expect(g.run(read)).toFinish()
  g.pages.unmap(page, 4096)
  expect(g.run(read)).toRaise('#PF', { cr2: page })
})

test('a mode without paging says so', async () => {
  using g = await guest({ mode: 'protected' })
  expect(() => g.pages.map(0n, 0, 4096)).toThrow('this mode has no page tables')
})

test('statistics tell what grew', async (t) => {
  requires(t, 'KVM_CAP_BINARY_STATS_FD')
  using g = await guest({ ring: 3 })
  g.run(READ)
  const before = g.statistics()
  g.run(asm`mov ecx, 20; again: ${() => {}}; dec ecx; jnz again`)
  const grown = g.statistics(before)
  expect(grown.exits).toBeGreaterThanOrEqual(20)
  expect(grown.pages_1g).toBe(0)
})
