// x87, SSE, AVX: results, control registers, and when they are refused.

import { asm } from '../assembler/asm.js'
import { type CheckArea, checksAt, LONG, RING0, report } from './check.js'

const long = checksAt(LONG)
const ring0 = checksAt(RING0)

export const vector: CheckArea = {
  area: 'x87, SSE and AVX',
  checks: [
    long(
      'FNINIT sets the control word to 0x37f',
      'SDM vol. 1 §8.1.5; vol. 2A, FINIT/FNINIT',
      asm`fninit; mov rbx, data; fnstcw [rbx]; movzx eax, word [rbx]; ${report}`,
      {
        values: [0x37f],
      },
    ),
    long(
      'x87 adds',
      'SDM vol. 2A, FADD',
      asm`fninit; fld1; fld1; faddp st(1), st(0); mov rbx, data; fistp dword [rbx]; mov eax, [rbx]; ${report}`,
      {
        values: [2],
      },
    ),
    long(
      'an unmasked x87 error raises #MF at the next x87 instruction',
      'SDM vol. 1 §8.7',
      asm`fninit; mov rbx, data; mov word [rbx], 0x37b; fldcw [rbx]; fld1; fldz; fdivp st(1), st(0); fwait`,
      {
        raises: '#MF',
      },
    ),
    ring0(
      'an x87 instruction with CR0.TS raises #NM',
      'SDM vol. 3A §2.5',
      asm`fninit`,
      { raises: '#NM' },
      {
        guest: { cr0: { ts: true } },
      },
    ),
    ring0(
      'an x87 instruction with CR0.EM raises #NM',
      'SDM vol. 3A §2.5',
      asm`fninit`,
      { raises: '#NM' },
      {
        guest: { cr0: { em: true } },
      },
    ),
    ring0(
      'FWAIT with CR0.MP and CR0.TS raises #NM',
      'SDM vol. 3A §2.5',
      asm`fwait`,
      { raises: '#NM' },
      {
        guest: { cr0: { ts: true, mp: true } },
      },
    ),
    long(
      'SSE adds packed floats',
      'SDM vol. 2A, ADDPS',
      asm`mov eax, 0x40000000; movd xmm0, eax; addss xmm0, xmm0; movd eax, xmm0; ${report}`,
      {
        values: [0x4080_0000],
      },
    ),
    long(
      'PXOR clears',
      'SDM vol. 2B, PXOR',
      asm`mov eax, 5; movd xmm1, eax; pxor xmm1, xmm1; movd eax, xmm1; ${report}`,
      {
        values: [0],
      },
    ),
    long(
      'MXCSR is 0x1f80 at the start',
      'SDM vol. 1 §10.2.3',
      asm`mov rbx, data; stmxcsr [rbx]; mov eax, [rbx]; ${report}`,
      {
        values: [0x1f80],
      },
    ),
    long(
      'LDMXCSR of reserved bits raises #GP',
      'SDM vol. 2A, LDMXCSR',
      asm`mov rbx, data; mov dword [rbx], 0xffff0000; ldmxcsr [rbx]`,
      {
        raises: '#GP',
      },
    ),
    long(
      'an unmasked SIMD error raises #XM',
      'SDM vol. 1 §11.5.3',
      asm`mov rbx, data; mov dword [rbx], 0x1d80; ldmxcsr [rbx]; pxor xmm0, xmm0; mov eax, 0x3f800000; movd xmm1, eax; divss xmm1, xmm0`,
      {
        raises: '#XM',
      },
    ),
    long(
      'MOVAPS of an unaligned operand raises #GP',
      'SDM vol. 2B, MOVAPS',
      asm`mov rbx, data; movaps xmm0, [rbx + 1]`,
      {
        raises: '#GP',
        errorCode: 0,
      },
    ),
    long(
      'MOVUPS of an unaligned operand',
      'SDM vol. 2B, MOVUPS',
      asm`mov rbx, data; mov dword [rbx + 1], 0x99; movups xmm0, [rbx + 1]; movups [rbx + 32], xmm0; mov eax, [rbx + 32]; ${report}`,
      {
        values: [0x99],
      },
    ),
    ring0(
      'an SSE instruction with CR0.EM raises #UD',
      'SDM vol. 3A §13.1.2',
      asm`movaps xmm0, xmm1`,
      { raises: '#UD' },
      {
        guest: { cr0: { em: true } },
      },
    ),
    ring0(
      'an SSE instruction without CR4.OSFXSR raises #UD',
      'SDM vol. 3A §13.1.2',
      asm`movaps xmm0, xmm1`,
      { raises: '#UD' },
      {
        guest: { cr4: { osfxsr: false } },
      },
    ),
    ring0(
      'an SSE instruction with CR0.TS raises #NM',
      'SDM vol. 3A §13.1.2',
      asm`movaps xmm0, xmm1`,
      { raises: '#NM' },
      {
        guest: { cr0: { ts: true } },
      },
    ),
    long(
      'FXSAVE writes the control word',
      'SDM vol. 2A, FXSAVE',
      asm`fninit; mov rbx, data; fxsave [rbx]; movzx eax, word [rbx]; ${report}`,
      {
        values: [0x37f],
      },
    ),
    long(
      'a VEX instruction without CR4.OSXSAVE raises #UD',
      'SDM vol. 1 §14.3',
      asm`vxorps ymm0, ymm0, ymm0`,
      { raises: '#UD' },
      {
        requires: ['processor:avx'],
      },
    ),
    long(
      'AVX clears the upper half of YMM on a 128-bit result',
      'SDM vol. 1 §14.1.2',
      asm`vpcmpeqd xmm1, xmm1, xmm1; vinsertf128 ymm0, ymm1, xmm1, 1; vpxor xmm0, xmm0, xmm0; mov rbx, data; vmovups [rbx], ymm0; mov eax, [rbx + 16]; ${report}`,
      { values: [0] },
      {
        requires: ['processor:avx'],
        guest: { xcr0: 7n, cpuid: { xsave: true, avx: true } },
      },
    ),
    long(
      'AVX2 adds 8 integers',
      'SDM vol. 2B, PADDB/PADDW/PADDD/PADDQ',
      asm`vpcmpeqd ymm1, ymm1, ymm1; vpaddd ymm0, ymm1, ymm1; vextracti128 xmm2, ymm0, 1; vmovd eax, xmm2; ${report}`,
      { values: [0xffff_fffe] },
      {
        requires: ['processor:avx2'],
        guest: { xcr0: 7n, cpuid: { xsave: true, avx: true, avx2: true } },
      },
    ),
    long(
      'AES rounds',
      'SDM vol. 2A, AESENC',
      asm`pxor xmm0, xmm0; pxor xmm1, xmm1; aesenc xmm0, xmm1; movd eax, xmm0; ${report}`,
      { values: [0x6363_6363] },
      {
        requires: ['processor:aes'],
        guest: { cpuid: { aes: true } },
      },
    ),
    long(
      'PCLMULQDQ multiplies without carry',
      'SDM vol. 2B, PCLMULQDQ',
      asm`mov eax, 3; movd xmm0, eax; pclmulqdq xmm0, xmm0, 0; movd eax, xmm0; ${report}`,
      { values: [5] },
      {
        requires: ['processor:pclmulqdq'],
        guest: { cpuid: { pclmulqdq: true } },
      },
    ),
    long(
      'XGETBV reads XCR0',
      'SDM vol. 2D, XGETBV',
      asm`xor ecx, ecx; xgetbv; ${report}`,
      { values: [3] },
      {
        requires: ['processor:xsave'],
        guest: { xcr0: 3n, cpuid: { xsave: true } },
      },
    ),
    ring0(
      'XSETBV without x87 raises #GP',
      'SDM vol. 2D, XSETBV',
      asm`xor ecx, ecx; xor edx, edx; mov eax, 2; xsetbv`,
      { raises: '#GP' },
      {
        requires: ['processor:xsave'],
        guest: { xcr0: 3n, cpuid: { xsave: true } },
      },
    ),
    ring0(
      'XGETBV without CR4.OSXSAVE raises #UD',
      'SDM vol. 2D, XGETBV',
      asm`xor ecx, ecx; xgetbv`,
      { raises: '#UD' },
    ),
  ],
}
