# The demo's guest: every processor starts, takes timer interrupts, and reports over the serial port.
#
# The bootstrap processor enters at `start` in long mode with the first 4 GiB mapped to themselves.
# It wakes the others with INIT and SIPI; they begin in real mode at `trampoline` and follow it into
# long mode. All use the x2APIC, so every APIC register is an MSR. Loaded at 0x9000.

.intel_syntax noprefix
.set COM1, 0x3f8
.set DEBUG_EXIT, 0xf4
.set TIMER_VECTOR, 0x20
.set IA32_APIC_BASE, 0x1b
.set IA32_EFER, 0xc0000080
.set X2APIC_ID, 0x802
.set X2APIC_EOI, 0x80b
.set X2APIC_SVR, 0x80f
.set X2APIC_ICR, 0x830
.set X2APIC_LVT_TIMER, 0x832
.set X2APIC_INITIAL_COUNT, 0x838
.set X2APIC_DIVIDE, 0x83e
.set TICKS, 5
.set idt, 0xa000                    # RAM, zero at the start

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
    mov ecx, IA32_EFER
    mov eax, 0x100                  # EFER.LME
    xor edx, edx
    wrmsr
    mov eax, 0x80000011             # CR0.PG, ET, PE: into long mode
    mov cr0, eax
    .byte 0x66, 0xea                # far jump to 0x08:processor
    .long processor
    .word 0x08

.code64
# ---- bootstrap processor ----
start:
    cli
    lgdt [gdt_register]
    push 0x08
    push offset bootstrap
    .byte 0x48, 0xcb                # retfq: loads CS from our own GDT
bootstrap:
    mov rax, cr3
    mov [boot_cr3], eax
    call build_timer_gate
    mov rsi, offset text_hello
    call print_locked
    mov ecx, IA32_APIC_BASE
    rdmsr
    or eax, 0xc00                   # EN, EXTD: x2APIC
    wrmsr
    mov ecx, X2APIC_ICR
    xor edx, edx
    mov eax, 0xc4500                # INIT, all but self
    wrmsr
    mov eax, 0xc4609                # SIPI, vector 9: start at 0x9000
    wrmsr
    jmp processor

# ---- every processor, in long mode ----
processor:
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov ecx, IA32_APIC_BASE
    rdmsr
    or eax, 0xc00                   # EN, EXTD: x2APIC
    wrmsr
    mov ecx, X2APIC_ID
    rdmsr
    mov ebp, eax                    # our number, for the rest of our life
    mov edx, eax
    inc edx
    shl edx, 12                     # 4 KiB of stack for each
    lea rsp, [rdx + 0x20000]
    mov ecx, X2APIC_SVR
    xor edx, edx
    mov eax, 0x1ff                  # software enable, spurious vector 0xff
    wrmsr
    lidt [idt_register]
    mov rsi, offset text_up
    call print_with_number
    mov ecx, X2APIC_DIVIDE
    xor edx, edx
    mov eax, 0xb                    # divide by 1
    wrmsr
    mov ecx, X2APIC_LVT_TIMER
    mov eax, 0x20000 | TIMER_VECTOR # periodic
    wrmsr
    mov ecx, X2APIC_INITIAL_COUNT
    mov eax, [timer_count]
    wrmsr
wait_for_ticks:
    sti
    hlt
    cli
    cmp dword ptr [ticks + rbp*4], TICKS
    jb wait_for_ticks
    mov ecx, X2APIC_INITIAL_COUNT   # stop the timer
    xor eax, eax
    xor edx, edx
    wrmsr
    mov rsi, offset text_ticked
    call print_with_number
    lock inc dword ptr [done]
    test ebp, ebp
    jnz sleep
wait_for_all:
    pause
    mov eax, [done]
    cmp eax, [processors]
    jb wait_for_all
    mov rsi, offset text_bye
    call print_locked
    mov dx, DEBUG_EXIT
    xor eax, eax
    out dx, al
sleep:
    cli
    hlt
    jmp sleep

# rbp = number, [ticks + rbp*4] counts
timer_interrupt:
    push rax
    push rcx
    push rdx
    inc dword ptr [ticks + rbp*4]
    mov ecx, X2APIC_EOI
    xor eax, eax
    xor edx, edx
    wrmsr
    pop rdx
    pop rcx
    pop rax
    iretq

build_timer_gate:
    mov rax, offset timer_interrupt
    mov rdi, offset idt + TIMER_VECTOR*16
    mov [rdi], ax
    mov word ptr [rdi + 2], 0x08
    mov word ptr [rdi + 4], 0x8e00  # present, interrupt gate
    shr rax, 16
    mov [rdi + 6], ax
    shr rax, 16
    mov [rdi + 8], eax
    ret

# rsi = text with a '#' where the number goes
print_with_number:
    mov al, '0'
    add al, bpl
    mov bl, al
    jmp print
print_locked:
    mov bl, '#'
print:
    lock bts dword ptr [print_lock], 0
    jc print_wait
print_next:
    mov al, [rsi]
    inc rsi
    test al, al
    jz print_done
    cmp al, '#'
    jne print_byte
    mov al, bl
print_byte:
    mov dx, COM1
    out dx, al
    jmp print_next
print_done:
    mov dword ptr [print_lock], 0
    ret
print_wait:
    pause
    jmp print

text_hello:  .asciz "Hello from ring 0, long mode. Waking the other processors.\n"
text_up:     .asciz "  processor # is up, x2APIC enabled\n"
text_ticked: .asciz "  processor # took its timer interrupts\n"
text_bye:    .asciz "All done. Bye!\n"

.balign 16
gdt:
    .quad 0
    .quad 0x00af9b000000ffff        # 0x08: 64-bit code
    .quad 0x00cf93000000ffff        # 0x10: data
gdt_register:
    .word . - gdt - 1
    .quad gdt
idt_register:
    .word 0x21*16 - 1
    .quad idt
.balign 8
# Set by the host: how many processors there are, and the timer's initial count.
.globl parameters
parameters:
processors:  .long 0
timer_count: .long 0
boot_cr3:    .long 0
print_lock:  .long 0
done:        .long 0
ticks:       .fill 16, 4, 0
