// The harness: every mode begins as it says, exceptions become results, nothing stays behind.
import { AssertionError } from 'node:assert'
import { describe, expect, test } from 'vitest'
import '../../src/testing/vitest.js'
import {
  asm,
  assertOutcome,
  describeOutcome,
  guest,
  MODES,
  type ModeName,
  matchers,
  missing,
  requires,
  type Source,
} from '../../src/testing/index.js'

describe.each(Object.keys(MODES) as ModeName[])('mode %s', (mode) => {
  test('code runs to its end', async (t) => {
    requires(t, `mode:${mode}`)
    using g = await guest({ mode })
    const outcome = g.run(asm`mov eax, 6; mov ecx, 7; mul ecx; ${g.report()}`)
    expect(outcome).toFinish()
    expect(outcome.values).toEqual([42])
  })

  test('an exception is told with its place', async (t) => {
    requires(t, `mode:${mode}`)
    using g = await guest({ mode })
    const outcome = g.run(asm`nop; ud2`)
    expect(outcome).toRaise('#UD', { rip: g.code + 1n, vector: 6, errorCode: undefined })
    expect(outcome.regs.rsp).toBe(g.stack)
  })
})

describe.each(['protected', 'compat', 'long'] as const)('rings of mode %s', (mode) => {
  test.for([0, 1, 2, 3] as const)('ring %i', async (ring) => {
    using g = await guest({ mode, ring })
    const outcome = g.run(asm`nop; ud2`)
    expect(outcome).toRaise('#UD', { rip: g.code + 1n })
    expect(outcome.raised!.cs & 3).toBe(ring)
    expect(outcome.regs.rsp).toBe(g.stack)
    const privileged = g.run(asm`mov eax, 1; clts; ${g.report()}`)
    if (ring === 0) expect(privileged).toFinish()
    else expect(privileged).toRaise('#GP', { errorCode: 0 })
  })
})

test('a page fault has its address, an error code has its value', async () => {
  using g = await guest({ ring: 3 })
  const nowhere = 0x1234_5678_9000n
  const read = g.run(asm`mov rax, ${nowhere}; mov rax, [rax]`)
  expect(read).toRaise('#PF', { errorCode: 4, cr2: nowhere })
  expect(g.run(asm`mov ax, 0x1238; mov ds, ax`)).toRaise('#GP', { errorCode: 0x1238 })
})

test('flags, CPUID and MSRs are those that were asked for', async () => {
  using g = await guest({
    cr0: { wp: false },
    cr4: { tsd: true },
    cpuid: { avx: false },
    msrs: { IA32_SYSENTER_CS: 0x1234n },
  })
  const source = asm`
    mov rax, cr0; ${g.report()}; mov rax, cr4; ${g.report()}
    mov ecx, 0x174; rdmsr; ${g.report()}
    mov eax, 1; xor ecx, ecx; cpuid; mov eax, ecx; ${g.report()}`
  const { values } = g.run(source)
  expect(values[0]! & 0x1_0000).toBe(0)
  expect(values[1]! & 4).toBe(4)
  expect(values[2]).toBe(0x1234)
  // Some KVMs show features of the host whatever the table says: what counts is what KVM keeps.
  expect(values[3]).toBe(g.vcpu.getCpuid2().find((entry) => entry.function === 1)!.ecx)
})

test('a flag that the register does not have is refused', async () => {
  const wrong = { cr4: { pizza: true } } as never
  await expect(guest(wrong)).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' })
})

test('an exit is given with its fields, and the guest goes on', async () => {
  using g = await guest({ mode: 'real' })
  const first = g.run(asm`mov al, 5; out 0x10, al; in al, 0x11; ${g.report()}; hlt`)
  expect(first).toExit('io', { port: 0x10, value: 5, direction: 'out' })
  const second = g.resume()
  expect(second).toExit('io', { port: 0x11, direction: 'in' })
  const answer = (exit: { type: string; value?: number }) => {
    exit.value = 9
    return exit.type === 'io'
  }
  expect(g.run(asm`in al, 0x11; ${g.report()}; hlt`, { onExit: answer as never })).toHaltWith({
    rax: 9n,
  })
})

test('a guest that does not end is stopped', async () => {
  using g = await guest()
  const outcome = g.run(asm`spin: jmp spin`, { timeoutMs: 20 })
  expect(outcome.kind).toBe('timeout')
  expect(describeOutcome(outcome)).toContain('did not end in time')
  expect(g.run(asm`nop`)).toFinish()
})

test('a handler of the test takes an exception and goes on', async () => {
  using g = await guest()
  g.handle(6, asm`add qword [rsp], 2; mov ebx, 7; iretq`)
  expect(g.run(asm`ud2; mov eax, ebx; ${g.report()}`)).toMatchCpuState({ rbx: 7n })
  g.reset()
  expect(g.run(asm`ud2`)).toRaise('#UD')
})

test('a reset leaves nothing of what ran before', async () => {
  using g = await guest()
  const before = g.vcpu.saveState()
  const clocks = new Set([0x10, 0x4000_0010, 0x4000_0020])
  g.run(asm`mov rax, 0x55; mov [data], rax; mov dr0, rax; mov cr3, rax`)
  g.run(asm`mov ecx, 0x174; mov eax, 5; wrmsr; fninit; in al, 0x11`)
  g.reset()
  expect(g.memory.readU64(Number(g.data))).toBe(0n)
  const after = g.vcpu.saveState()
  const timeless = ({ msrs, ...rest }: typeof after) => ({
    ...rest,
    msrs: msrs.filter(({ index }) => !clocks.has(index)),
  })
  expect(timeless(after)).toEqual(timeless(before))
})

test('code runs step by step', async (t) => {
  requires(t, 'KVM_CAP_SET_GUEST_DEBUG')
  using g = await guest()
  const steps = []
  for await (const { rip, text, regs } of g.step(asm`mov eax, 1; add eax, 2; nop; ud2`)) {
    steps.push([Number(rip - g.code), text, Number(regs.rax)])
  }
  expect(steps).toEqual([
    [0, 'mov eax, 1', 1],
    [5, 'add eax, 2', 3],
    [8, 'nop', 3],
    [9, 'ud2', 3],
  ])
  expect(g.run(asm`mov eax, 4`)).toMatchCpuState({ rax: 4n })
})

test('RAM may be large, and is there to its end', async () => {
  using g = await guest({ memory: 2 ** 28, ring: 3 })
  expect(g.end).toBe(2n ** 28n)
  const last = g.end - 8n
  expect(g.run(asm`mov rbx, ${last}; mov rax, 7; mov [rbx], rax; mov [rbx + 8], rax`)).toRaise(
    '#PF',
    {
      cr2: g.end,
    },
  )
  expect(g.memory.readU64(Number(last))).toBe(7n)
  g.pages.protect(g.end - 4096n, 4096, { user: true, writable: false })
  expect(g.run(asm`mov rbx, ${last}; mov [rbx], rax`)).toRaise('#PF', { errorCode: 7 })
})

test('a number of vCPUs that is none is refused', async () => {
  for (const cpus of [0, 1.5, -1]) {
    await expect(guest({ cpus })).rejects.toMatchObject({ code: 'ERR_OUT_OF_RANGE' })
  }
})

test('code that is too long is refused', async () => {
  using g = await guest()
  expect(() => g.run(asm`space 20000`)).toThrow('there are 16384')
})

test('requirements are probed, with the reason', () => {
  expect(missing('KVM_CAP_USER_MEMORY')).toBeUndefined()
  expect(missing('cpu:lm')).toBeUndefined()
  expect(missing('mode:long')).toBeUndefined()
  expect(missing('KVM_CAP_S390_PSW' as never)).toMatch('lacks KVM_CAP_S390_PSW')
  expect(() => missing('KVM_CAP_NONE' as never)).toThrow('is not known')
  const engines = [missing('engine:hardware'), missing('engine:software')]
  expect(engines.filter((reason) => reason === undefined).length).toBeLessThanOrEqual(1)
  const vendors = [missing('vendor:GenuineIntel'), missing('vendor:AuthenticAMD')]
  expect(vendors.filter((reason) => reason === undefined).length).toBeLessThanOrEqual(1)
  for (const reason of vendors) expect(reason ?? 'is there').toMatch(/vendor is \w+|is there/)
  const skipped: (string | undefined)[] = []
  const context = { skip: (reason?: string) => void skipped.push(reason) }
  expect(requires(context, 'cpu:lm', 'KVM_CAP_S390_PSW' as never)).toBe(false)
  expect(skipped).toEqual([missing('KVM_CAP_S390_PSW' as never)])
})

/** Each matcher with an outcome and what holds of it, and what does not. */
const MATCHERS: readonly {
  name: keyof typeof matchers
  code: Source
  holds: readonly unknown[]
  fails: readonly (readonly unknown[])[]
}[] = [
  { name: 'toFinish', code: asm`mov eax, 3`, holds: [], fails: [] },
  {
    name: 'toRaise',
    code: asm`ud2`,
    holds: ['#UD', { rip: 0x8000n, errorCode: undefined }],
    fails: [['#GP'], [null], ['#UD', { rip: 0n }], ['#UD', { errorCode: 0 }]],
  },
  { name: 'toRaise', code: asm`nop`, holds: [null], fails: [['#UD'], ['#UD', { rip: 0x8000n }]] },
  {
    name: 'toExit',
    code: asm`mov al, 7; out 0x10, al`,
    holds: ['io', { port: 0x10, value: 7 }],
    fails: [['hlt'], ['io', { port: 0x11 }], ['io', { value: 8 }], ['io', { pizza: 1 }]],
  },
  {
    name: 'toExitInOrder',
    code: asm`out 0x10, al`,
    holds: [[{ type: 'io', port: 0x10 }]],
    fails: [[[]], [[{ type: 'hlt' }]], [[{ port: 0x11 }]], [[{ type: 'io' }, { type: 'io' }]]],
  },
  {
    name: 'toHaltWith',
    code: asm`mov eax, 1; hlt`,
    holds: [{ rax: 1n, ZF: false }],
    fails: [[{ rax: 2n }], [{ ZF: true }], [{ cr3: 1n }]],
  },
  { name: 'toHaltWith', code: asm`xor eax, eax; out 0x10, al; hlt`, holds: [], fails: [] },
  {
    name: 'toMatchCpuState',
    code: asm`mov eax, 1; stc`,
    holds: [{ rax: 1n, CF: true }],
    fails: [[{ rax: 2n }], [{ CF: false }], [{ rax: 1n, efer: 0n }]],
  },
]

describe('matchers', () => {
  test.for(MATCHERS)('$name fails when it should', async ({ name, code, holds, fails }) => {
    using g = await guest()
    const outcome = g.run(code, { onExit: (exit) => name === 'toHaltWith' && exit.type === 'io' })
    const other = g.run(asm`in al, 0x20`)
    const call = (of: object, args: readonly unknown[]) =>
      (of as Record<string, (...args: readonly unknown[]) => unknown>)[name]!(...args)
    expect(call(matchers, [outcome, ...holds])).toMatchObject({ pass: true })
    call(expect(outcome), holds)
    call(assertOutcome(outcome), holds)
    expect(() => call(expect(outcome).not, holds)).toThrow('expected not ')
    for (const [subject, args] of [
      [other, name === 'toMatchCpuState' ? [{ rax: 5n }] : holds] as const,
      ...fails.map((each) => [outcome, each] as const),
    ]) {
      expect(call(matchers, [subject, ...args])).toMatchObject({ pass: false })
      call(expect(subject).not, args)
      expect(() => call(expect(subject), args)).toThrow(/^expected .*, but the guest/)
      expect(() => call(assertOutcome(subject), args)).toThrow(AssertionError)
      expect(() => call(assertOutcome(subject), args)).toThrow(/^expected .*, but the guest/)
    }
  })

  test('are all there, for every runner', async () => {
    using g = await guest()
    const names = Object.keys(matchers)
    expect(new Set(MATCHERS.map(({ name }) => name))).toEqual(new Set(names))
    const outcome = g.run(asm`nop`)
    expect(Object.keys(assertOutcome(outcome))).toEqual(names)
  })

  test('show the guest', async () => {
    using g = await guest()
    const done = g.run(asm`mov eax, 3`)
    expect(matchers.toRaise(done, '#UD').message()).toMatch(
      /expected the guest to raise #UD, but the guest came to its end[\s\S]*mov eax, 3[\s\S]*rax +0+3/,
    )
    expect(matchers.toMatchCpuState(done, { rax: 4n }).message()).toContain('rax 0x4 (it is 0x3)')
    expect(matchers.toRaise(g.run(asm`ud2`), '#UD').message()).toContain('not the guest to raise')
    expect(() => matchers.toFinish(5)).toThrow('an outcome of a test guest is expected')
  })
})
