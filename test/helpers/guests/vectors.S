# A guest that takes every vector. It follows a list of operations that the host wrote (so the host
# sets up its chips, sends its IPIs, …), then sleeps. Its handlers count, tell the host, and
# acknowledge. Application processors begin at `trampoline` (SIPI vector 9), follow into long mode,
# switch to the x2APIC, count themselves and sleep. Loaded at 0x9000.
#
# The host has written page tables (CR3), the IDT at 0x5000, and for each vector a stub at 0x6000
# that pushes the vector's number and jumps to `interrupt`.

.intel_syntax noprefix
.set SCRIPT, 0x10000                # operations: u32 code, u32 a, u64 b
.set PROCESSORS, 0x20000            # u32 for each APIC id: interrupts taken
.set VECTORS, 0x24000               # u32 for each vector: interrupts taken
.set STACKS, 0x100000
.set REPORT_PORT, 0x500
.set DONE_PORT, 0x504
.set REPORT, 1                      # flags
.set EOI_X2APIC, 2
.set EOI_XAPIC, 4
.set EOI_PIC, 8
.set EOI_PV, 16
.set PV_EOI, 0x28000                # where KVM says that no EOI is needed

# ---- application processors: real mode, CS:IP = 0900:0000 ----
.code16
trampoline:
    cli
    mov ax, cs
    mov ds, ax
    lgdt [gdt_register - trampoline]
    mov eax, 0x20                   # CR4.PAE
    mov cr4, eax
    mov eax, [boot_cr3 - trampoline]
    mov cr3, eax
    mov ecx, 0xc0000080             # EFER
    mov eax, 0x100                  # LME
    xor edx, edx
    wrmsr
    mov eax, 0x80000011             # CR0.PG, ET, PE: into long mode
    mov cr0, eax
    .byte 0x66, 0xea                # far jump to 0x08:processor
    .long processor
    .word 0x08

.code64
processor:
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov ecx, 0x1b                   # IA32_APIC_BASE
    rdmsr
    or eax, 0xc00                   # EN, EXTD: x2APIC
    wrmsr
    mov ecx, 0x802                  # x2APIC ID
    rdmsr
    shl eax, 12                     # 4 KiB of stack for each
    lea rsp, [rax + STACKS + 0x1000]
    mov ecx, 0x80f                  # SVR: software enable, spurious vector 0xff
    mov eax, 0x1ff
    xor edx, edx
    wrmsr
    lidt [idt_register]
    lock inc dword ptr [online]
    jmp sleep

start:
    cli
    lgdt [gdt_register]
    push 0x08
    push offset bootstrap
    .byte 0x48, 0xcb                # retfq: loads CS from our own GDT
bootstrap:
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov rax, cr3
    mov [boot_cr3], eax
    mov rsp, STACKS + 0x1000
    lidt [idt_register]
    mov rsi, SCRIPT
next:
    mov ebx, [rsi]
    mov ecx, [rsi + 4]
    mov eax, [rsi + 8]
    mov edx, [rsi + 12]
    add rsi, 16
    cmp ebx, 1
    je write_msr
    cmp ebx, 2
    je write_port
    cmp ebx, 3
    je write_memory
    cmp ebx, 4
    je enable
    cmp ebx, 5
    je deadline
    cmp ebx, 6
    je wait_online
    cmp ebx, 7
    je done
    cmp ebx, 8
    je spin
    cmp ebx, 9
    je hypercall
sleep:
    sti
    hlt
    lock inc dword ptr [woken]
    jmp sleep
write_msr:
    wrmsr
    jmp next
write_port:
    mov edx, ecx
    out dx, al
    jmp next
write_memory:
    mov [rcx], eax
    jmp next
enable:
    sti
    jmp next
deadline:                           # b TSC cycles from now
    mov ecx, eax
    rdtsc
    shl rdx, 32
    or rax, rdx
    add rax, rcx
    mov rdx, rax
    shr rdx, 32
    mov ecx, 0x6e0                  # IA32_TSC_DEADLINE
    wrmsr
    jmp next
hypercall:                          # a: number, b: four arguments, then room for the result
    mov r8, rsi
    mov r9, [rsi - 8]
    mov eax, ecx
    mov rbx, [r9]
    mov rcx, [r9 + 8]
    mov rdx, [r9 + 16]
    mov rsi, [r9 + 24]
    cmp dword ptr [amd], 0
    jne 1f
    .byte 0x0f, 0x01, 0xc1          # vmcall
    jmp 2f
1:  .byte 0x0f, 0x01, 0xd9          # vmmcall
2:  mov [r9 + 32], rax
    mov rsi, r8
    jmp next
wait_online:
    pause
    cmp [online], eax
    jb wait_online
    jmp next
done:
    mov edx, DONE_PORT
    out dx, al
    jmp next
spin:
    sti
spinning:
    inc dword ptr [spun]
    jmp spinning

interrupt:                          # the stub has pushed the vector
    push rax
    push rcx
    push rdx
    push rbx
    mov ebx, [rsp + 32]
    lock inc dword ptr [VECTORS + rbx*4]
    test dword ptr [flags], EOI_PV  # no exit before the EOI: it would take KVM's word back
    jnz report
    test dword ptr [flags], EOI_X2APIC
    jz report
    mov ecx, 0x802                  # x2APIC ID
    rdmsr
    lock inc dword ptr [PROCESSORS + rax*4]
report:
    test dword ptr [flags], REPORT
    jz acknowledge
    mov eax, ebx
    mov edx, REPORT_PORT
    out dx, eax
acknowledge:
    cmp ebx, 0x20                   # NMI and exceptions have no EOI
    jb leave
    mov eax, [flags]
    test eax, EOI_PV
    jz pic
    lock btr dword ptr [PV_EOI], 0
    jnc pic
    lock inc dword ptr [skipped]
    jmp leave
pic:
    test eax, EOI_PIC
    jz xapic
    mov al, 0x20
    out 0xa0, al
    out 0x20, al
    mov eax, [flags]
xapic:
    test eax, EOI_XAPIC
    jz x2apic
    mov ecx, 0xfee000b0
    mov dword ptr [rcx], 0
x2apic:
    test eax, EOI_X2APIC
    jz leave
    mov ecx, 0x80b                  # x2APIC EOI
    xor eax, eax
    xor edx, edx
    wrmsr
leave:
    pop rbx
    pop rdx
    pop rcx
    pop rax
    add rsp, 8
    iretq

.balign 16
gdt:
    .quad 0
    .quad 0x00af9b000000ffff        # 0x08: 64-bit code
    .quad 0x00cf93000000ffff        # 0x10: data
gdt_register:
    .word . - gdt - 1
    .quad gdt
idt_register:
    .word 256*16 - 1
    .quad 0x5000
.balign 8
.globl parameters
parameters:
flags:    .long 0
online:   .long 0                   # application processors that sleep
spun:     .long 0
handler:  .long interrupt
boot_cr3: .long 0
amd:      .long 0                   # VMMCALL, not VMCALL
skipped:  .long 0                   # EOIs that KVM did not need
woken:    .long 0                   # ends of HLT
