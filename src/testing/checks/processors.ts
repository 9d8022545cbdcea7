// Several processors: atomic instructions, the order of memory, changed code, interprocessor
// interrupts, shared page tables.

import { asm } from '../assembler/asm.js'
import type { TestGuest } from '../guest.js'
import { DATA } from '../layout.js'
import { type CheckArea, checksAt, LONG, RING0, report } from './check.js'
import { WAIT, writeApic, X2APIC_GUEST, X2APIC_ON } from './x2apic.js'

const ring0 = checksAt(RING0)
const long = checksAt(LONG)
const apic = { guest: X2APIC_GUEST } as const
const ROUNDS = 500
/** Where each round has barriers: on a loaded host each of them may take a time slice. */
const MEETINGS = 100
const PAGE = 0x2_0000

/** Both vCPUs go `ROUNDS` times through `body`; then the first reports what is at `data`. */
const both = (body: string) => ({
  code: (g: TestGuest) =>
    asm`${g.barrier()}; mov ecx, ${ROUNDS}; again: ${body}; dec ecx; jnz again; ${g.barrier()}; mov eax, [data]; ${report}`,
  other: (g: TestGuest) =>
    asm`${g.barrier()}; mov ecx, ${ROUNDS}; again: ${body}; dec ecx; jnz again; ${g.barrier()}`,
})

const atomic = (name: string, source: string, body: string, value = 2 * ROUNDS) => {
  const { code, other } = both(body)
  return long(name, source, code, { values: [value] }, { other })
}

/** The second sends by the interrupt command register, when the first waits for it. */
const ipi = (name: string, low: number, raises: string) =>
  ring0(
    name,
    'SDM vol. 3A §10.6.1',
    (g) => asm`${X2APIC_ON}; ${g.barrier()}; ${WAIT}`,
    { raises },
    {
      ...apic,
      other: (g) => asm`${X2APIC_ON}; ${g.barrier()}; ${writeApic(0x830, low, 0)}`,
    },
  )

export const processors: CheckArea = {
  area: 'several processors',
  checks: [
    atomic('LOCK INC loses nothing', 'SDM vol. 3A §8.1.2.2', 'lock inc dword [data]'),
    atomic('LOCK XADD loses nothing', 'SDM vol. 3A §8.1.2.2', 'mov eax, 1; lock xadd [data], eax'),
    atomic(
      'LOCK CMPXCHG loses nothing',
      'SDM vol. 3A §8.1.2.2',
      'mov eax, [data]; retry: lea edx, [rax + 1]; lock cmpxchg [data], edx; jne retry',
    ),
    atomic(
      'LOCK CMPXCHG8B loses nothing',
      'SDM vol. 3A §8.1.2.2',
      `mov esi, ecx; mov eax, [data]; mov edx, [data + 4]
       retry: lea ebx, [rax + 1]; mov ecx, edx; lock cmpxchg8b [data]; jne retry; mov ecx, esi`,
    ),
    atomic(
      'XCHG with memory is a lock without LOCK',
      'SDM vol. 2D, XCHG',
      `take: mov eax, 1; xchg [data + 64], eax; test eax, eax; jz has; pause; jmp take
       has: inc dword [data]; mov dword [data + 64], 0`,
    ),
    atomic(
      'LOCK BTS is a lock',
      'SDM vol. 3A §8.1.2.2',
      `take: lock bts dword [data + 64], 0; jnc has; pause; jmp take
       has: inc dword [data]; mov dword [data + 64], 0`,
    ),
    long(
      'stores are seen in their order',
      'SDM vol. 3A §8.2.3.2',
      (g) => asm`
        ${g.barrier()}
        wait: mov eax, [data + 64]; mov ebx, [data]; cmp ebx, eax; jb wrong; cmp eax, ${ROUNDS}; jb wait
        xor eax, eax; jmp end; wrong: mov eax, 1; end: ${report}`,
      { values: [0] },
      {
        other: (g) => asm`
          ${g.barrier()}; mov ecx, 1
          next: mov [data], ecx; mov [data + 64], ecx; inc ecx; cmp ecx, ${ROUNDS}; jbe next`,
      },
    ),
    long(
      'with MFENCE between, one of two processors sees the store of the other',
      'SDM vol. 3A §8.2.5',
      (g) => asm`
        mov esi, ${MEETINGS}; xor edi, edi
        again: mov dword [data], 0; mov dword [data + 64], 0; ${g.barrier()}
        mov dword [data], 1; mfence; mov eax, [data + 64]; ${g.barrier()}
        or eax, [data + 128]; jnz fine; inc edi; fine: ${g.barrier()}; dec esi; jnz again
        mov eax, edi; ${report}`,
      { values: [0] },
      {
        other: (g) => asm`
          mov esi, ${MEETINGS}
          again: ${g.barrier()}; mov dword [data + 64], 1; mfence; mov eax, [data]; mov [data + 128], eax
          ${g.barrier()}; ${g.barrier()}; dec esi; jnz again`,
      },
    ),
    long(
      'code changed by another processor runs changed behind a serializing instruction',
      'SDM vol. 3A §8.1.3',
      (g) =>
        asm`call data; ${report}; ${g.barrier()}; ${g.barrier()}; xor eax, eax; cpuid; call data; ${report}`,
      { values: [1, 7] },
      {
        // mov eax, 1; ret
        prepare: (g) => g.memory.write(DATA, Uint8Array.of(0xb8, 1, 0, 0, 0, 0xc3)),
        other: (g) => asm`${g.barrier()}; mov byte [data + 1], 7; ${g.barrier()}`,
      },
    ),
    ring0(
      'INVLPG makes an entry count that another processor has changed',
      'SDM vol. 3A §4.10.5',
      (g) => asm`
        mov rbx, ${PAGE}; mov eax, [rbx]; ${report}; ${g.barrier()}; ${g.barrier()}
        invlpg [rbx]; mov eax, [rbx]; ${report}`,
      { values: [1, 2] },
      {
        prepare: (g) => {
          g.memory.writeU32(PAGE, 1)
          g.memory.writeU32(DATA, 2)
        },
        other: (g) => asm`
          ${g.barrier()}; mov rcx, ${g.pages.entry(BigInt(PAGE))!.gpa}
          mov rax, [rcx]; xor rax, ${PAGE ^ DATA}; mov [rcx], rax; ${g.barrier()}`,
      },
    ),
    ipi('a fixed IPI delivers its vector', 0x51, 'INT 0x51'),
    ipi('an NMI is sent by an IPI', 0x400, 'NMI'),
    ipi('an IPI to all but the sender arrives', 0xc_0052, 'INT 0x52'),
    ring0(
      'an IPI wakes a processor from HLT',
      'SDM vol. 2A, HLT; vol. 3A §10.6.1',
      (g) => asm`${X2APIC_ON}; ${g.barrier()}; sti; @halt: hlt; jmp @halt`,
      { raises: 'INT 0x53' },
      {
        ...apic,
        other: (g) => asm`${X2APIC_ON}; ${g.barrier()}; ${writeApic(0x830, 0x53, 0)}`,
      },
    ),
    long(
      'the TSC of two processors does not go back between them',
      'SDM vol. 3B §17.17.1',
      (g) => asm`
        mov esi, ${MEETINGS}; xor edi, edi
        again: rdtsc; shl rdx, 32; or rax, rdx; mov [data], rax; ${g.barrier()}; ${g.barrier()}
        mov rbx, [data + 64]; cmp rbx, [data]; jae fine; inc edi
        fine: dec esi; jnz again; mov eax, edi; ${report}`,
      { values: [0] },
      {
        other: (g) => asm`
          mov esi, ${MEETINGS}
          again: ${g.barrier()}; rdtsc; shl rdx, 32; or rax, rdx; mov [data + 64], rax; ${g.barrier()}
          dec esi; jnz again`,
      },
    ),
  ],
}
