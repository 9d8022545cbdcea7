# A guest that is worth interrupting: 64-bit code in ring 3 computes with integers, SSE and x87 while
# a chain of LAPIC timer interrupts, each armed by the one before, counts in ring 0. A lost interrupt
# breaks the chain; a lost register changes the sums. When the computation is over, the processor
# halts until the chain is, too, and reports at port 0x99.
#
# Enters at `start` in long mode, ring 0, the first 1 GiB mapped to itself and open to ring 3.
# Loaded at 0x9000.

.intel_syntax noprefix
.set DONE_PORT, 0x99
.set FAULT_PORT, 0x9a
.set TIMER_VECTOR, 0x40
.set IA32_APIC_BASE, 0x1b
.set IA32_TSC_DEADLINE, 0x6e0
.set X2APIC_EOI, 0x80b
.set X2APIC_SVR, 0x80f
.set X2APIC_LVT_TIMER, 0x832
.set X2APIC_INITIAL_COUNT, 0x838
.set X2APIC_DIVIDE, 0x83e
.set idt, 0xb000                    # RAM, zero at the start
.set stack0, 0xd000
.set stack3, 0xe000

.code64
start:
    lgdt [rip + gdt_register]
    lidt [rip + idt_register]
    mov ax, 0x28
    ltr ax
    mov ecx, IA32_APIC_BASE         # x2APIC mode
    rdmsr
    or eax, 0xc00
    wrmsr
    mov ecx, X2APIC_SVR
    mov eax, 0x1ff
    xor edx, edx
    wrmsr
    mov ecx, X2APIC_DIVIDE
    mov eax, 0xb
    wrmsr
    mov ecx, X2APIC_LVT_TIMER
    mov eax, [rip + timer_mode]
    or eax, TIMER_VECTOR
    wrmsr
    mov edi, idt                    # every exception is a fault, but for #UD and the timer
    mov ecx, 32
    lea rax, [rip + fault]
1:  call gate
    loop 1b
    mov edi, idt + 6*16
    lea rax, [rip + finished]
    call gate
    mov edi, idt + TIMER_VECTOR*16
    lea rax, [rip + tick]
    call gate
    call arm
    push 0x1b                       # ss, rsp, rflags with IF, cs, rip
    push stack3
    push 0x202
    push 0x23
    lea rax, [rip + compute]
    push rax
    iretq

# An interrupt gate at rdi for the handler rax; moves rdi to the next.
gate:
    mov [rdi], ax                   # all code is below 64 KiB
    mov word ptr [rdi + 2], 0x08
    mov qword ptr [rdi + 4], 0x8e00
    add rdi, 16
    ret

# Arms the timer once.
arm:
    xor edx, edx
    mov eax, [rip + period]
    mov ecx, X2APIC_INITIAL_COUNT
    cmp dword ptr [rip + timer_mode], 0
    je 1f
    rdtsc
    add eax, [rip + period]
    adc edx, 0
    mov ecx, IA32_TSC_DEADLINE
1:  wrmsr
    ret

# KVM lets a one-shot timer that is over fire again when its state is set, since it cannot tell whether
# the interrupt was taken: so there may be one tick too many, which after the last one counts for nothing.
tick:
    push rax
    push rcx
    push rdx
    mov eax, [rip + ticks]
    cmp eax, [rip + ticks_wanted]
    jae 1f
    mov eax, [rip + tick_sum]       # a sum that depends on every tick, in order
    imul eax, eax, 31
    inc dword ptr [rip + ticks]
    add eax, [rip + ticks]
    mov [rip + tick_sum], eax
    mov eax, [rip + ticks]
    cmp eax, [rip + ticks_wanted]
    jae 1f
    call arm
1:  mov ecx, X2APIC_EOI
    xor eax, eax
    xor edx, edx
    wrmsr
    pop rdx
    pop rcx
    pop rax
    iretq

# ring 3 says with #UD that it is through
finished:
    cli
1:  mov eax, [rip + ticks]
    cmp eax, [rip + ticks_wanted]
    jae 2f
    sti
    hlt
    cli
    jmp 1b
2:  mov eax, [rip + tick_sum]
    out DONE_PORT, eax
    jmp 2b

fault:
    mov rax, [rsp]
    out FAULT_PORT, eax
    jmp fault

# ---- ring 3 ----
compute:
    fninit
    fld1
    movdqu xmm0, [rip + seed]
    movdqu xmm1, [rip + seed + 16]
    mov rax, 1
    movabs rbx, 6364136223846793005
    movabs r8, 1442695040888963407
    mov ecx, [rip + iterations]
1:  imul rax, rbx                   # integers
    add rax, r8
    mov r9, rax
    ror r9, 17
    xor rax, r9
    movq xmm2, rax                  # SSE
    paddq xmm0, xmm2
    pxor xmm1, xmm0
    pshufd xmm0, xmm0, 0x93
    fmul dword ptr [rip + half]     # x87, in its full 80 bits
    fadd dword ptr [rip + third]
    fsqrt
    dec ecx
    jnz 1b
    mov [rip + sums], rax
    movdqu [rip + sums + 16], xmm0
    movdqu [rip + sums + 32], xmm1
    fstp tbyte ptr [rip + sums + 48]
    ud2

.balign 8
gdt:
    .quad 0
    .quad 0x00209b0000000000        # 0x08: code, ring 0
    .quad 0x0000930000000000        # 0x10: data, ring 0
    .quad 0x0000f30000000000        # 0x18: data, ring 3
    .quad 0x0020fb0000000000        # 0x20: code, ring 3
    .quad 0x0000890000000067 | ((tss - start + 0x9000) << 16)
    .quad 0
gdt_register:
    .word . - gdt - 1
    .quad gdt
idt_register:
    .word 0x41*16 - 1
    .quad idt
.balign 8
tss:
    .long 0
    .quad stack0                    # rsp0
    .fill 90, 1, 0
    .word 0x68                      # no I/O permission map

.balign 16
seed:
    .quad 0x0123456789abcdef, 0xfedcba9876543210
    .quad 0x0f1e2d3c4b5a6978, 0x8796a5b4c3d2e1f0
half:       .float 0.5
third:      .float 0.3333333
.balign 16
parameters:
iterations:   .long 0               # of the computation
ticks_wanted: .long 0               # interrupts in the chain
period:       .long 0               # between them, in the timer's own units
timer_mode:   .long 0               # bits of the LVT: 0 one-shot, 0x40000 TSC deadline
ticks:        .long 0
tick_sum:     .long 0
.balign 16
sums:         .fill 64, 1, 0
