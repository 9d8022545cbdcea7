// Assembled from interrupted.S; change that and run `npm run assemble`.

/** Where the guest is loaded, where it starts, where the host puts its parameters. */
export const layout = {
  gpa: 0x9000,
  parameters: 0x92d0,
  start: 0x9000,
} as const

// biome-ignore format: one line of source, one line of bytes
const lines = [
  '0f011519020000', // lgdt [rip + gdt_register]
  '0f011d1c020000', // lidt [rip + idt_register]
  '66b82800', // mov ax, 0x28
  '0f00d8', // ltr ax
  'b91b000000', // mov ecx, IA32_APIC_BASE         # x2APIC mode
  '0f32', // rdmsr
  '0d000c0000', // or eax, 0xc00
  '0f30', // wrmsr
  'b90f080000', // mov ecx, X2APIC_SVR
  'b8ff010000', // mov eax, 0x1ff
  '31d2', // xor edx, edx
  '0f30', // wrmsr
  'b93e080000', // mov ecx, X2APIC_DIVIDE
  'b80b000000', // mov eax, 0xb
  '0f30', // wrmsr
  'b932080000', // mov ecx, X2APIC_LVT_TIMER
  '8b0594020000', // mov eax, [rip + timer_mode]
  '83c840', // or eax, TIMER_VECTOR
  '0f30', // wrmsr
  'bf00b00000', // mov edi, idt                    # every exception is a fault, but for #UD and the timer
  'b920000000', // mov ecx, 32
  '488d05f2000000', // lea rax, [rip + fault]
  'e841000000', // 1:  call gate
  'e2f9', // loop 1b
  'bf60b00000', // mov edi, idt + 6*16
  '488d05c1000000', // lea rax, [rip + finished]
  'e82e000000', // call gate
  'bf00b40000', // mov edi, idt + TIMER_VECTOR*16
  '488d0561000000', // lea rax, [rip + tick]
  'e81d000000', // call gate
  'e82e000000', // call arm
  '6a1b', // push 0x1b                       # ss, rsp, rflags with IF, cs, rip
  '6800e00000', // push stack3
  '6802020000', // push 0x202
  '6a23', // push 0x23
  '488d05b7000000', // lea rax, [rip + compute]
  '50', // push rax
  '48cf', // iretq
  '668907', // mov [rdi], ax                   # all code is below 64 KiB
  '66c747020800', // mov word ptr [rdi + 2], 0x08
  '48c74704008e0000', // mov qword ptr [rdi + 4], 0x8e00
  '4883c710', // add rdi, 16
  'c3', // ret
  '31d2', // xor edx, edx
  '8b0516020000', // mov eax, [rip + period]
  'b938080000', // mov ecx, X2APIC_INITIAL_COUNT
  '833d0e02000000', // cmp dword ptr [rip + timer_mode], 0
  '7410', // je 1f
  '0f31', // rdtsc
  '030500020000', // add eax, [rip + period]
  '83d200', // adc edx, 0
  'b9e0060000', // mov ecx, IA32_TSC_DEADLINE
  '0f30', // 1:  wrmsr
  'c3', // ret
  '50', // push rax
  '51', // push rcx
  '52', // push rdx
  '8b05f4010000', // mov eax, [rip + ticks]
  '3b05e2010000', // cmp eax, [rip + ticks_wanted]
  '732e', // jae 1f
  '8b05ea010000', // mov eax, [rip + tick_sum]       # a sum that depends on every tick, in order
  '6bc01f', // imul eax, eax, 31
  'ff05dd010000', // inc dword ptr [rip + ticks]
  '0305d7010000', // add eax, [rip + ticks]
  '8905d5010000', // mov [rip + tick_sum], eax
  '8b05cb010000', // mov eax, [rip + ticks]
  '3b05b9010000', // cmp eax, [rip + ticks_wanted]
  '7305', // jae 1f
  'e898ffffff', // call arm
  'b90b080000', // 1:  mov ecx, X2APIC_EOI
  '31c0', // xor eax, eax
  '31d2', // xor edx, edx
  '0f30', // wrmsr
  '5a', // pop rdx
  '59', // pop rcx
  '58', // pop rax
  '48cf', // iretq
  'fa', // cli
  '8b05a7010000', // 1:  mov eax, [rip + ticks]
  '3b0595010000', // cmp eax, [rip + ticks_wanted]
  '7305', // jae 2f
  'fb', // sti
  'f4', // hlt
  'fa', // cli
  'ebed', // jmp 1b
  '8b0598010000', // 2:  mov eax, [rip + tick_sum]
  'e799', // out DONE_PORT, eax
  'ebf6', // jmp 2b
  '488b0424', // mov rax, [rsp]
  'e79a', // out FAULT_PORT, eax
  'ebf8', // jmp fault
  'dbe3', // fninit
  'd9e8', // fld1
  'f30f6f053c010000', // movdqu xmm0, [rip + seed]
  'f30f6f0d44010000', // movdqu xmm1, [rip + seed + 16]
  '48c7c001000000', // mov rax, 1
  '48bb2d7f954c2df45158', // movabs rbx, 6364136223846793005
  '49b84f8167f77e7b0514', // movabs r8, 1442695040888963407
  '8b0d43010000', // mov ecx, [rip + iterations]
  '480fafc3', // 1:  imul rax, rbx                   # integers
  '4c01c0', // add rax, r8
  '4989c1', // mov r9, rax
  '49c1c911', // ror r9, 17
  '4c31c8', // xor rax, r9
  '66480f6ed0', // movq xmm2, rax                  # SSE
  '660fd4c2', // paddq xmm0, xmm2
  '660fefc8', // pxor xmm1, xmm0
  '660f70c093', // pshufd xmm0, xmm0, 0x93
  'd80d0a010000', // fmul dword ptr [rip + half]     # x87, in its full 80 bits
  'd80508010000', // fadd dword ptr [rip + third]
  'd9fa', // fsqrt
  'ffc9', // dec ecx
  '75cb', // jnz 1b
  '48890527010000', // mov [rip + sums], rax
  'f30f7f052f010000', // movdqu [rip + sums + 16], xmm0
  'f30f7f0d37010000', // movdqu [rip + sums + 32], xmm1
  'db3d41010000', // fstp tbyte ptr [rip + sums + 48]
  '0f0b', // ud2
  '0f1f8000000000', // .balign 8
  '0000000000000000', // .quad 0
  '00000000009b2000', // .quad 0x00209b0000000000        # 0x08: code, ring 0
  '0000000000930000', // .quad 0x0000930000000000        # 0x10: data, ring 0
  '0000000000f30000', // .quad 0x0000f30000000000        # 0x18: data, ring 3
  '0000000000fb2000', // .quad 0x0020fb0000000000        # 0x20: code, ring 3
  '6700389200890000', // .quad 0x0000890000000067 | ((tss - start + 0x9000) << 16)
  '0000000000000000', // .quad 0
  '3700', // .word . - gdt - 1
  'e891000000000000', // .quad gdt
  '0f04', // .word 0x41*16 - 1
  '00b0000000000000', // .quad idt
  '0f1f4000', // .balign 8
  '00000000', // .long 0
  '00d0000000000000', // .quad stack0                    # rsp0
  '000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000', // .fill 90, 1, 0
  '6800', // .word 0x68                      # no I/O permission map
  'efcdab89674523011032547698badcfe', // .quad 0x0123456789abcdef, 0xfedcba9876543210
  '78695a4b3c2d1e0ff0e1d2c3b4a59687', // .quad 0x0f1e2d3c4b5a6978, 0x8796a5b4c3d2e1f0
  '0000003f', // half:       .float 0.5
  'aaaaaa3e', // third:      .float 0.3333333
  '0f1f840000000000', // .balign 16
  '00000000', // iterations:   .long 0               # of the computation
  '00000000', // ticks_wanted: .long 0               # interrupts in the chain
  '00000000', // period:       .long 0               # between them, in the timer's own units
  '00000000', // timer_mode:   .long 0               # bits of the LVT: 0 one-shot, 0x40000 TSC deadline
  '00000000', // ticks:        .long 0
  '00000000', // tick_sum:     .long 0
  '0f1f840000000000', // .balign 16
  '00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000', // sums:         .fill 64, 1, 0
]

/** The guest's code and data. */
export const image: Uint8Array = Buffer.from(lines.join(''), 'hex')
