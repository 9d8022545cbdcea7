// What a test learns of a guest that did otherwise: the trace of its instructions, its limits, code
// outside of the test's source, files; and where nothing may be skipped.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test, vi } from 'vitest'
import '../../src/testing/vitest.js'
import { asm, assemble, describeOutcome, guest, requires } from '../../src/testing/index.js'
import { makeElf } from '../helpers/boot-images.js'

afterEach(() => vi.unstubAllEnvs())

describe('the trace of a run', () => {
  test('has its latest instructions, and a failure shows them', async () => {
    using g = await guest()
    const source = asm`mov ecx, 2; again: dec ecx; jnz again; ud2`
    const outcome = g.run(source, { trace: 3 })
    expect(outcome).toRaise('#UD')
    expect(outcome.trace).toEqual(['00008005  dec ecx', '00008007  jnz again', '00008009  ud2'])
    expect(describeOutcome(outcome)).toMatch(/instructions:\n {2}00008005 {2}dec ecx/)
    expect(g.run(source).trace).toBeUndefined()
  })

  test('is taken of all runs where the environment says so', async () => {
    vi.stubEnv('NODE_KVM_TRACE', '2')
    using g = await guest()
    expect(g.run(asm`nop; nop; nop`).trace).toHaveLength(2)
  })

  test('does not change what a run does, even where KVM cannot step', async () => {
    using g = await guest({ ring: 3 })
    const source = asm`mov eax, 3; ${g.report()}; mov ebx, 4; ud2`
    const outcome = g.run(source, { trace: 5 })
    expect(outcome).toRaise('#UD', { rip: g.run(source).raised!.rip })
    expect(outcome).toMatchCpuState({ rax: 3n, rbx: 4n })
    expect(outcome.values).toEqual([3])
    expect(outcome.trace!.length).toBeGreaterThan(0)
  })
})

test('a guest that hangs is stopped, and what is known of it shown', async () => {
  using g = await guest()
  const outcome = g.run(asm`mov eax, 5; in al, 0x10; hang: jmp hang`, {
    timeoutMs: 30,
    onExit: (exit) => exit.type === 'io',
  })
  expect(outcome.kind).toBe('timeout')
  expect(describeOutcome(outcome)).toMatch(
    /did not end.*\n\n[\s\S]*> 00008007 .*jmp hang[\s\S]*exits:\n {2}io[\s\S]*rax /,
  )
})

test('a guest that exits too often is stopped', async () => {
  using g = await guest()
  const source = asm`mov ecx, 5; again: in al, 0x10; dec ecx; jnz again`
  const onExit = () => true
  expect(g.run(source, { onExit, maxExits: 3 })).toMatchObject({ kind: 'timeout' })
  // Its end is an exit, too.
  expect(g.run(source, { onExit, maxExits: 6 })).toFinish()
})

test('code outside of the source is disassembled', async () => {
  using g = await guest()
  g.memory.write(Number(g.data), Uint8Array.of(0x90, 0x0f, 0x0b)) // nop; ud2
  const outcome = g.run(asm`jmp data`)
  expect(outcome).toRaise('#UD', { rip: g.data + 1n })
  expect(describeOutcome(outcome)).toMatch(/^> 0000f001 {2}0f0b +ud2$/m)
})

test('of long code only what is around the place is shown', async () => {
  using g = await guest()
  const nops = 'nop\n'.repeat(300)
  const text = describeOutcome(g.run(asm`${nops}; ud2; ${nops}`))
  expect(text).toMatch(/^> 0000812c .*ud2$/m)
  expect(text.split('\n').length).toBeLessThan(60)
})

describe('guest code from a file', () => {
  test('flat', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'node-kvm-'))
    try {
      const file = join(folder, 'code.bin')
      writeFileSync(file, assemble('mov eax, 41; inc eax; out 0xe2, eax').bytes)
      using g = await guest({ ring: 3 })
      expect(g.runFile(file).values).toEqual([42])
      expect(g.runFile(Uint8Array.of(0x90, 0x0f, 0x0b))).toRaise('#UD', { rip: g.code + 1n })
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  const elf = (paddr: number, source = 'mov eax, [data]; out 0xe2, eax; ud2; data: dd 77') => {
    const data = Buffer.from(assemble(source, { origin: BigInt(paddr) }).bytes)
    const segment = { type: 1, flags: 5, vaddr: BigInt(paddr), paddr: BigInt(paddr), data }
    return makeElf({ entry: BigInt(paddr), segments: [segment] })
  }

  test('ELF', async () => {
    using g = await guest()
    const outcome = g.runFile(elf(0x2_0000))
    expect(outcome.values).toEqual([77])
    expect(outcome).toRaise('#UD')
    expect(describeOutcome(outcome)).toMatch(/^> 0002000\w .*ud2/m)
  })

  test('is refused where it does not fit', async () => {
    using g = await guest()
    expect(() => g.runFile(elf(0x1_0000))).toThrow('code may lie from 0x8000')
    expect(() => g.runFile(elf(0x4_0000))).toThrow('code may lie from 0x8000')
    using other = await guest({ mode: 'protected' })
    expect(() => other.runFile(elf(0x2_0000))).toThrow('an ELF64 file does not hold 32-bit code')
  })
})

test('where everything must be there, a requirement fails instead of skipping', () => {
  const skip = vi.fn()
  vi.stubEnv('NODE_KVM_REQUIRE_ALL', '1')
  const missing = 'KVM_CAP_S390_PSW' as never
  expect(() => requires({ skip }, 'cpu:lm', missing)).toThrow('lacks KVM_CAP_S390_PSW')
  expect(requires({ skip }, 'cpu:lm')).toBe(true)
  expect(skip).not.toHaveBeenCalled()
})
describe('stops', () => {
  test('come before the instructions at labels, each time', async (t) => {
    requires(t, 'KVM_CAP_SET_GUEST_DEBUG')
    using g = await guest()
    const source = asm`mov ecx, 2; again: inc eax; dec ecx; jnz again; end: nop`
    const stops = g.stopAt(['again', 'end'], source)
    const seen = Array.from(stops, ({ text, regs }) => [text, regs.rcx])
    if (process.env.LAB === 'svm' && seen.length === 0) t.skip('the lab’s processor ran past them')
    expect(seen).toEqual([
      ['inc eax', 2n],
      ['inc eax', 1n],
      ['nop', 0n],
    ])
    expect(g.run(source)).toFinish()
  })

  test('are refused at what is no label', async () => {
    using g = await guest()
    expect(() => g.stopAt(['nowhere'], asm`nop`)).toThrow('there is no label "nowhere"')
  })
})

describe('the state of a guest', () => {
  test('has flags by their names', async () => {
    using g = await guest()
    const outcome = g.run(asm`xor eax, eax; stc`)
    expect(outcome).toMatchCpuState({ rax: 0n, ZF: true, CF: true, OF: false })
    expect(() => expect(outcome).toMatchCpuState({ CF: false })).toThrow('CF false (it is true)')
  })

  test('has MSRs and the CPUID that its code sees', async () => {
    using g = await guest({ msrs: { IA32_SYSENTER_CS: 0x77n }, mode: 'protected' })
    expect(g.msr('IA32_SYSENTER_CS')).toBe(0x77n)
    const leaf = g.vcpu.getCpuid2().find((entry) => entry.function === 0)!
    expect(g.cpuid(0)).toEqual({ eax: leaf.eax, ebx: leaf.ebx, ecx: leaf.ecx, edx: leaf.edx })
  })
})

test('a split irqchip and capabilities are there before the vCPUs', async (t) => {
  requires(t, 'KVM_CAP_SPLIT_IRQCHIP', 'KVM_CAP_X86_USER_SPACE_MSR')
  using g = await guest({
    irqchip: 'split',
    capabilities: { KVM_CAP_X86_USER_SPACE_MSR: { reasons: 2 } },
  })
  expect(g.run(asm`mov ecx, 0x12345; rdmsr`)).toExit('rdmsr', { index: 0x12345 })
  g.reset()
  expect(g.run(asm`nop`)).toFinish()
})
