// Paging and segmentation: rights, faults and their error codes, accessed and dirty bits.

import { asm } from '../assembler/asm.js'
import type { TestGuest } from '../guest.js'
import { DATA } from '../layout.js'
import { type CheckArea, checksAt, LONG, PROTECTED, RING0, RING3, report } from './check.js'

const long = checksAt(LONG)
const ring0 = checksAt(RING0)
const ring3 = checksAt(RING3)
const legacy = checksAt(PROTECTED)
const PAGE = 4096
/** A page of RAM that nothing else uses. */
const FREE = 0x2_0000
const free = BigInt(FREE)
const linearData = BigInt(DATA)
const UPPER = 0xffff_8000_0000_0000n
const ACCESSED = 1n << 5n
const DIRTY = 1n << 6n

const map = (flags: Parameters<TestGuest['pages']['map']>[3]) => (g: TestGuest) => {
  g.pages.map(free, FREE, PAGE, { user: true, ...flags })
}
const clearBits = (g: TestGuest) => g.pages.change(free, (entry) => entry & ~(ACCESSED | DIRTY))
const WRITE = asm`mov rbx, ${FREE}; mov dword [rbx], 1`
const READ = asm`mov rbx, ${FREE}; mov eax, [rbx]`
/** Sends the accessed (1) and dirty (2) bits of the free page's entry. */
const reportBits = (g: TestGuest) =>
  asm`mov rbx, ${g.pages.entry(free)!.gpa}; mov eax, [rbx]; shr eax, 5; and eax, 3; ${report}`
const user = [{ mode: 'long', ring: 3 }] as const

export const protection: CheckArea = {
  area: 'paging and segmentation',
  checks: [
    ring0(
      'a read of what is not mapped: #PF with error code 0',
      'SDM vol. 3A §4.7',
      (g) => asm`mov rbx, ${g.end}; mov eax, [rbx]`,
      { raises: '#PF', errorCode: 0, cr2: 0x4_0000n },
    ),
    ring0(
      'a write to what is not mapped: error code 2',
      'SDM vol. 3A §4.7',
      (g) => asm`mov rbx, ${g.end}; mov [rbx + 5], al`,
      { raises: '#PF', errorCode: 2, cr2: 0x4_0005n },
    ),
    ring3(
      'a read in ring 3 of what is not mapped: error code 4',
      'SDM vol. 3A §4.7',
      (g) => asm`mov rbx, ${g.end}; mov eax, [rbx]`,
      { raises: '#PF', errorCode: 4 },
    ),
    ring3(
      'a read in ring 3 of a supervisor page: error code 5',
      'SDM vol. 3A §4.6',
      READ,
      { raises: '#PF', errorCode: 5, cr2: free },
      { prepare: map({ user: false }) },
    ),
    ring3(
      'a write in ring 3 to a read-only page: error code 7',
      'SDM vol. 3A §4.6',
      WRITE,
      { raises: '#PF', errorCode: 7 },
      { prepare: map({ writable: false }) },
    ),
    ring0(
      'a write in ring 0 to a read-only page with CR0.WP: error code 3',
      'SDM vol. 3A §4.6',
      WRITE,
      { raises: '#PF', errorCode: 3 },
      { prepare: map({ writable: false }) },
    ),
    ring0(
      'a write in ring 0 to a read-only page without CR0.WP',
      'SDM vol. 3A §4.6',
      WRITE,
      {},
      { prepare: map({ writable: false }), guest: { cr0: { wp: false } } },
    ),
    ring0(
      'a fetch from a page with XD: error code 0x11',
      'SDM vol. 3A §4.6',
      asm`mov rax, ${FREE}; jmp rax`,
      { raises: '#PF', errorCode: 0x11, cr2: free },
      { prepare: map({ nx: true }), guest: { efer: { nxe: true } } },
    ),
    ring3(
      'a fetch in ring 3 from a page with XD: error code 0x15',
      'SDM vol. 3A §4.6',
      asm`mov rax, ${FREE}; jmp rax`,
      { raises: '#PF', errorCode: 0x15 },
      { prepare: map({ nx: true }), guest: { efer: { nxe: true } } },
    ),
    ring0(
      'XD without EFER.NXE is a reserved bit: error code 9',
      'SDM vol. 3A §4.5',
      READ,
      { raises: '#PF', errorCode: 9 },
      { prepare: (g) => g.pages.change(free, (entry) => entry | (1n << 63n)) },
    ),
    ring0(
      'a reserved address bit in an entry: error code 9',
      'SDM vol. 3A §4.5',
      READ,
      { raises: '#PF', errorCode: 9 },
      { prepare: (g) => g.pages.change(free, (entry) => entry | (1n << 51n)) },
    ),
    long(
      'the first page of the upper half',
      'SDM vol. 1 §3.3.7.1',
      asm`mov rbx, ${UPPER}; mov dword [rbx], 7; mov ecx, ${FREE}; mov eax, [rcx]; ${report}`,
      { values: [7] },
      { prepare: (g) => g.pages.map(UPPER, FREE, PAGE, { user: true }) },
    ),
    checksAt([{ mode: 'protected', ring: 0 }])(
      'MOV to CR0 turns 32-bit paging on',
      'SDM vol. 3A §4.1.2',
      asm`mov eax, cr4; or eax, 0x10; mov cr4, eax; mov eax, ${FREE}; mov cr3, eax
          mov eax, cr0; or eax, 0x80000000; mov cr0, eax; jmp there
          there: mov eax, cr0; shr eax, 31; ${report}`,
      { values: [1] },
      // A page of 4 MiB at 0: present, writable, of that size.
      { prepare: (g) => g.memory.writeU32(FREE, 0x83) },
    ),
    ring0(
      'SMEP keeps ring 0 from running user pages',
      'SDM vol. 3A §4.6',
      asm`nop`,
      { raises: '#PF', errorCode: 0x11 },
      {
        requires: ['processor:smep'],
        guest: { cpuid: { smep: true }, cr4: { smep: true } },
        prepare: (g) => supervisorHandlers(g),
      },
    ),
    ring0(
      'SMAP keeps ring 0 from user data',
      'SDM vol. 3A §4.6',
      READ,
      { raises: '#PF', errorCode: 1 },
      {
        requires: ['processor:smap'],
        guest: { cpuid: { smap: true }, cr4: { smap: true } },
        prepare: (g) => allSupervisor(g),
      },
    ),
    ring0(
      'SMAP lets ring 0 at user data with RFLAGS.AC',
      'SDM vol. 3A §4.6',
      READ,
      {},
      {
        requires: ['processor:smap'],
        guest: { cpuid: { smap: true }, cr4: { smap: true } },
        prepare: (g) => allSupervisor(g),
        regs: { rflags: 0x4_0002n },
      },
    ),
    ring0(
      'STAC and CLAC set and clear RFLAGS.AC',
      'SDM vol. 2A, CLAC; vol. 2B, STAC',
      asm`stac; pushfq; pop rax; shr eax, 18; and eax, 1; ${report}; clac; pushfq; pop rax; shr eax, 18; and eax, 1; ${report}`,
      { values: [1, 0] },
      {
        requires: ['processor:smap'],
        guest: { cpuid: { smap: true }, cr4: { smap: true } },
        prepare: (g) => allSupervisor(g),
      },
    ),
    ring0(
      'a read sets the accessed bit only',
      'SDM vol. 3A §4.8',
      (g) => asm`${READ}; ${reportBits(g)}`,
      { values: [1] },
      { prepare: clearBits },
    ),
    ring0(
      'a write sets accessed and dirty',
      'SDM vol. 3A §4.8',
      (g) => asm`${WRITE}; ${reportBits(g)}`,
      { values: [3] },
      { prepare: clearBits },
    ),
    ring3(
      'a write in ring 3 sets accessed and dirty',
      'SDM vol. 3A §4.8',
      (g) => asm`${WRITE}; ${reportBits(g)}`,
      { values: [3] },
      { prepare: clearBits },
    ),
    ring0(
      'no access, no bits',
      'SDM vol. 3A §4.8',
      reportBits,
      { values: [0] },
      { prepare: clearBits },
    ),
    long(
      'two linear pages show one physical page',
      'SDM vol. 3A §4.5',
      (g) => asm`mov rbx, ${g.end}; mov dword [rbx], 0x77; mov eax, [data]; ${report}`,
      { values: [0x77] },
      { prepare: (g) => void g.pages.map(g.end, DATA, PAGE, { user: true }) },
    ),
    long(
      'an address in the upper half is mapped',
      'SDM vol. 3A §4.5',
      asm`mov rbx, 0xffff900000000000; mov dword [rbx], 0x78; mov eax, [data]; ${report}`,
      { values: [0x78] },
      { prepare: (g) => void g.pages.map(0xffff_9000_0000_0000n, DATA, PAGE, { user: true }) },
    ),
    ring0(
      'INVLPG makes a changed entry count',
      'SDM vol. 3A §4.10.4',
      (g) =>
        asm`${READ}; mov rcx, ${g.pages.entry(free)!.gpa}; mov rax, [rcx]; xor eax, ${FREE ^ DATA}; mov [rcx], rax; invlpg [rbx]; mov dword [data], 0x79; mov eax, [rbx]; ${report}`,
      { values: [0x79] },
    ),
    ring0(
      'a load of CR3 makes a changed entry count',
      'SDM vol. 3A §4.10.4',
      (g) =>
        asm`${READ}; mov rcx, ${g.pages.entry(free)!.gpa}; mov rax, [rcx]; xor eax, ${FREE ^ DATA}; mov [rcx], rax; mov rax, cr3; mov cr3, rax; mov dword [data], 0x7a; mov eax, [rbx]; ${report}`,
      { values: [0x7a] },
    ),
    ring0(
      'a page fault handler can map the page and go on',
      'SDM vol. 3A §6.6',
      (g) => asm`mov rbx, ${g.end}; mov eax, [rbx]; ${report}`,
      { values: [0x7b] },
      {
        prepare: (g) => {
          // An entry of the table that maps RAM's last page, one further.
          const { gpa, entry } = g.pages.entry(g.end - 1n)!
          const wanted = (entry & 0xfffn) | linearData
          g.memory.writeU32(DATA, 0x7b)
          g.handle(
            14,
            asm`push rax; push rcx; mov rcx, ${gpa + 8}; mov rax, ${wanted}; mov [rcx], rax; pop rcx; pop rax; add rsp, 8; iretq`,
          )
        },
      },
    ),
    long(
      'code that was changed runs changed',
      'SDM vol. 3A §8.1.3',
      asm`mov byte [patch + 1], 5; jmp patch; patch: mov eax, 4; ${report}`,
      { values: [5] },
    ),
    ring3(
      'SGDT with CR4.UMIP raises #GP in ring 3',
      'SDM vol. 2B, SGDT',
      asm`sgdt [data]`,
      { raises: '#GP', errorCode: 0 },
      { requires: ['processor:umip'], guest: { cpuid: { umip: true }, cr4: { umip: true } } },
    ),
    ring3(
      'SMSW with CR4.UMIP raises #GP in ring 3',
      'SDM vol. 2B, SMSW',
      asm`smsw eax`,
      { raises: '#GP', errorCode: 0 },
      { requires: ['processor:umip'], guest: { cpuid: { umip: true }, cr4: { umip: true } } },
    ),
    ring3(
      'SGDT without CR4.UMIP in ring 3',
      'SDM vol. 2B, SGDT',
      asm`sgdt [data]; mov eax, [data + 2]; ${report}`,
      { values: [0x1000] },
    ),
    ring3(
      'SIDT without CR4.UMIP in ring 3',
      'SDM vol. 2B, SIDT',
      asm`sidt [data]; mov eax, [data + 2]; ${report}`,
      { values: [0x2000] },
    ),
    ring3('STR without CR4.UMIP in ring 3', 'SDM vol. 2B, STR', asm`str eax; ${report}`, {
      values: [0x38],
    }),
    long(
      'a selector beyond the table raises #GP with it',
      'SDM vol. 2B, MOV',
      asm`mov ax, 0x1238; mov ds, ax`,
      { raises: '#GP', errorCode: 0x1238 },
    ),
    ring3(
      'a data segment of ring 0 raises #GP in ring 3',
      'SDM vol. 3A §5.6',
      asm`mov ax, 0x10; mov ds, ax`,
      { raises: '#GP', errorCode: 0x10 },
    ),
    long(
      'a null selector in DS is no error',
      'SDM vol. 2B, MOV',
      asm`xor eax, eax; mov ds, ax`,
      {},
    ),
    ring3(
      'a null selector in SS raises #GP in ring 3',
      'SDM vol. 2B, MOV',
      asm`xor eax, eax; mov ss, ax`,
      { raises: '#GP', errorCode: 0 },
    ),
    ring0('a code segment in SS raises #GP', 'SDM vol. 2B, MOV', asm`mov ax, 8; mov ss, ax`, {
      raises: '#GP',
      errorCode: 8,
    }),
    ring0(
      'a segment that is not present raises #NP',
      'SDM vol. 2B, MOV',
      asm`mov ax, 0x58; mov ds, ax`,
      { raises: '#NP', errorCode: 0x58 },
      { prepare: (g) => g.memory.writeU8(0x1000 + 0x58 + 5, 0x53) },
    ),
    long('MOV CS raises #UD', 'SDM vol. 2B, MOV', asm`db 0x8e, 0xc8`, { raises: '#UD' }),
    long(
      'LAR gives the access rights',
      'SDM vol. 2A, LAR',
      asm`mov ecx, 0x28; lar eax, ecx; and eax, 0xf800; ${report}`,
      { values: [0xf800] },
    ),
    long('LSL gives the limit', 'SDM vol. 2A, LSL', asm`mov ecx, 0x20; lsl eax, ecx; ${report}`, {
      values: [0xffff_ffff],
    }),
    long(
      'VERR and VERW of a code segment',
      'SDM vol. 2D, VERR/VERW',
      asm`mov ax, 0x28; verr ax; setz al; movzx eax, al; ${report}; mov ax, 0x28; verw ax; setz al; movzx eax, al; ${report}`,
      { values: [1, 0] },
    ),
    long(
      'a far call to a data segment raises #GP',
      'SDM vol. 2A, CALL',
      asm`push 0x20; lea rax, [there]; push rax; retfq; there: nop`,
      { raises: '#GP', errorCode: 0x20 },
    ),
    legacy('a write to a code segment raises #GP', 'SDM vol. 3A §5.3', asm`mov cs:[data], eax`, {
      raises: '#GP',
      errorCode: 0,
    }),
    legacy(
      'an offset beyond the limit raises #GP',
      'SDM vol. 3A §5.3',
      asm`mov eax, fs:[0x1000]`,
      { raises: '#GP', errorCode: 0 },
      { sregs: (s) => ({ fs: { ...s.fs, limit: 0xfff, g: 0 } }) },
    ),
    legacy(
      'an offset within the limit',
      'SDM vol. 3A §5.3',
      asm`mov eax, fs:[0xffc]; xor eax, eax; ${report}`,
      { values: [0] },
      { sregs: (s) => ({ fs: { ...s.fs, limit: 0xfff, g: 0 } }) },
    ),
    legacy(
      'a base is added to offsets',
      'SDM vol. 3A §3.4',
      asm`mov dword [data], 0x7c; mov eax, fs:[0]; ${report}`,
      { values: [0x7c] },
      { sregs: (s) => ({ fs: { ...s.fs, base: linearData } }) },
    ),
    legacy(
      'an offset beyond the stack limit raises #SS',
      'SDM vol. 3A §6.15, interrupt 12',
      asm`mov eax, ss:[0x20000]`,
      { raises: '#SS', errorCode: 0 },
      {
        places: [{ mode: 'protected', ring: 3 }],
        sregs: (s) => ({ ss: { ...s.ss, limit: 0x1_ffff, g: 0 } }),
      },
    ),
    checksAt(user)(
      'protection keys forbid data of their pages',
      'SDM vol. 3A §4.6.2',
      asm`mov eax, 4; xor ecx, ecx; xor edx, edx; wrpkru; ${READ}`,
      { raises: '#PF', errorCode: 0x25 },
      {
        requires: ['cpu:pku'],
        guest: { cpuid: { pku: true }, cr4: { pke: true } },
        prepare: map({ pkey: 1 }),
      },
    ),
  ],
}

/** Every page but the free one is a supervisor's. */
function allSupervisor(g: TestGuest): void {
  g.pages.map(0n, 0, g.memory.size, { user: false })
  g.pages.map(free, FREE, PAGE, { user: true })
}

/** Handlers and tables may be used by ring 0 under SMEP; the code is a user's. */
function supervisorHandlers(g: TestGuest): void {
  g.pages.map(0n, 0, 0x7000, { user: false })
}
