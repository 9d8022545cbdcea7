// String instructions, the stack, and transfers of control.

import { asm } from '../assembler/asm.js'
import { type CheckArea, checksAt, EVERYWHERE, LONG, REAL, report } from './check.js'

const everywhere = checksAt(EVERYWHERE)
const long = checksAt(LONG)
const real = checksAt(REAL)

export const stringsAndStack: CheckArea = {
  area: 'strings and stack',
  checks: [
    long(
      'REP MOVSB copies',
      'SDM vol. 2B, MOVS; REP',
      asm`mov rsi, text; mov rdi, data; mov ecx, 4; cld; rep movsb; mov eax, [rdi - 4]; ${report}; mov eax, ecx; ${report}; jmp end
          text: db "abcd"
          end: nop`,
      { values: [0x6463_6261, 0] },
    ),
    long(
      'REP STOSQ fills',
      'SDM vol. 2B, STOS',
      asm`mov rdi, data; mov rax, 0x0101010101010101; mov ecx, 8; cld; rep stosq; mov eax, [rdi - 4]; ${report}; mov rax, rdi; sub rax, data; ${report}`,
      { values: [0x0101_0101, 64] },
    ),
    long(
      'REPE CMPSB stops behind the first difference',
      'SDM vol. 2A, CMPS',
      asm`mov rsi, a; mov rdi, b; mov ecx, 6; cld; repe cmpsb; mov eax, ecx; ${report}; jmp end
          a: db "abcdef"
          b: db "abcxef"
          end: nop`,
      { values: [2] },
    ),
    long(
      'REPNE SCASB finds a byte',
      'SDM vol. 2B, SCAS',
      asm`mov rdi, a; mov al, 'c'; mov ecx, 6; cld; repne scasb; mov eax, ecx; ${report}; jmp end
          a: db "abcdef"
          end: nop`,
      { values: [3] },
    ),
    long(
      'the direction flag lets strings run down',
      'SDM vol. 1 §3.4.3.2',
      asm`mov rdi, data; add rdi, 15; mov al, 7; mov ecx, 4; std; rep stosb; cld; mov rax, rdi; sub rax, data; ${report}`,
      { values: [11] },
    ),
    long(
      'REP with a count of zero does nothing',
      'SDM vol. 2B, REP',
      asm`mov rdi, data; xor ecx, ecx; mov al, 1; rep stosb; movzx eax, byte [data]; ${report}`,
      { values: [0] },
    ),
    long(
      'a page fault in REP MOVSB leaves the progress in the registers',
      'SDM vol. 2B, REP; vol. 3A §6.6',
      (g) => asm`mov rsi, stack; sub rsi, 64; mov rdi, ${g.end - 8n}; mov ecx, 16; cld; rep movsb`,
      { raises: '#PF', state: { rcx: 8n } },
    ),
    long(
      'ENTER and LEAVE make and drop a frame',
      'SDM vol. 2A, ENTER; vol. 2B, LEAVE',
      asm`mov rbp, 0x77; mov rbx, rsp; enter 32, 0; mov rax, rbx; sub rax, rsp; ${report}; leave; mov rax, rbp; ${report}`,
      { values: [40, 0x77] },
    ),
    everywhere(
      'LOOP counts down',
      'SDM vol. 2B, LOOP',
      asm`mov ecx, 5; xor eax, eax; again: inc eax; loop again; ${report}`,
      {
        values: [5],
      },
    ),
    long(
      'POP to memory addresses with the new stack pointer',
      'SDM vol. 2B, POP',
      asm`push 0x11; push 0x22; pop qword [rsp]; pop rax; ${report}`,
      {
        values: [0x22],
      },
    ),
    long(
      'PUSH RSP pushes the old value',
      'SDM vol. 2B, PUSH',
      asm`mov rbx, rsp; push rsp; pop rax; sub rax, rbx; ${report}`,
      {
        values: [0],
      },
    ),
    long(
      'RET n drops arguments',
      'SDM vol. 2B, RET',
      asm`mov rbx, rsp; push 1; push 2; call f; mov rax, rsp; sub rax, rbx; ${report}; jmp end; f: ret 16; end: nop`,
      {
        values: [0],
      },
    ),
    long(
      'IRETQ to the same ring loads RSP and RFLAGS',
      'SDM vol. 2A, IRET/IRETD/IRETQ',
      asm`mov rbx, rsp; mov eax, ss; push rax; lea rax, [rsp - 64]; push rax; push 0x203 & ~0x200; mov eax, cs; push rax; lea rax, [there]; push rax; iretq
          there: setc al; movzx eax, al; ${report}; mov rax, rbx; sub rax, rsp; ${report}`,
      { values: [1, 72] },
      {
        places: [
          { mode: 'long', ring: 0 },
          { mode: 'long', ring: 3 },
        ],
      },
    ),
    long(
      'a far return within the ring',
      'SDM vol. 2B, RET',
      asm`mov eax, cs; push rax; lea rax, [there]; push rax; retfq; ud2; there: nop`,
      {},
    ),
    long(
      'XLATB looks a byte up',
      'SDM vol. 2D, XLAT/XLATB',
      asm`mov rbx, table; mov eax, 2; xlatb; ${report}; jmp end; table: db 5,6,7,8; end: nop`,
      {
        values: [7],
      },
    ),
    long(
      'JRCXZ looks at RCX',
      'SDM vol. 2A, Jcc',
      asm`xor ecx, ecx; mov eax, 1; jrcxz there; mov eax, 2; there: ${report}`,
      {
        values: [1],
      },
    ),
    long(
      'a jump to a non-canonical address raises #GP',
      'SDM vol. 1 §3.3.7.1; vol. 2A, JMP',
      asm`mov rax, 0x8000000000000000; jmp rax`,
      {
        raises: '#GP',
        errorCode: 0,
      },
    ),
    real(
      'PUSH SP pushes the old value in real mode',
      'SDM vol. 2B, PUSH; vol. 3B §23.17',
      asm`mov bx, sp; push sp; pop ax; sub ax, bx; movzx eax, ax; ${report}`,
      {
        values: [0],
      },
    ),
    real(
      'INT n goes through the vector table and IRET comes back',
      'SDM vol. 3B §21.1.4',
      asm`int 0x60; mov eax, ebx; ${report}`,
      { values: [9] },
      {
        prepare: (g) => g.handle(0x60, asm`mov ebx, 9; iret`),
      },
    ),
    real(
      'a word at offset 0xffff raises #GP',
      'SDM vol. 3B §21.1.4; vol. 3A §6.15, interrupt 13',
      asm`mov bx, 0xffff; mov ax, [bx]`,
      {
        raises: '#GP',
      },
    ),
    real(
      'segment times 16 plus offset',
      'SDM vol. 3B §21.1.1',
      asm`mov ax, 0xf00; mov es, ax; mov dword [es:0x10], 0x1234; mov eax, [0xf010]; ${report}`,
      {
        values: [0x1234],
      },
    ),
    checksAt([{ mode: 'unreal', ring: 0 }])(
      '32-bit addresses reach over 64 KiB with a large limit',
      'SDM vol. 3A §9.9.2',
      asm`mov ebx, 0x20000; mov dword [ebx], 0x55; mov eax, [ebx]; ${report}`,
      {
        values: [0x55],
      },
    ),
  ],
}
