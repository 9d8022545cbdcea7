// Timers and the time stamp counter.

import { asm } from '../assembler/asm.js'
import { type CheckArea, checksAt, LONG, RING0, report } from './check.js'
import { WAIT, writeApic, X2APIC_GUEST, X2APIC_ON } from './x2apic.js'

const ring0 = checksAt(RING0)
const long = checksAt(LONG)
const apic = { guest: X2APIC_GUEST } as const
const DIVIDE_BY_1 = writeApic(0x83e, 0xb)
const INITIAL = 0x838
const LVT = 0x832
/** Counts an interrupt in RBX and acknowledges it. */
const COUNT = asm`push rax; push rcx; push rdx; inc ebx; ${writeApic(0x80b, 0)}; pop rdx; pop rcx; pop rax; iretq`
/** The TSC in RAX. */
const TSC = asm`rdtsc; shl rdx, 32; or rax, rdx`

export const timers: CheckArea = {
  area: 'timers',
  checks: [
    ring0(
      'the APIC timer interrupts once in one-shot mode',
      'SDM vol. 3A §10.5.4',
      asm`${X2APIC_ON}; ${DIVIDE_BY_1}; ${writeApic(LVT, 0x50)}; ${writeApic(INITIAL, 100_000)}; ${WAIT}`,
      { raises: 'INT 0x50' },
      apic,
    ),
    ring0(
      'the APIC timer interrupts again and again in periodic mode',
      'SDM vol. 3A §10.5.4',
      asm`${X2APIC_ON}; ${DIVIDE_BY_1}; ${writeApic(LVT, 0x2_0050)}; ${writeApic(INITIAL, 300_000)}; sti
          wait: pause; cmp ebx, 3; jb wait; mov eax, 1; ${report}`,
      { values: [1] },
      { ...apic, prepare: (g) => g.handle(0x50, COUNT) },
    ),
    ring0(
      'a masked APIC timer does not interrupt',
      'SDM vol. 3A §10.5.1',
      asm`${X2APIC_ON}; ${DIVIDE_BY_1}; ${writeApic(LVT, 0x1_0050)}; ${writeApic(INITIAL, 1000)}; sti
          count: mov ecx, 0x839; rdmsr; test eax, eax; jnz count; nop; nop; ${report}`,
      { values: [0] },
      apic,
    ),
    ring0(
      'the current count of the APIC timer goes down',
      'SDM vol. 3A §10.5.4',
      asm`${X2APIC_ON}; ${DIVIDE_BY_1}; ${writeApic(LVT, 0x1_0050)}; ${writeApic(INITIAL, 0xffff_ffff)}
          mov ecx, 0x839; rdmsr; mov ebx, eax; mov ecx, 0x839; rdmsr; cmp eax, ebx; setb al; movzx eax, al; ${report}`,
      { values: [1] },
      apic,
    ),
    ring0(
      'an initial count of zero stops the APIC timer',
      'SDM vol. 3A §10.5.4',
      asm`${X2APIC_ON}; ${DIVIDE_BY_1}; ${writeApic(LVT, 0x1_0050)}; ${writeApic(INITIAL, 0xffff_ffff)}; ${writeApic(INITIAL, 0)}
          mov ecx, 0x839; rdmsr; ${report}`,
      { values: [0] },
      apic,
    ),
    ring0(
      'a TSC deadline interrupts when it has passed',
      'SDM vol. 3A §10.5.4.1',
      asm`${X2APIC_ON}; ${writeApic(LVT, 0x4_0050)}; ${TSC}; lea rbx, [rax + 1000000]
          mov eax, ebx; mov rdx, rbx; shr rdx, 32; mov ecx, 0x6e0; wrmsr; sti
          @wait: pause; jmp @wait`,
      { raises: 'INT 0x50' },
      apic,
    ),
    ring0(
      'a TSC deadline that has passed reads as zero',
      'SDM vol. 3A §10.5.4.1',
      asm`${X2APIC_ON}; ${writeApic(LVT, 0x4_0050)}; mov eax, 1; xor edx, edx; mov ecx, 0x6e0; wrmsr; sti
          wait: pause; cmp ebx, 1; jb wait; mov ecx, 0x6e0; rdmsr; ${report}`,
      { values: [0] },
      { ...apic, prepare: (g) => g.handle(0x50, COUNT) },
    ),
    ring0(
      'HLT waits for the timer and goes on behind itself',
      'SDM vol. 2A, HLT',
      asm`${X2APIC_ON}; ${DIVIDE_BY_1}; ${writeApic(LVT, 0x50)}; ${writeApic(INITIAL, 1_000_000)}; sti; hlt; mov eax, ebx; ${report}`,
      { values: [1] },
      { ...apic, prepare: (g) => g.handle(0x50, COUNT) },
    ),
    long(
      'RDTSC never goes back',
      'SDM vol. 3B §17.17',
      asm`${TSC}; mov rbx, rax; mov esi, 200; again: ${TSC}; cmp rax, rbx; jb back; mov rbx, rax; dec esi; jnz again
          xor eax, eax; jmp end; back: mov eax, 1; end: ${report}`,
      { values: [0] },
    ),
  ],
}
