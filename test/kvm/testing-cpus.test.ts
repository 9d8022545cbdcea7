// Several vCPUs in one test guest: barriers, atomics, changed code, interprocessor interrupts.
import { describe, expect, test } from 'vitest'
import '../../src/testing/vitest.js'
import { asm, guest, matrix, requires } from '../../src/testing/index.js'

const places = matrix({ mode: ['real', 'protected', 'pae', 'compat', 'long'], ring: [0, 3] })

test.for(places)('barriers and LOCK between three vCPUs, $mode, ring $ring', async (place, t) => {
  requires(t, `mode:${place.mode}`)
  using g = await guest({ ...place, cpus: 3 })
  const source = asm`
    mov ecx, 200; again: lock inc dword [data]; dec ecx; jnz again
    ${g.barrier()}; mov eax, [data]; ${g.report()}; ${g.barrier()}; ${g.barrier()}`
  for (let round = 1; round <= 2; round++) {
    const outcomes = await g.runAll(source, { timeoutMs: 20_000 })
    for (const outcome of outcomes) expect(outcome).toFinish()
    expect(outcomes.map(({ cpu, values }) => [cpu, ...values])).toEqual(
      [0, 1, 2].map((cpu) => [cpu, 600 * round]),
    )
  }
})

test('each vCPU has its own code, its own stack and its own exceptions', async () => {
  using g = await guest({ cpus: 3, ring: 3 })
  const codes = [asm`push 1; pop rax`, asm`push 2; ud2`, asm`push 3; xor ecx, ecx; div ecx`]
  const [first, second, third] = await g.runAll((cpu) => codes[cpu]!)
  expect(first).toMatchCpuState({ rax: 1n })
  expect(second).toRaise('#UD', { rip: second!.program.origin + 2n })
  expect(third).toRaise('#DE')
  expect(new Set([first, second, third].map((outcome) => outcome!.program.origin)).size).toBe(3)
})

test('a vCPU that does not end is stopped, the others are not', async () => {
  using g = await guest({ cpus: 2 })
  const outcomes = await g.runAll((cpu) => (cpu === 0 ? asm`nop` : asm`jmp $`), { timeoutMs: 100 })
  expect(outcomes.map(({ kind }) => kind)).toEqual(['done', 'timeout'])
  expect(g.run(asm`nop`)).toFinish()
})

test('what a function of the test throws ends all of them', async () => {
  using g = await guest({ cpus: 2 })
  const fail = () => {
    throw new Error('of the test')
  }
  // Longer than the runner waits.
  const run = g.runAll((cpu) => (cpu === 0 ? asm`jmp $` : asm`${fail}`), { timeoutMs: 600_000 })
  await expect(run).rejects.toThrow('of the test')
})

test('CPUID tells each vCPU its own number', async () => {
  using g = await guest({ cpus: 4 })
  const outcomes = await g.runAll(asm`mov eax, 1; cpuid; shr ebx, 24; mov eax, ebx; ${g.report()}`)
  expect(outcomes.map(({ values }) => values)).toEqual([[0], [1], [2], [3]])
})

test.for(['none', 'kernel'] as const)('a reset is one of all, irqchip %s', async (irqchip) => {
  using g = await guest({ cpus: 2, irqchip })
  const source = asm`lock inc dword [data]; ${g.barrier()}; mov eax, [data]; ${g.report()}; mov dr0, rax`
  for (let round = 0; round < 3; round++) {
    const outcomes = await g.runAll(source, { timeoutMs: 20_000 })
    expect(outcomes.map(({ values }) => values)).toEqual([[2], [2]])
    g.reset()
    for (const vcpu of g.vcpus) {
      expect(vcpu.getRegs()).toMatchObject({ rip: 0xfff0n, rax: 0n })
      expect(vcpu.getDebugregs().db[0]).toBe(0n)
    }
  }
})

describe('between vCPUs', () => {
  test.for([0, 3] as const)('LOCK CMPXCHG loses nothing, ring %i', async (ring) => {
    using g = await guest({ cpus: 2, ring })
    const outcomes = await g.runAll(
      asm`
        ${g.barrier()}; mov ecx, 300
        again: mov eax, [data]
        retry: lea edx, [rax + 1]; lock cmpxchg [data], edx; jne retry
        dec ecx; jnz again; ${g.barrier()}; mov eax, [data]; ${g.report()}`,
      { timeoutMs: 20_000 },
    )
    expect(outcomes.map(({ values }) => values)).toEqual([[600], [600]])
  })

  // SDM vol. 3A §8.1.3: the other processor serializes before it runs what was changed.
  test('code changed by another runs changed', async () => {
    using g = await guest({ cpus: 2 })
    const writer = asm`${g.barrier()}; mov byte [data + 1], 7; ${g.barrier()}`
    const runner = asm`
      call data; ${g.report()}; ${g.barrier()}; ${g.barrier()}
      mov eax, 0; mov ecx, 0; cpuid; call data; ${g.report()}`
    g.memory.write(Number(g.data), Uint8Array.of(0xb8, 1, 0, 0, 0, 0xc3)) // mov eax, 1; ret
    const [, ran] = await g.runAll((cpu) => (cpu === 0 ? writer : runner), { timeoutMs: 20_000 })
    expect(ran!.values).toEqual([1, 7])
  })

  test('an interprocessor interrupt is taken by the one that was asked', async () => {
    using g = await guest({ cpus: 2, irqchip: 'kernel', cpuid: { x2apic: true } })
    const x2apic = asm`
      mov ecx, 0x1b; rdmsr; or eax, 0xc00; wrmsr
      mov ecx, 0x80f; mov eax, 0x1ff; xor edx, edx; wrmsr`
    const sender = asm`${x2apic}; ${g.barrier()}; mov ecx, 0x830; mov eax, 0x51; mov edx, 1; wrmsr`
    const taker = asm`${x2apic}; sti; ${g.barrier()}; wait: pause; jmp wait`
    const options = { timeoutMs: 20_000 }
    const outcomes = await g.runAll((cpu) => (cpu === 0 ? sender : taker), options)
    expect(outcomes[0]).toFinish()
    expect(outcomes[1]).toRaise('INT 0x51')
  })

  test('the order of writes holds: message passing', async () => {
    using g = await guest({ cpus: 2, ring: 3 })
    const rounds = 300
    // One writes the number twice, payload first; the other must never see the second without the first.
    const writer = asm`mov ecx, 1; next: mov [data], ecx; mov [data + 64], ecx; inc ecx; cmp ecx, ${rounds}; jbe next`
    const reader = asm`
      wait: mov eax, [data + 64]; mov ebx, [data]; cmp ebx, eax; ${g.assert('ae', 'order of writes')}
      cmp eax, ${rounds}; jb wait`
    const source = (cpu: number) => asm`${g.barrier()}; ${cpu === 0 ? writer : reader}`
    for (const outcome of await g.runAll(source, { timeoutMs: 20_000 })) expect(outcome).toFinish()
  })
})
