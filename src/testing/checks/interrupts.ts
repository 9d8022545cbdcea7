// Exceptions and interrupts: how they are raised, delivered and nested.

import { asm } from '../assembler/asm.js'
import { CODE, IDT } from '../layout.js'
import {
  type CheckArea,
  checksAt,
  EVERYWHERE,
  LONG,
  PROTECTED,
  RING0,
  RING3,
  report,
} from './check.js'

const everywhere = checksAt(EVERYWHERE)
const long = checksAt(LONG)
const legacy = checksAt(PROTECTED)
const ring0 = checksAt(RING0)
const ring3 = checksAt(RING3)
const TF = 0x102n

export const interrupts: CheckArea = {
  area: 'exceptions and interrupts',
  checks: [
    everywhere(
      'INT3 raises #BP behind itself',
      'SDM vol. 2A, INT n/INTO/INT3/INT1',
      asm`nop; int3`,
      { raises: '#BP', at: 2 },
    ),
    everywhere('INT1 raises #DB behind itself', 'SDM vol. 2A, INT n/INTO/INT3/INT1', asm`int1`, {
      raises: '#DB',
      at: 1,
    }),
    everywhere('INT n delivers its vector', 'SDM vol. 2A, INT n/INTO/INT3/INT1', asm`int 0x40`, {
      raises: 'INT 0x40',
      at: 2,
    }),
    ring3(
      'INT n through a gate of ring 0 raises #GP',
      'SDM vol. 3A §6.12.1.1',
      asm`int 0x40`,
      { raises: '#GP', errorCode: 0x40 * 8 + 2, at: 0 },
      {
        // DPL is in bits 6:5 of a gate's byte 5.
        prepare: (g) => g.memory.writeU8(IDT + 0x40 * 16 + 5, 0x8e),
      },
    ),
    long(
      'RFLAGS.TF raises #DB behind the next instruction',
      'SDM vol. 3B §17.3.1.4',
      asm`nop; nop`,
      { raises: '#DB', at: 1 },
      { regs: { rflags: TF } },
    ),
    ring0(
      'MOV SS holds a trap back for one instruction',
      'SDM vol. 3A §6.8.3',
      asm`mov eax, ss; pushfq; or qword [rsp], 0x100; popfq; mov ss, ax; nop; there: nop`,
      { raises: '#DB', at: 'there' },
    ),
    ring0(
      'a breakpoint in DR0 raises #DB before its instruction',
      'SDM vol. 3B §17.2',
      asm`lea rax, [there]; mov dr0, rax; mov eax, 0x402; mov dr7, rax; nop; there: nop`,
      { raises: '#DB', at: 'there' },
    ),
    ring0(
      'a data watchpoint in DR0 raises #DB behind the write',
      'SDM vol. 3B §17.2',
      asm`mov rax, data; mov dr0, rax; mov eax, 0xd0402; mov dr7, rax; mov dword [data], 1; behind: nop`,
      { raises: '#DB', at: 'behind' },
    ),
    ring0(
      'DR6 tells which breakpoint it was',
      'SDM vol. 3B §17.2.3',
      asm`lea rax, [there]; mov dr1, rax; mov eax, 0x408; mov dr7, rax; there: nop; mov eax, ebx; and eax, 0xf; ${report}`,
      { values: [2] },
      {
        prepare: (g) => g.handle(1, asm`mov rbx, dr6; xor eax, eax; mov dr7, rax; iretq`),
      },
    ),
    ring0(
      'access to debug registers with DR7.GD raises #DB',
      'SDM vol. 3B §17.2.4',
      asm`mov eax, 0x2400; mov dr7, rax; mov rax, dr0`,
      { raises: '#DB' },
    ),
    ring3(
      'MOV DR raises #GP in ring 3',
      'SDM vol. 2B, MOV—Move to/from Debug Registers',
      asm`mov rax, dr0`,
      { raises: '#GP', errorCode: 0 },
    ),
    ring3(
      'an unaligned access with CR0.AM and RFLAGS.AC raises #AC',
      'SDM vol. 3A §6.15, interrupt 17',
      asm`mov rbx, data; mov eax, [rbx + 1]`,
      { raises: '#AC', errorCode: 0 },
      {
        guest: { cr0: { am: true } },
        regs: { rflags: 0x4_0002n },
      },
    ),
    ring0(
      'ring 0 takes no #AC',
      'SDM vol. 3A §6.15, interrupt 17',
      asm`mov rbx, data; mov eax, [rbx + 1]; xor eax, eax; ${report}`,
      { values: [0] },
      {
        guest: { cr0: { am: true } },
        regs: { rflags: 0x4_0002n },
      },
    ),
    long(
      'a non-canonical address raises #GP',
      'SDM vol. 1 §3.3.7.1',
      asm`mov rax, 0x8000000000000000; mov rax, [rax]`,
      { raises: '#GP', errorCode: 0 },
    ),
    long(
      'a non-canonical address of the stack raises #SS',
      'SDM vol. 3A §6.15, interrupt 12',
      asm`mov rbp, 0x8000000000000000; mov rax, [rbp]`,
      { raises: '#SS', errorCode: 0 },
    ),
    ring0(
      'a fault while a page fault is delivered raises #DF',
      'SDM vol. 3A §6.15, interrupt 8',
      asm`mov rax, [0x12345678]`,
      { raises: '#DF', errorCode: 0 },
      {
        // Not present: its delivery raises #NP.
        prepare: (g) => g.memory.writeU8(IDT + 14 * 16 + 5, 0x0e),
      },
    ),
    ring0(
      'a third fault shuts the processor down',
      'SDM vol. 3A §6.15, interrupt 8',
      asm`lidt [nothing]; ud2; nothing: dw 0; dq 0`,
      { exit: 'shutdown' },
    ),
    ring0(
      'a gate that is not present raises #NP',
      'SDM vol. 3A §6.15, interrupt 11',
      asm`ud2`,
      { raises: '#NP', errorCode: 6 * 8 + 3 },
      {
        prepare: (g) => g.memory.writeU8(IDT + 6 * 16 + 5, 0x0e),
      },
    ),
    ring3('delivery from ring 3 loads the stack of the TSS', 'SDM vol. 3A §6.12.1', asm`ud2`, {
      raises: '#UD',
      at: 0,
    }),
    ring0(
      'the stack is aligned to 16 bytes before the frame',
      'SDM vol. 3A §6.14.2',
      asm`sub rsp, 5; ud2`,
      { raises: '#UD' },
    ),
    ring0(
      'IRETQ comes back from a handler',
      'SDM vol. 2A, IRET/IRETD/IRETQ',
      asm`ud2; mov eax, ebx; ${report}`,
      { values: [4] },
      {
        prepare: (g) => g.handle(6, asm`mov ebx, 4; add qword [rsp], 2; iretq`),
      },
    ),
    ring3(
      'IRETQ comes back to ring 3',
      'SDM vol. 2A, IRET/IRETD/IRETQ',
      asm`ud2; mov eax, cs; and eax, 3; ${report}`,
      { values: [3] },
      {
        prepare: (g) => g.handle(6, asm`add qword [rsp], 2; iretq`),
      },
    ),
    ring3(
      'IRETQ cannot go to an inner ring',
      'SDM vol. 2A, IRET/IRETD/IRETQ',
      asm`push 0x10; push rsp; push 2; push 8; lea rax, [$]; push rax; iretq`,
      { raises: '#GP' },
    ),
    ring0(
      'an interrupt gate clears RFLAGS.IF, a trap gate does not',
      'SDM vol. 3A §6.12.1.2',
      asm`int 0x41; mov eax, ebx; and eax, 0x200; ${report}`,
      { values: [0] },
      {
        prepare: (g) => g.handle(0x41, asm`pushfq; pop rbx; iretq`),
        regs: { rflags: 0x202n },
      },
    ),
    ring3(
      'SYSCALL enters ring 0 at LSTAR',
      'SDM vol. 2B, SYSCALL',
      asm`syscall`,
      { raises: '#BP', state: { rcx: BigInt(CODE + 2) } },
      {
        guest: {
          efer: { sce: true },
          msrs: { IA32_STAR: 0x0018_0008n << 32n, IA32_LSTAR: 0xf800n },
        },
        prepare: (g) => g.memory.write(0xf800, Uint8Array.of(0x0f, 0x01, 0xf8, 0xcc)), // swapgs; int3
      },
    ),
    long('SYSCALL without EFER.SCE raises #UD', 'SDM vol. 2B, SYSCALL', asm`syscall`, {
      raises: '#UD',
      at: 0,
    }),
    ring0(
      'SYSRET enters ring 3 at RCX',
      'SDM vol. 2B, SYSRET',
      asm`lea rcx, [there]; mov r11d, 2; sysretq; there: mov eax, cs; and eax, 3; ${report}`,
      { values: [3] },
      {
        guest: { efer: { sce: true }, msrs: { IA32_STAR: 0x0018_0008n << 32n } },
      },
    ),
    ring3(
      'SYSENTER enters ring 0',
      'SDM vol. 2B, SYSENTER',
      asm`sysenter`,
      { raises: '#BP' },
      {
        requires: ['vendor:GenuineIntel'],
        guest: {
          msrs: { IA32_SYSENTER_CS: 8n, IA32_SYSENTER_ESP: 0x5000n, IA32_SYSENTER_EIP: 0xf800n },
        },
        prepare: (g) => g.memory.write(0xf800, Uint8Array.of(0x0f, 0x01, 0xf8, 0xcc)),
      },
    ),
    long(
      'SYSENTER with a null selector raises #GP',
      'SDM vol. 2B, SYSENTER',
      asm`sysenter`,
      { raises: '#GP', errorCode: 0 },
      { requires: ['vendor:GenuineIntel'] },
    ),
    long(
      "SYSENTER raises #UD in long mode on AMD's processors",
      'APM vol. 3, SYSENTER',
      asm`sysenter`,
      { raises: '#UD', at: 0 },
      { requires: ['vendor:AuthenticAMD'] },
    ),
    legacy(
      'IRETD comes back from a handler',
      'SDM vol. 2A, IRET/IRETD/IRETQ',
      asm`ud2; mov eax, ebx; ${report}`,
      { values: [4] },
      { prepare: (g) => g.handle(6, asm`mov ebx, 4; add dword [esp], 2; iretd`) },
    ),
    ring3(
      'a breakpoint of ring 0 in DR0 counts in ring 3',
      'SDM vol. 3B §17.2',
      asm`nop; nop; nop`,
      { raises: '#DB', at: 1 },
      {
        prepare: ({ vcpu }) => {
          const registers = vcpu.getDebugregs()
          vcpu.setDebugregs({ ...registers, db: [BigInt(CODE + 1), 0n, 0n, 0n], dr7: 0x402n })
        },
      },
    ),
  ],
}
