// What code says to its test on the way: calls, values, assertions, single instructions that may
// fault, cycles; in every mode, without hypercalls.
import { describe, expect, test } from 'vitest'
import '../../src/testing/vitest.js'
import {
  asm,
  describeOutcome,
  guest,
  MODES,
  type ModeName,
  type Raised,
  requires,
} from '../../src/testing/index.js'

describe.each(Object.keys(MODES) as ModeName[])('mode %s', (mode) => {
  test('a function in the code is called with the registers, which it may change', async (t) => {
    requires(t, `mode:${mode}`)
    using g = await guest({ mode })
    const seen: bigint[] = []
    const outcome = g.run(asm`
      mov eax, 0x11; ${({ regs }) => seen.push(regs.rax)}${({ regs }) => seen.push(regs.rax + 1n)}
      mov ecx, 3; again: ${(cpu) => cpu.log(`ecx is ${cpu.regs.rcx}`)}; dec ecx; jnz again
      ${({ regs }) => (regs.rbx = 0x1234n)}; mov eax, ebx; ${g.report()}`)
    expect(outcome).toFinish()
    expect(seen).toEqual([0x11n, 0x12n])
    expect(outcome.log).toEqual(['ecx is 3', 'ecx is 2', 'ecx is 1'])
    expect(outcome.values).toEqual([0x1234])
    expect(describeOutcome(outcome)).toContain('log:\n  ecx is 3')
  })

  test('one instruction may raise what it likes', async (t) => {
    requires(t, `mode:${mode}`)
    using g = await guest({ mode })
    const told: (string | undefined)[] = []
    const tell = (raised: Raised | undefined) => told.push(raised?.name)
    const outcome = g.run(asm`
      mov ebx, 5; ${g.safe(asm`ud2`, tell)}; ${g.safe(asm`nop`, tell)}; xor ecx, ecx
      ${g.safe(asm`div ecx`, tell)}; mov eax, ebx; ${g.report()}`)
    expect(outcome).toFinish()
    expect(told).toEqual(['#UD', undefined, '#DE'])
    expect(outcome.values).toEqual([5])
    expect(outcome.regs.rsp).toBe(g.stack)
  })

  test('cycles are counted and nothing is lost', async (t) => {
    requires(t, `mode:${mode}`)
    using g = await guest({ mode })
    const tsc: bigint[] = []
    const note = asm`rdtsc; ${({ regs }) => tsc.push((regs.rdx << 32n) | regs.rax)}`
    let cycles = 0
    const keeping = asm`mov edi, eax; mov ebp, edx; ${note}; ${note}; mov eax, edi; mov edx, ebp`
    const source = asm`
      ${note}; mov eax, 1; mov edx, 2; mov esi, 3
      ${g.timed(keeping, (count) => (cycles = count))}
      mov edi, eax; mov ebp, edx; ${note}`
    // What is counted has 32 bits: it is only told where the machine has not stood still meanwhile.
    do {
      tsc.length = 0
      expect(g.run(source)).toMatchCpuState({ rdi: 1n, rbp: 2n, rsi: 3n, rsp: g.stack })
    } while (tsc[3]! - tsc[0]! >= 2n ** 32n)
    expect(BigInt(cycles)).toBeGreaterThanOrEqual(tsc[2]! - tsc[1]!)
    expect(BigInt(cycles)).toBeLessThanOrEqual(tsc[3]! - tsc[0]!)
  })
})

test('values of 64 bits come through', async () => {
  using g = await guest({ ring: 3 })
  let value = 0n
  g.run(asm`mov rax, 0xfedcba9876543210; ${({ regs }) => (value = regs.rax)}`)
  expect(value).toBe(0xfedc_ba98_7654_3210n)
})

test('in ring 3 a faulting instruction is passed over, in ring 3', async () => {
  using g = await guest({ ring: 3 })
  let raised: Raised | undefined
  const outcome = g.run(asm`${g.safe(asm`hlt`, (it) => (raised = it))}; mov eax, 1; cli`)
  expect(raised).toMatchObject({ name: '#GP', errorCode: 0, rip: g.code })
  expect(outcome).toRaise('#GP')
  expect(outcome.raised!.cs & 3).toBe(3)
})

describe('an assertion in the code', () => {
  test('lets it pass while it holds, without an exit', async () => {
    using g = await guest()
    const outcome = g.run(
      asm`mov ecx, 1000; again: cmp ecx, 0; ${g.assert('a')}; dec ecx; jnz again`,
    )
    expect(outcome).toFinish()
    expect(outcome.exits).toEqual([])
  })

  test('names its line, its message and the place in the guest', async () => {
    using g = await guest()
    const source = asm`mov eax, 5; cmp eax, 4; ${g.assert('e', 'five is four')}`
    const line = lineOf(new Error(), -1)
    const error = thrownBy(() => g.run(source))
    expect(error.name).toBe('AssertionError')
    expect(error.message).toMatch(/^five is four\n[\s\S]*cmp eax, 4[\s\S]*rax +0+5/)
    expect(lineOf(error)).toBe(line)
    expect(g.run(asm`nop`)).toFinish()
  })

  test('may be any function that throws', async () => {
    using g = await guest()
    const source = asm`mov eax, 5; ${({ regs }) => expect(regs.rax).toBe(6n)}`
    expect(thrownBy(() => g.run(source)).message).toMatch(/expected 5n to be 6n[\s\S]*mov eax, 5/)
  })
})

test('labels of a piece that begin with @ are its own', async () => {
  using g = await guest()
  const count = (times: number) => asm`mov ecx, ${times}; @loop: inc eax; dec ecx; jnz @loop`
  const twice = asm`${count(2)}; ${count(3)}; @loop: nop`
  expect(g.run(asm`${twice}; ${twice}; db "@loop"; ud2`, { regs: { rax: 0n } }).regs.rax).toBe(10n)
})

test('code that begins with a call calls in every run', async () => {
  using g = await guest()
  let calls = 0
  const source = asm`${() => {
    calls++
    throw new Error('of the test')
  }}`
  for (let run = 1; run <= 3; run++) {
    expect(() => g.run(source)).toThrow('of the test')
    expect(calls).toBe(run)
  }
  expect(g.run(asm``)).toFinish()
  expect(g.run(asm`mov eax, 0x12345678`)).toMatchCpuState({ rax: 0x1234_5678n })
})

test('a piece that calls the test may stand at several places', async () => {
  using g = await guest()
  const seen: (bigint | string | undefined)[] = []
  const note = asm`${({ regs }) => seen.push(regs.rax)}`
  const fault = asm`${g.safe(asm`ud2`, (raised) => seen.push(raised?.name))}`
  const outcome = g.run(asm`mov eax, 1; ${note}; ${fault}; inc eax; ${note}; ${fault}`)
  expect(outcome).toFinish()
  expect(seen).toEqual([1n, '#UD', 2n, '#UD'])
})

test('exits are kept in order', async () => {
  using g = await guest()
  const outcome = g.run(asm`out 0x10, al; in al, 0x11; mov [${0x4_0000_0000n}], al; hlt`, {
    onExit: (exit) => exit.type === 'io',
  })
  expect(outcome).toRaise('#PF')
  const exits = [
    { type: 'io', port: 0x10, direction: 'out' },
    { type: 'io', port: 0x11, direction: 'in' },
  ] as const
  expect(outcome).toExitInOrder(exits)
  expect(() => expect(outcome).toExitInOrder([exits[1], exits[0]])).toThrow('exit 1 to be other')
  expect(() => expect(outcome).toExitInOrder([exits[0]])).toThrow('1 exits (there were 2)')
  expect(describeOutcome(outcome)).toMatch(/exits:\n {2}io \(.*port 16/)
})

function thrownBy(action: () => unknown): Error {
  try {
    action()
  } catch (error) {
    return error as Error
  }
  throw new Error('nothing was thrown')
}

/** The line of this file where the error was made. */
function lineOf(error: Error, distance = 0): number {
  const [, line] = /testing-channel\.test\.ts:(\d+)/.exec(error.stack!)!
  return Number(line) + distance
}
