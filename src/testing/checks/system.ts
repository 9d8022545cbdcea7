// Control registers, MSRs, CPUID, and what ring 3 may not do.

import { asm } from '../assembler/asm.js'
import { SELECTORS } from '../descriptors.js'
import type { Requirement } from '../requires.js'
import { type CheckArea, checksAt, RING0, RING3, report } from './check.js'

const ring0 = checksAt(RING0)
const ring3 = checksAt(RING3)
const gp = { raises: '#GP', errorCode: 0 } as const
const READ_MSR = asm`rdmsr; ${report}; mov eax, edx; ${report}`
const writeMsr = (index: number, value: bigint) =>
  asm`mov ecx, ${index}; mov eax, ${value & 0xffff_ffffn}; mov edx, ${value >> 32n}; wrmsr`

/** An MSR keeps what is written. */
const keeps = (name: string, index: number, value: bigint, source: string, more = {}) =>
  ring0(
    `${name} keeps a value`,
    source,
    asm`${writeMsr(index, value)}; ${READ_MSR}`,
    {
      values: [Number(value & 0xffff_ffffn), Number(value >> 32n)],
    },
    more,
  )

/** Refused in ring 3. */
const privileged = (name: string, code: string, volume = '2A') =>
  ring3(`${name} raises #GP in ring 3`, `SDM vol. ${volume}, ${name}`, asm`${code}`, gp)

/** By the instruction that processors of that maker have for it. */
const hypercalls = (name: 'VMCALL' | 'VMMCALL', vendor: Requirement) => {
  const [source, code] = ['KVM API, hypercalls', asm`mov eax, 0x7fff; ${name}; ${report}`]
  const more = { requires: [vendor] }
  return [
    ring0(
      `${name} of no hypercall gives -KVM_ENOSYS`,
      source,
      code,
      { values: [-1000 >>> 0] },
      more,
    ),
    ring3(`${name} from ring 3 gives -KVM_EPERM`, source, code, { values: [-1 >>> 0] }, more),
  ]
}

export const system: CheckArea = {
  area: 'control registers and MSRs',
  checks: [
    privileged('HLT', 'hlt'),
    privileged('CLTS', 'clts'),
    privileged('INVD', 'invd'),
    privileged('WBINVD', 'wbinvd', '2D'),
    privileged('INVLPG', 'invlpg [rax]'),
    privileged('LGDT', 'lgdt [data]'),
    privileged('LIDT', 'lidt [data]'),
    privileged('LLDT', 'lldt ax'),
    privileged('LTR', 'ltr ax'),
    privileged('LMSW', 'lmsw ax'),
    privileged('RDMSR', 'mov ecx, 0x10; rdmsr', '2B'),
    privileged('WRMSR', 'mov ecx, 0x174; xor eax, eax; xor edx, edx; wrmsr', '2D'),
    privileged('MOV from CR0', 'mov rax, cr0', '2B'),
    privileged('MOV to CR3', 'mov cr3, rax', '2B'),
    privileged('SWAPGS', 'swapgs', '2B'),
    ring3('SYSRET raises #GP in ring 3', 'SDM vol. 2B, SYSRET', asm`sysretq`, gp, {
      guest: { efer: { sce: true } },
    }),
    ring3('CLI raises #GP in ring 3 with IOPL 0', 'SDM vol. 2A, CLI', asm`cli`, gp),
    ring3('STI raises #GP in ring 3 with IOPL 0', 'SDM vol. 2B, STI', asm`sti`, gp),
    ring3(
      'CLI is allowed in ring 3 with IOPL 3',
      'SDM vol. 2A, CLI',
      asm`cli; pushfq; pop rax; and eax, 0x200; ${report}`,
      { values: [0] },
      { regs: { rflags: 0x3202n } },
    ),
    ring3(
      'PUSHF shows IOPL in ring 3',
      'SDM vol. 1 §3.4.3.3',
      asm`pushfq; pop rax; and eax, 0x3000; ${report}`,
      { values: [0x3000] },
      { regs: { rflags: 0x3002n } },
    ),
    ring3(
      'POPF leaves IF and IOPL in ring 3',
      'SDM vol. 2B, POPF/POPFD/POPFQ',
      asm`push 0x3200; popfq; pushfq; pop rax; and eax, 0x3200; ${report}`,
      { values: [0] },
    ),
    ring3(
      'OUT to a port that the I/O map forbids raises #GP',
      'SDM vol. 1 §19.5.2',
      asm`out 0x10, al`,
      gp,
    ),
    ring3(
      'OUT to any port with IOPL 3',
      'SDM vol. 1 §19.5.1',
      asm`out 0x10, al`,
      { exit: 'io' },
      { regs: { rflags: 0x3002n } },
    ),
    ring0(
      'LMSW cannot clear CR0.PE',
      'SDM vol. 2A, LMSW',
      asm`xor eax, eax; lmsw ax; smsw ax; and eax, 1; ${report}`,
      { values: [1] },
    ),
    ring0(
      'CLTS clears CR0.TS',
      'SDM vol. 2A, CLTS',
      asm`clts; mov rax, cr0; and eax, 8; ${report}`,
      { values: [0] },
      { guest: { cr0: { ts: true } } },
    ),
    ring0(
      'CR0.PG without CR0.PE raises #GP',
      'SDM vol. 2B, MOV—Move to/from Control Registers',
      asm`mov rax, cr0; and eax, ~1; mov cr0, rax`,
      gp,
    ),
    ring0(
      'CR0.NW without CR0.CD raises #GP',
      'SDM vol. 2B, MOV—Move to/from Control Registers',
      asm`mov rax, cr0; or eax, 0x20000000; mov cr0, rax`,
      gp,
    ),
    ring0(
      'upper bits of CR0 raise #GP',
      'SDM vol. 2B, MOV—Move to/from Control Registers',
      asm`mov rax, cr0; bts rax, 40; mov cr0, rax`,
      gp,
    ),
    ring0(
      'CR4.PAE cannot be cleared in long mode',
      'SDM vol. 2B, MOV—Move to/from Control Registers',
      asm`mov rax, cr4; and eax, ~0x20; mov cr4, rax`,
      gp,
    ),
    ring0(
      'a reserved bit of CR4 raises #GP',
      'SDM vol. 2B, MOV—Move to/from Control Registers',
      asm`mov rax, cr4; bts rax, 15; mov cr4, rax`,
      gp,
    ),
    ring0('CR1 raises #UD', 'SDM vol. 2B, MOV—Move to/from Control Registers', asm`mov rax, cr1`, {
      raises: '#UD',
    }),
    ring0(
      'CR8 keeps 4 bits',
      'SDM vol. 3A §10.8.6',
      asm`mov eax, 9; mov cr8, rax; xor eax, eax; mov rax, cr8; ${report}`,
      { values: [9] },
      { guest: { irqchip: 'kernel' } },
    ),
    ring0('CR8 above 15 raises #GP', 'SDM vol. 3A §10.8.6', asm`mov eax, 16; mov cr8, rax`, gp),
    ring0(
      'leaving long mode by EFER.LME with paging raises #GP',
      'SDM vol. 3A §9.8.5',
      asm`mov ecx, 0xc0000080; rdmsr; and eax, ~0x100; wrmsr`,
      gp,
    ),
    ring0(
      'a reserved bit of EFER raises #GP',
      'SDM vol. 3A §2.2.1',
      asm`mov ecx, 0xc0000080; rdmsr; or eax, 2; bts edx, 31; wrmsr`,
      gp,
    ),
    ring0(
      'an MSR that does not exist raises #GP',
      'SDM vol. 2B, RDMSR',
      asm`mov ecx, 0x12345; rdmsr`,
      gp,
    ),
    ring0(
      'FS_BASE takes no non-canonical address',
      'SDM vol. 2D, WRMSR',
      asm`mov ecx, 0xc0000100; xor eax, eax; mov edx, 0x80000000; wrmsr`,
      gp,
    ),
    ring0(
      'LSTAR takes no non-canonical address',
      'SDM vol. 2D, WRMSR',
      asm`mov ecx, 0xc0000082; xor eax, eax; mov edx, 0x80000000; wrmsr`,
      gp,
    ),
    ring0(
      'PAT takes no reserved type',
      'SDM vol. 3A §11.12.4',
      asm`mov ecx, 0x277; mov eax, 0x02020202; xor edx, edx; wrmsr`,
      gp,
    ),
    keeps('PAT', 0x277, 0x0007_0406_0007_0406n, 'SDM vol. 3A §11.12'),
    keeps('SYSENTER_EIP', 0x176, 0xffff_8000_1234_5678n, 'SDM vol. 2B, SYSENTER'),
    keeps('SYSENTER_ESP', 0x175, 0xffff_8000_0000_1000n, 'SDM vol. 2B, SYSENTER'),
    keeps('STAR', 0xc000_0081, 0x0018_0008_0000_0000n, 'SDM vol. 3A §5.8.8'),
    keeps('LSTAR', 0xc000_0082, 0xffff_8000_0000_4000n, 'SDM vol. 3A §5.8.8'),
    keeps('FMASK', 0xc000_0084, 0x4_7700n, 'SDM vol. 3A §5.8.8'),
    keeps('FS_BASE', 0xc000_0100, 0x1234_5678_9000n, 'SDM vol. 3A §3.4.4'),
    keeps('KERNEL_GS_BASE', 0xc000_0102, 0x7fff_0000_1000n, 'SDM vol. 3A §5.8.8'),
    keeps('TSC_AUX', 0xc000_0103, 7n, 'SDM vol. 2B, RDTSCP', {
      requires: ['processor:rdtscp'],
      guest: { cpuid: { rdtscp: true } },
    }),
    ring0(
      'FS_BASE is added to addresses',
      'SDM vol. 3A §3.4.4',
      asm`${writeMsr(0xc000_0100, 0xf000n)}; mov dword [data], 0x66; mov eax, fs:[0]; ${report}`,
      { values: [0x66] },
    ),
    ring0(
      'SWAPGS exchanges the bases',
      'SDM vol. 2B, SWAPGS',
      asm`${writeMsr(0xc000_0102, 0xf000n)}; mov dword [data], 0x67; swapgs; mov eax, gs:[0]; ${report}`,
      { values: [0x67] },
    ),
    ring3(
      'RDFSBASE without CR4.FSGSBASE raises #UD',
      'SDM vol. 2B, RDFSBASE/RDGSBASE',
      asm`rdfsbase rax`,
      { raises: '#UD' },
      { requires: ['processor:fsgsbase'] },
    ),
    ring3(
      'WRFSBASE in ring 3',
      'SDM vol. 2D, WRFSBASE/WRGSBASE',
      asm`mov rax, data; mov dword [rax], 0x68; wrfsbase rax; mov eax, fs:[0]; ${report}`,
      { values: [0x68] },
      {
        requires: ['processor:fsgsbase'],
        guest: { cpuid: { fsgsbase: true }, cr4: { fsgsbase: true } },
      },
    ),
    checksAt([...RING0, ...RING3])(
      'CPUID answers from the table of the vCPU',
      'SDM vol. 2A, CPUID; KVM API 4.20',
      asm`mov eax, 0x80000002; xor ecx, ecx; cpuid; ${report}`,
      { values: [0x7473_6574] },
      {
        prepare: ({ vcpu }) => {
          const brand = (leaf: { function: number }) => leaf.function === 0x8000_0002
          vcpu.setCpuid2(
            vcpu.getCpuid2().map((leaf) => (brand(leaf) ? { ...leaf, eax: 0x7473_6574 } : leaf)),
          )
        },
      },
    ),
    checksAt([...RING0, ...RING3])(
      'CPUID does not show a feature that is hidden',
      'SDM vol. 2A, CPUID; KVM API 4.20',
      asm`mov eax, 7; xor ecx, ecx; cpuid; shr ebx, 5; and ebx, 1; mov eax, ebx; ${report}`,
      { values: [0] },
      { requires: ['processor:avx2'], guest: { cpuid: { avx2: false } } },
    ),
    ring3(
      'MOV from CS and DS gives the selectors that were loaded',
      'SDM vol. 2B, MOV',
      asm`mov eax, cs; ${report}; mov eax, ds; ${report}`,
      { values: [SELECTORS.code64[3] | 3, SELECTORS.data[3] | 3] },
    ),
    ...hypercalls('VMCALL', 'vendor:GenuineIntel'),
    ...hypercalls('VMMCALL', 'vendor:AuthenticAMD'),
    ring0(
      'RDTSC goes on',
      'SDM vol. 2B, RDTSC',
      asm`rdtsc; mov ebx, eax; mov esi, edx; rdtsc; sub eax, ebx; sbb edx, esi; mov eax, edx; ${report}`,
      { values: [0] },
    ),
    ring3('RDTSC with CR4.TSD raises #GP in ring 3', 'SDM vol. 2B, RDTSC', asm`rdtsc`, gp, {
      guest: { cr4: { tsd: true } },
    }),
    ring0(
      'WRMSR sets the TSC',
      'SDM vol. 3B §17.17.3',
      asm`${writeMsr(0x10, 0x100_0000_0000_0000n)}; rdtsc; mov eax, edx; and eax, 0xff000000; ${report}`,
      { values: [0x100_0000] },
    ),
    ring0(
      'RDTSCP gives TSC_AUX',
      'SDM vol. 2B, RDTSCP',
      asm`${writeMsr(0xc000_0103, 5n)}; rdtscp; mov eax, ecx; ${report}`,
      { values: [5] },
      {
        requires: ['processor:rdtscp'],
        guest: { cpuid: { rdtscp: true } },
      },
    ),
    ring3(
      'RDTSCP gives TSC_AUX in ring 3',
      'SDM vol. 2B, RDTSCP',
      asm`rdtscp; mov eax, ecx; ${report}`,
      { values: [5] },
      {
        requires: ['processor:rdtscp'],
        guest: { cpuid: { rdtscp: true }, msrs: { IA32_TSC_AUX: 5n } },
      },
    ),
    ring0(
      'x2APIC is turned on by APIC_BASE',
      'SDM vol. 3A §10.12.1',
      asm`mov ecx, 0x1b; rdmsr; or eax, 0x400; wrmsr; mov ecx, 0x803; rdmsr; and eax, 0xff; ${report}`,
      { values: [0x14] },
      { guest: { irqchip: 'kernel', cpuid: { x2apic: true } } },
    ),
    ring0(
      'an x2APIC register raises #GP in xAPIC mode',
      'SDM vol. 3A §10.12.2',
      asm`mov ecx, 0x802; rdmsr`,
      gp,
      { guest: { irqchip: 'kernel', cpuid: { x2apic: true } } },
    ),
    ring0(
      'the x2APIC version register is read-only',
      'SDM vol. 3A §10.12.1.2',
      asm`mov ecx, 0x1b; rdmsr; or eax, 0x400; wrmsr; mov ecx, 0x803; xor eax, eax; xor edx, edx; wrmsr`,
      gp,
      { guest: { irqchip: 'kernel', cpuid: { x2apic: true } } },
    ),
    ring0(
      'a self IPI is delivered',
      'SDM vol. 3A §10.12.11',
      asm`mov ecx, 0x1b; rdmsr; or eax, 0x400; wrmsr; mov ecx, 0x80f; mov eax, 0x1ff; xor edx, edx; wrmsr; mov ecx, 0x83f; mov eax, 0x50; wrmsr; sti; wait: pause; jmp wait`,
      { raises: 'INT 0x50' },
      { guest: { irqchip: 'kernel', cpuid: { x2apic: true } } },
    ),
  ],
}
