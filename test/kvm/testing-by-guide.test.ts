// What somebody writes who has read docs/testing.md and nothing else.
import fc from 'fast-check'
import { asm, assemble, guest, matrix, requires } from 'node-kvm/testing'
import { expect, test } from 'vitest'
import 'node-kvm/testing/vitest'

test('a hidden MSR raises #GP, a known one does not', async () => {
  using g = await guest()
  const results: string[] = []
  g.run(asm`
    mov ecx, 0xdeadbeef
    ${g.safe(asm`rdmsr`, (raised) => results.push(raised?.name ?? 'fine'))}
    mov ecx, 0x1b
    ${g.safe(asm`rdmsr`, (raised) => results.push(raised?.name ?? 'fine'))}`)
  expect(results).toEqual(['#GP', 'fine'])
})

test('real mode: INT 0x21 goes through the vector table and comes back', async (t) => {
  requires(t, 'mode:real')
  using g = await guest({ mode: 'real' })
  g.handle(0x21, asm`add ax, 1; iret`)
  const outcome = g.run(asm`mov ax, 41; int 0x21; movzx eax, ax; ${g.report()}`)
  expect(outcome.values).toEqual([42])
})

test('a page fault handler maps the page and the code goes on', async () => {
  using g = await guest()
  const missing = 0x3_0000n
  const { gpa, entry } = g.pages.entry(missing)!
  g.pages.unmap(missing, 4096)
  g.handle(
    14,
    asm`push rax; push rbx; mov rbx, ${gpa}; mov rax, ${entry}; mov [rbx], rax; pop rbx; pop rax; add rsp, 8; iretq`,
  )
  const outcome = g.run(asm`mov rbx, ${missing}; mov dword [rbx], 7; mov eax, [rbx]; ${g.report()}`)
  expect(outcome.values).toEqual([7])
  expect(g.pages.usage(missing).dirty).toBe(true)
})

test('a page without execute rights cannot be run', async () => {
  using g = await guest({ efer: { nxe: true }, ring: 3 })
  g.memory.write(0x2_0000, Uint8Array.of(0xc3))
  g.pages.protect(0x2_0000n, 4096, { user: true, nx: true })
  const outcome = g.run(asm`mov rax, 0x20000; call rax`)
  expect(outcome).toRaise('#PF', { cr2: 0x2_0000n, errorCode: 0x15 })
})

test('SYSCALL goes to LSTAR with the return address in RCX', async () => {
  using g = await guest({
    ring: 3,
    efer: { sce: true },
    msrs: { IA32_LSTAR: 0x2_0000n, IA32_STAR: 0x18_0008n << 32n },
  })
  g.memory.write(0x2_0000, assemble('mov rax, rcx; ud2', { origin: 0x2_0000n }).bytes)
  const outcome = g.run(asm`syscall; behind: nop`)
  expect(outcome).toRaise('#UD', { rip: 0x2_0003n })
  expect(outcome).toMatchCpuState({ rax: outcome.program.symbols.get('behind')! })
})

test('a device at a hole in memory is read and written', async () => {
  using g = await guest()
  const device = g.end
  g.pages.map(device, g.memory.size, 4096)
  const registers = new Map([[0, 0x1234]])
  const outcome = g.run(
    asm`mov rbx, ${device}; mov eax, [rbx]; ${g.report()}; mov dword [rbx + 4], 9; mov eax, [rbx + 4]; ${g.report()}`,
    {
      onExit(exit) {
        if (exit.type !== 'mmio') return false
        const register = exit.gpa - g.memory.size
        if (exit.isWrite) registers.set(register, exit.value)
        else exit.value = registers.get(register) ?? 0
        return true
      },
    },
  )
  expect(outcome).toFinish()
  expect(outcome.values).toEqual([0x1234, 9])
  expect(outcome).toExitInOrder([
    { type: 'mmio', isWrite: false },
    { type: 'mmio', isWrite: true },
    { type: 'mmio' },
  ])
})

test('the timer of the APIC ticks', async () => {
  using g = await guest({ irqchip: 'kernel', cpuid: { x2apic: true } })
  g.handle(
    0x40,
    asm`inc rbx; push rax; push rcx; push rdx; mov ecx, 0x80b; xor eax, eax; xor edx, edx; wrmsr; pop rdx; pop rcx; pop rax; iretq`,
  )
  const set = (msr: number, value: number) =>
    asm`mov ecx, ${msr}; mov eax, ${value}; xor edx, edx; wrmsr`
  const outcome = g.run(asm`
    mov ecx, 0x1b; rdmsr; or eax, 0x400; wrmsr
    ${set(0x80f, 0x1ff)}; ${set(0x83e, 0xb)}; ${set(0x832, 0x2_0040)}; ${set(0x838, 200_000)}
    sti
    wait: hlt; cmp rbx, 3; jb wait`)
  expect(outcome).toFinish()
})

const operations = matrix({ ring: [0, 3], name: ['add', 'sub', 'xor', 'imul'] })

test.for(operations)('$name agrees with arithmetic, ring $ring', async ({ ring, name }) => {
  using g = await guest({ ring })
  const source = asm`${name} rax, rbx`
  const results = {
    add: (a: bigint, b: bigint) => a + b,
    sub: (a: bigint, b: bigint) => a - b,
    xor: (a: bigint, b: bigint) => a ^ b,
    imul: (a: bigint, b: bigint) => a * b,
  }
  const word = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
  fc.assert(
    fc.property(word, word, (rax, rbx) => {
      const { regs } = g.run(source, { regs: { rax, rbx } })
      expect(regs.rax).toBe(BigInt.asUintN(64, results[name](rax, rbx)))
      g.reset()
    }),
    { numRuns: 50 },
  )
})

test('a spinlock between three vCPUs', async () => {
  using g = await guest({ cpus: 3 })
  const outcomes = await g.runAll(
    asm`
      ${g.barrier()}
      mov ecx, 100
      next:
      take: mov eax, 1; xchg [data], eax; test eax, eax; jz taken; pause; jmp take
      taken: inc dword [data + 64]; mov dword [data], 0
      dec ecx; jnz next
      ${g.barrier()}
      mov eax, [data + 64]; ${g.report()}`,
    { timeoutMs: 20_000 },
  )
  for (const outcome of outcomes) expect(outcome.values).toEqual([300])
})

test('pages that come from the test', async () => {
  using g = await guest()
  g.withhold(0x2_0000, 4096, (gpa) => new Uint8Array(4096).fill(gpa === 0x2_0000 ? 5 : 0))
  const [outcome] = await g.runAll(asm`mov rbx, 0x20000; movzx eax, byte [rbx + 9]; ${g.report()}`)
  expect(outcome!.values).toEqual([5])
})

test('AVX-512 is hidden', async (t) => {
  requires(t, 'processor:avx512f', 'engine:native')
  using g = await guest({ ring: 3, cpuid: { avx512f: false } })
  const { raised } = g.run(asm`vaddps zmm0, zmm1, zmm2`)
  expect([undefined, '#UD']).toContain(raised?.name)
})

test('single steps', async () => {
  using g = await guest()
  const texts: (string | undefined)[] = []
  for (const { text } of g.step(asm`mov eax, 1; inc eax; nop`)) texts.push(text)
  expect(texts).toEqual(['mov eax, 1', 'inc eax', 'nop'])
})

test('unknown MSRs come to user space and are answered there', async (t) => {
  requires(t, 'KVM_CAP_X86_USER_SPACE_MSR')
  using g = await guest({ capabilities: { KVM_CAP_X86_USER_SPACE_MSR: { reasons: 2 } } })
  const written: bigint[] = []
  const outcome = g.run(
    asm`mov ecx, 0x12345; rdmsr; ${g.report()}; mov eax, edx; ${g.report()}; mov eax, 7; mov edx, 8; wrmsr`,
    {
      onExit(exit) {
        if (exit.type === 'rdmsr') exit.data = 0x1122_3344_5566_7788n
        else if (exit.type === 'wrmsr') written.push(exit.data)
        else return false
        return true
      },
    },
  )
  expect(outcome).toFinish()
  expect(outcome.values).toEqual([0x5566_7788, 0x1122_3344])
  expect(written).toEqual([0x8_0000_0007n])
  expect(outcome).toExitInOrder([{ type: 'rdmsr', index: 0x12345 }, { type: 'wrmsr' }])
})

const paged = matrix({ mode: ['paging32', 'pae', 'long', 'long5'] })

test.for(paged)('an alias shows the same bytes, $mode', async ({ mode }, t) => {
  requires(t, `mode:${mode}`)
  using g = await guest({ mode })
  const page = 0x2_0000n
  const alias = g.end + 0x10_0000n
  g.pages.map(alias, Number(page), 4096)
  const { values } = g.run(
    asm`mov ebx, ${alias}; mov dword [ebx + 12], 77; mov ebx, ${page}; mov eax, [ebx + 12]; ${g.report()}`,
  )
  expect(values).toEqual([77])
  expect(g.pages.translate(alias + 12n)).toBe(Number(page) + 12)
  expect(g.pages.usage(alias)).toEqual({ accessed: true, dirty: true })
  g.pages.unmap(alias, 4096)
  expect(g.run(asm`mov ebx, ${alias}; mov eax, [ebx]`)).toRaise('#PF', { cr2: alias })
})

test('a ticket lock between three vCPUs', async () => {
  using g = await guest({ cpus: 3 })
  const outcomes = await g.runAll(
    asm`
      mov rbx, data; ${g.barrier()}; mov ecx, 20
      next: mov eax, 1; lock xadd [rbx], eax
      turn: cmp eax, [rbx + 64]; je mine; pause; jmp turn
      mine: inc dword [rbx + 128]; inc dword [rbx + 64]; dec ecx; jnz next
      ${g.barrier()}; mov eax, [rbx + 128]; ${g.report()}`,
    { timeoutMs: 20_000 },
  )
  for (const outcome of outcomes) expect(outcome.values).toEqual([60])
})

test('a guest that hangs is stopped, told, and runs again', async () => {
  using g = await guest()
  const outcome = g.run(asm`mov eax, 0x1234; here: jmp here`, { timeoutMs: 50 })
  expect(() => expect(outcome).toFinish()).toThrow(/jmp here/)
  expect(g.run(asm`nop`)).toFinish()
})
