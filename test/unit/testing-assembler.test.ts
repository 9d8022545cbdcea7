// The assembler against iced-x86's decoder and formatter, and against encodings from the manuals.
import fc from 'fast-check'
import {
  Code,
  CodeExt,
  Decoder,
  DecoderOptions,
  Formatter,
  FormatterSyntax,
  MemorySizeOptions,
} from 'iced-x86'
import { describe, expect, test } from 'vitest'
import { asm } from '../../src/testing/assembler/asm.js'
import { assemble } from '../../src/testing/assembler/assemble.js'
import type { Bits } from '../../src/testing/assembler/opcodes.js'

const hex = (source: string, bits: Bits = 64, origin = 0n) =>
  Buffer.from(assemble(source, { bits, origin }).bytes).toString('hex')

describe('encodings of the manuals', () => {
  test.each<[string, string, Bits?]>([
    ['nop', '90'],
    ['mov rax, 5', '48c7c005000000'],
    ['mov eax, 5', 'b805000000'],
    ['mov rax, 0x123456789abcdef0', '48b8f0debc9a78563412'],
    ['mov rax, -1', '48c7c0ffffffff'],
    ['mov rax, 0xffffffffffffffff', '48c7c0ffffffff'],
    ['add rsp, 16', '4883c410'],
    ['and rax, 0xfffffffffffffff0', '4883e0f0'],
    ['add al, 200', '04c8'],
    ['sgdt [rsp]', '0f010424'],
    ['lidt [rip_relative]; rip_relative: dq 0', '0f011d000000000000000000000000'],
    ['mov rax, [rbx + rcx*8 - 8]', '488b44cbf8'],
    ['mov rax, [rcx*8 + rbx]', '488b04cb'],
    ['mov eax, fs:[0x10]', '648b042510000000'],
    ['mov eax, [fs:0x10]', '648b042510000000'],
    ['mov byte ptr [rax], 1', 'c60001'],
    ['mov dword [rax], -1', 'c700ffffffff'],
    ['lea rax, [rsp + rax]', '488d0404'],
    ['lea rax, [rax + rsp]', '488d0404'],
    ['push rax; pop r15', '50415f'],
    ['push [rax]', 'ff30'],
    ['jmp [rax]', 'ff20'],
    ['jmp far [rax]', 'ff28'],
    ['call rax', 'ffd0'],
    ['x: jmp x', 'ebfe'],
    ['jmp $', 'ebfe'],
    ['jz $; jnz $; jc $', '74fe75fe72fe'],
    ['out 0x10, al; in eax, dx', 'e610ed'],
    ['rep stosq; repne scasb', 'f348abf2ae'],
    ['lock cmpxchg [rdi], ecx', 'f00fb10f'],
    ['mov cr4, rax; mov dr7, rax', '0f22e00f23f8'],
    ['mov ds, ax', '668ed8'],
    ['shl eax, 1; shl eax, 2; shl eax, cl', 'd1e0c1e002d3e0'],
    ['int 0x80; int3; int1', 'cd80ccf1'],
    ['iretq; iret; retfq; retf', '48cfcf48cbcb'],
    ['iretd', 'cf'],
    ['iret', 'cf', 16],
    ['pushf; popf', '9c9d'],
    ['enter 16, 0', 'c8100000'],
    ['fld st(1); fld dword [rax]; fwait', 'd9c1d9009b'],
    ['movsd; movsd xmm0, xmm1', 'a5f20f10c1'],
    ['vaddps ymm1, ymm2, ymm3', 'c5ec58cb'],
    ['vaddps zmm1{k2}{z}, zmm2, zmm3', '62f16cca58cb'],
    ['movzx eax, byte [rsi]', '0fb606'],
    ['movabs rax, [0x1122334455667788]', '48a18877665544332211'],
    ['xlatb', 'd7'],
    ['mov ax, 5', 'b80500', 16],
    ['mov eax, 5', '66b805000000', 16],
    ['mov [bx+si+2], al', '884002', 16],
    ['mov al, [0x500]', 'a00005', 16],
    ['jmp 8:0x1000', 'ea00100800', 16],
    ['lgdt [0x600]', '0f01160006', 16],
    ['jmp 8:0x1000', 'ea001000000800', 32],
    ['mov eax, [label]; label: db 1', 'a10500000001', 32],
    ['pushad', '60', 32],
    ['cmpxchg ebx, ecx', '0fb1cb', 32],
    ['sysretq; sysret; wrmsr; vmcall; vmmcall', '480f070f070f300f01c10f01d9'],
    ['db 1, "ab", 2; dw -1; dd 5; dq 0x1122334455667788', '01616202ffff050000008877665544332211'],
    ['nop; align 4; db 7', '9090909007'],
    ['size = end - start; start: dq size; end:', '0800000000000000'],
    ['mov eax, (1 << 4 | 3) & ~1', 'b812000000'],
    ["mov al, 'A'", 'b041'],
    ['bits 16; mov ax, 1; bits 32; mov ax, 1', 'b8010066b80100'],
  ])('%s', (source, bytes, bits) => {
    expect(hex(source, bits)).toBe(bytes)
  })
})

test('branches are as short as they can be, and reach as far as they must', () => {
  const near = (count: number) => assemble(`jmp end; space ${count}; end: nop`).bytes.length - count
  expect(near(127)).toBe(3)
  expect(near(128)).toBe(6)
  const chain = 'a: jmp c; space 120; b: jmp a; c: jmp b; space 3; jmp a'
  const { symbols } = assemble(chain, { origin: 0x8000n })
  expect(symbols.get('b')! - symbols.get('a')!).toBe(122n)
})

test('labels have the address at which the code is to lie', () => {
  const program = assemble('mov rbx, data; lea rcx, [data]; data: dq data', { origin: 0x10_0000n })
  expect(program.symbols.get('data')).toBe(0x10_000en)
  expect(new DataView(program.bytes.buffer).getBigUint64(14, true)).toBe(0x10_000en)
  expect(program.sourceAt(0x10_0007n)).toBe('lea rcx, [data]')
  expect(program.listing(0x10_0007n)).toMatch(/^> 00100007 {2}488d0d00000000 +lea rcx, \[data\]$/m)
})

test('values are put into the source', () => {
  const tail = asm`ud2`
  const { source } = asm`mov ${'eax'}, ${7}; mov rbx, ${-1n}; ${tail}; ${Uint8Array.of(1, 2)} hlt`
  expect(hex(source)).toBe('b80700000048c7c3ffffffff0f0b0102f4')
  expect(() => asm`mov eax, ${1.5}`).toThrow(RangeError)
})

test.each([
  ['mvo eax, 1', '"mvo" is no instruction'],
  ['mov eax', 'takes these operands'],
  ['mov eax, rbx', 'takes these operands'],
  ['mov [rax], 1', 'size of the memory operand is open: 1, 2, 4, 8'],
  ['movzx eax, [rax]', 'open: 1, 2'],
  ['mov al, 256', 'does not fit'],
  ['mov eax, 0x1_0000_0000', 'does not fit'],
  ['jmp nowhere', '"nowhere" is not defined'],
  ['x: nop; x: nop', '"x" is defined twice'],
  ['mov eax, [rax + rbx + rcx]', 'one base and one index'],
  ['mov eax, [rax*3]', 'a scale is'],
  ['mov eax, 1 2', 'nothing more is expected before "2"'],
  ['mov eax, (1', '")" is expected before the end'],
  ['mov eax, 1/0', 'division by zero'],
  ['mov eax, !', 'cannot read "!"'],
  ['db 256', 'does not fit'],
  ['mov ah, r8b', 'does not fit'],
  ['push eax', 'no push of 64-bit code'],
])('%s is refused', (source, problem) => {
  const refusal = { name: 'AssemblyError', code: 'ERR_KVM_ASSEMBLY' }
  expect(() => assemble(`nop\n${source}\nnop`)).toThrow(expect.objectContaining(refusal))
  expect(() => assemble(source)).toThrow(problem)
})

/** What the decoder takes for an instruction is assembled to bytes that decode to the same text. */
describe.each([16, 32, 64] as const)('%i-bit code', (bits) => {
  const formatter = new Formatter(FormatterSyntax.Nasm)
  formatter.hexPrefix = '0x'
  formatter.hexSuffix = ''
  formatter.memorySizeOptions = MemorySizeOptions.Always
  formatter.showBranchSize = false

  function disassemble(bytes: Uint8Array): { text: string; length: number; code: Code } {
    const decoder = new Decoder(bits, bytes, DecoderOptions.None)
    decoder.ip = 0x1000n
    const instruction = decoder.decode()
    const text = formatter.format(instruction)
    const { length, code } = instruction
    instruction.free()
    decoder.free()
    return { text, length, code }
  }

  test('is assembled from what the disassembler prints', () => {
    const bytes = fc.uint8Array({ minLength: 15, maxLength: 15 })
    let tried = 0
    const check = (random: Uint8Array) => {
      const { text, length, code } = disassemble(random)
      const info = CodeExt.opCode(code)
      const plain = info.isInstruction && !info.isReservedNop && length > 0
      const knownToBeOdd =
        /^(bnd|notrack|xacquire|xrelease|o16 |o32 |o64 |a16 |a32 |a64 |cs |ds |es |ss |fs |gs |xchg |.*(to st| far )|.*\{(rn|rd|ru|rz|sae|1to))/.test(
          text,
        )
      info.free()
      if (!plain || code === Code.INVALID || knownToBeOdd) return
      tried++
      let again: string
      try {
        again = disassemble(assemble(text, { bits, origin: 0x1000n }).bytes).text
      } catch (error) {
        again = String(error)
      }
      if (again !== text)
        failures.push(
          `${Buffer.from(random.subarray(0, length)).toString('hex')}: ${text} -> ${again}`,
        )
    }
    const failures: string[] = []
    fc.assert(fc.property(bytes, check), { seed: 3, numRuns: 2000 })
    expect(failures.slice(0, 60)).toEqual([])
    expect(tried).toBeGreaterThan(500)
  })
})
