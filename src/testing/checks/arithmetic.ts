// Integer instructions: results, flags, and the exceptions of division.

import { asm } from '../assembler/asm.js'
import { type CheckArea, checksAt, EVERYWHERE, LONG, PROTECTED, report } from './check.js'

const everywhere = checksAt(EVERYWHERE)
const long = checksAt(LONG)
const legacy = checksAt(PROTECTED)
/** Sends a condition as 0 or 1. */
const condition = (name: string) => asm`set${name} al; movzx eax, al; ${report}`

export const arithmetic: CheckArea = {
  area: 'arithmetic',
  checks: [
    everywhere(
      'ADD sets OF and SF on signed overflow',
      'SDM vol. 2A, ADD',
      asm`mov ebx, 0x7fffffff; add ebx, 1; ${condition('o')}; mov ebx, 0x7fffffff; add ebx, 1; ${condition('s')}`,
      { values: [1, 1] },
    ),
    everywhere(
      'ADD sets CF and ZF on carry to zero',
      'SDM vol. 2A, ADD',
      asm`mov ebx, 0xffffffff; add ebx, 1; ${condition('c')}; mov ebx, 0xffffffff; add ebx, 1; ${condition('z')}`,
      { values: [1, 1] },
    ),
    everywhere(
      'INC leaves CF',
      'SDM vol. 2A, INC',
      asm`stc; mov ebx, 5; inc ebx; ${condition('c')}; clc; dec ebx; ${condition('c')}`,
      { values: [1, 0] },
    ),
    everywhere(
      'ADC and SBB take the carry in',
      'SDM vol. 2A, ADC; vol. 2B, SBB',
      asm`mov eax, 1; stc; adc eax, 1; ${report}; stc; sbb eax, 1; ${report}`,
      { values: [3, 1] },
    ),
    everywhere(
      'MUL gives the upper half in EDX',
      'SDM vol. 2B, MUL',
      asm`mov eax, 0x80000000; mov ecx, 6; mul ecx; ${report}; mov eax, edx; ${report}`,
      { values: [0, 3] },
    ),
    everywhere(
      'IMUL of three operands sets OF when the result is cut',
      'SDM vol. 2A, IMUL',
      asm`mov ecx, 0x40000000; imul ebx, ecx, 4; ${condition('o')}; imul ebx, ecx, 1; ${condition('o')}`,
      { values: [1, 0] },
    ),
    everywhere(
      'DIV gives quotient and remainder',
      'SDM vol. 2A, DIV',
      asm`mov edx, 1; mov eax, 5; mov ecx, 16; div ecx; ${report}; mov eax, edx; ${report}`,
      { values: [0x1000_0000, 5] },
    ),
    everywhere('DIV by zero raises #DE', 'SDM vol. 2A, DIV', asm`xor ecx, ecx; div cl`, {
      raises: '#DE',
    }),
    everywhere(
      'DIV raises #DE when the quotient does not fit',
      'SDM vol. 2A, DIV',
      asm`mov edx, 2; mov eax, 0; mov ecx, 2; div ecx`,
      { raises: '#DE' },
    ),
    everywhere(
      'IDIV of the least number by -1 raises #DE',
      'SDM vol. 2A, IDIV',
      asm`mov eax, 0x80000000; cdq; mov ecx, -1; idiv ecx`,
      { raises: '#DE' },
    ),
    everywhere(
      'shift counts are taken modulo 32',
      'SDM vol. 2B, SAL/SAR/SHL/SHR',
      asm`mov eax, 1; mov cl, 33; shl eax, cl; ${report}`,
      { values: [2] },
    ),
    everywhere(
      'a shift by 0 leaves the flags',
      'SDM vol. 2B, SAL/SAR/SHL/SHR',
      asm`mov ebx, 4; xor ecx, ecx; stc; shl ebx, cl; ${condition('c')}`,
      { values: [1] },
    ),
    everywhere(
      'SAR keeps the sign',
      'SDM vol. 2B, SAL/SAR/SHL/SHR',
      asm`mov eax, 0x80000000; sar eax, 31; ${report}`,
      { values: [0xffff_ffff] },
    ),
    everywhere(
      'RCL rotates through the carry',
      'SDM vol. 2B, RCL/RCR/ROL/ROR',
      asm`mov eax, 0x80000000; stc; rcl eax, 1; ${report}; mov eax, 0; adc eax, 0; ${report}`,
      { values: [1, 1] },
    ),
    everywhere(
      'SHLD takes bits from the second register',
      'SDM vol. 2B, SHLD',
      asm`mov eax, 0x12345678; mov edx, 0x9abcdef0; shld eax, edx, 8; ${report}`,
      { values: [0x3456_789a] },
    ),
    everywhere(
      'BTS, BTR and BTC change the bit and give the old one in CF',
      'SDM vol. 2A, BTC, BTR, BTS',
      asm`mov ebx, 8; bts ebx, 3; ${condition('c')}; btr ebx, 3; btc ebx, 0; mov eax, ebx; ${report}`,
      { values: [1, 1] },
    ),
    everywhere(
      'BT with a register index takes bits beyond the operand in memory',
      'SDM vol. 2A, BT; §3.1.1.9',
      (g) =>
        asm`mov ebx, ${g.data}; mov byte [bx + 8], 2; mov eax, 65; bt [bx], eax; ${condition('c')}`,
      { values: [1] },
      { places: [{ mode: 'real', ring: 0 }] },
    ),
    everywhere(
      'BSF and BSR find the lowest and the highest bit',
      'SDM vol. 2A, BSF, BSR',
      asm`mov ecx, 0x00f0; bsf eax, ecx; ${report}; bsr eax, ecx; ${report}`,
      { values: [4, 7] },
    ),
    everywhere(
      'BSF of zero sets ZF',
      'SDM vol. 2A, BSF',
      asm`xor ecx, ecx; bsf ebx, ecx; ${condition('z')}`,
      {
        values: [1],
      },
    ),
    everywhere(
      'BSWAP reverses bytes',
      'SDM vol. 2A, BSWAP',
      asm`mov eax, 0x11223344; bswap eax; ${report}`,
      {
        values: [0x4433_2211],
      },
    ),
    everywhere(
      'XADD exchanges and adds',
      'SDM vol. 2D, XADD',
      asm`mov eax, 3; mov ecx, 4; xadd eax, ecx; ${report}; mov eax, ecx; ${report}`,
      { values: [7, 3] },
    ),
    everywhere(
      'CMPXCHG stores only where the accumulator is equal',
      'SDM vol. 2A, CMPXCHG',
      asm`mov eax, 5; mov ebx, 5; mov ecx, 9; cmpxchg ebx, ecx; ${condition('z')}; mov eax, ebx; ${report}
          mov eax, 1; cmpxchg ebx, ecx; ${report}`,
      { values: [1, 9, 9] },
    ),
    long(
      'CMPXCHG8B compares and exchanges 8 bytes',
      'SDM vol. 2A, CMPXCHG8B/CMPXCHG16B',
      asm`mov rsi, data; mov qword [rsi], 7; mov eax, 7; xor edx, edx; mov ebx, 1; mov ecx, 2
          cmpxchg8b [rsi]; ${condition('z')}; mov eax, [rsi + 4]; ${report}`,
      { values: [1, 2] },
    ),
    long(
      'CMPXCHG16B compares and exchanges 16 bytes',
      'SDM vol. 2A, CMPXCHG8B/CMPXCHG16B',
      asm`mov rsi, data; xor eax, eax; xor edx, edx; mov ebx, 1; mov ecx, 2
          cmpxchg16b [rsi]; ${condition('z')}; mov eax, [rsi + 8]; ${report}`,
      { values: [1, 2] },
      { requires: ['processor:cx16'], guest: { cpuid: { cx16: true } } },
    ),
    long(
      'CMPXCHG16B of an unaligned operand raises #GP',
      'SDM vol. 2A, CMPXCHG8B/CMPXCHG16B',
      asm`mov rsi, data; cmpxchg16b [rsi + 8]`,
      { raises: '#GP', errorCode: 0 },
      { requires: ['processor:cx16'], guest: { cpuid: { cx16: true } } },
    ),
    everywhere(
      'LOCK before a register destination raises #UD',
      'SDM vol. 2A, LOCK',
      asm`db 0xf0; inc eax`,
      {
        raises: '#UD',
      },
    ),
    everywhere('LOCK before MOV raises #UD', 'SDM vol. 2A, LOCK', asm`db 0xf0; mov eax, ecx`, {
      raises: '#UD',
    }),
    long(
      'LZCNT counts leading zeros',
      'SDM vol. 2A, LZCNT',
      asm`mov ecx, 1; lzcnt eax, ecx; ${report}`,
      { values: [31] },
      { requires: ['processor:abm'], guest: { cpuid: { abm: true } } },
    ),
    long(
      'TZCNT of zero is the operand size',
      'SDM vol. 2B, TZCNT',
      asm`xor ecx, ecx; mov eax, 5; tzcnt eax, ecx; ${report}`,
      { values: [32] },
      { requires: ['processor:bmi1'], guest: { cpuid: { bmi1: true } } },
    ),
    long(
      'POPCNT counts bits',
      'SDM vol. 2B, POPCNT',
      asm`mov ecx, 0xf0f1; popcnt eax, ecx; ${report}`,
      { values: [9] },
      {
        requires: ['processor:popcnt'],
        guest: { cpuid: { popcnt: true } },
      },
    ),
    long(
      'MOVBE loads bytes in reverse',
      'SDM vol. 2B, MOVBE',
      asm`mov rsi, data; mov dword [rsi], 0x11223344; movbe eax, [rsi]; ${report}`,
      { values: [0x4433_2211] },
      { requires: ['processor:movbe'], guest: { cpuid: { movbe: true } } },
    ),
    long(
      'CRC32 accumulates a byte',
      'SDM vol. 2A, CRC32',
      asm`xor eax, eax; mov cl, 1; crc32 eax, cl; ${report}`,
      { values: [0xf26b_8303] },
      { requires: ['processor:sse4_2'], guest: { cpuid: { sse4_2: true } } },
    ),
    long(
      'ANDN and BLSR',
      'SDM vol. 2A, ANDN, BLSR',
      asm`mov ecx, 0xf0; mov edx, 0xff; andn eax, ecx, edx; ${report}; blsr eax, ecx; ${report}`,
      { values: [0x0f, 0xe0] },
      { requires: ['processor:bmi1'], guest: { cpuid: { bmi1: true } } },
    ),
    long(
      'PDEP and PEXT scatter and gather bits',
      'SDM vol. 2B, PDEP, PEXT',
      asm`mov ecx, 5; mov edx, 0xf0f0; pdep eax, ecx, edx; ${report}; mov ecx, 0xabcd; pext eax, ecx, edx; ${report}`,
      { values: [0x50, 0xac] },
      { requires: ['processor:bmi2'], guest: { cpuid: { bmi2: true } } },
    ),
    long(
      'ADCX and ADOX use one flag each',
      'SDM vol. 2A, ADCX, ADOX',
      asm`xor ebx, ebx; stc; mov eax, 1; mov ecx, 1; adcx eax, ecx; ${report}; adox eax, ecx; ${report}`,
      { values: [3, 4] },
      { requires: ['processor:adx'], guest: { cpuid: { adx: true } } },
    ),
    everywhere(
      'a 32-bit CMOVcc that does not move',
      'SDM vol. 2A, CMOVcc',
      asm`mov eax, 5; mov ecx, 6; clc; cmovc eax, ecx; ${report}; stc; cmovc eax, ecx; ${report}`,
      { values: [5, 6] },
    ),
    long(
      'a 32-bit CMOVcc clears the upper half even if it does not move',
      'SDM vol. 2A, CMOVcc; vol. 1 §3.4.1.1',
      asm`mov rax, -1; clc; cmovc eax, ecx; shr rax, 32; ${report}`,
      { values: [0] },
    ),
    everywhere(
      'MOVSX and MOVZX',
      'SDM vol. 2B, MOVSX, MOVZX',
      asm`mov cl, 0x80; movsx eax, cl; ${report}; movzx eax, cl; ${report}`,
      {
        values: [0xffff_ff80, 0x80],
      },
    ),
    long(
      'CDQE extends the sign to 64 bits',
      'SDM vol. 2A, CBW/CWDE/CDQE',
      asm`mov eax, 0x80000000; cdqe; shr rax, 32; ${report}`,
      {
        values: [0xffff_ffff],
      },
    ),
    legacy(
      'BOUND raises #BR outside of its limits',
      'SDM vol. 2A, BOUND',
      asm`mov ebx, data; mov dword [ebx], 1; mov dword [ebx + 4], 3; mov eax, 4; bound eax, [ebx]`,
      {
        raises: '#BR',
      },
    ),
    legacy(
      'INTO raises #OF after an overflow',
      'SDM vol. 2A, INT n/INTO/INT3/INT1',
      asm`mov eax, 0x7fffffff; inc eax; into`,
      {
        raises: '#OF',
      },
    ),
    legacy('AAM by zero raises #DE', 'SDM vol. 2A, AAM', asm`mov al, 1; db 0xd4, 0`, {
      raises: '#DE',
    }),
    legacy(
      'DAA adjusts a decimal sum',
      'SDM vol. 2A, DAA',
      asm`mov eax, 0x79; add al, 0x35; daa; movzx eax, al; ${report}`,
      {
        values: [0x14],
      },
    ),
    long('PUSH ES raises #UD in 64-bit mode', 'SDM vol. 2B, PUSH', asm`db 0x06`, { raises: '#UD' }),
    everywhere('UD2 raises #UD', 'SDM vol. 2B, UD', asm`ud2`, { raises: '#UD', at: 0 }),
    everywhere('UD1 raises #UD', 'SDM vol. 2B, UD', asm`db 0x0f, 0xb9, 0xc0`, { raises: '#UD' }),
    everywhere(
      'an instruction of more than 15 bytes raises #GP',
      'SDM vol. 2A §2.3.11; vol. 3A §6.15, interrupt 13',
      asm`db 0x2e,0x2e,0x2e,0x2e,0x2e,0x2e,0x2e,0x2e,0x2e,0x2e,0x2e,0x2e,0x2e,0x2e,0x2e,0x90`,
      { raises: '#GP' },
    ),
    long(
      'RDRAND gives a number and sets CF',
      'SDM vol. 2B, RDRAND',
      asm`rdrand ebx; ${condition('c')}`,
      { values: [1] },
      {
        requires: ['processor:rdrand'],
        guest: { cpuid: { rdrand: true } },
      },
    ),
  ],
}
