# Does one access after the other as the host asks for them, and counts interrupts: so a driver can be
# written in TypeScript, with all its accesses made by a guest. 32-bit, paging off; loaded at 1 MiB.
#
# At `parameters`: the number of the request, the number of the last one done, kind, address, value or
# result. Kinds are those of hostile.S. Behind them an address to read and one to write what was read to,
# for level-triggered interrupts (each 0 for none), and all bits that were read; at 0x40 a counter for each
# of the vectors 0x40 to 0x5f, of which 0x50 on are level-triggered.

.intel_syntax noprefix
.code32
.set DEBUG_EXIT, 0xf4
.set IA32_APIC_BASE, 0x1b
.set X2APIC_EOI, 0x80b
.set X2APIC_SVR, 0x80f
.set FIRST_VECTOR, 0x40
.set LEVEL, 16

start:
    .include "flat-enter.inc"
    mov ecx, IA32_APIC_BASE
    rdmsr
    or eax, 0xc00
    wrmsr
    mov ecx, X2APIC_SVR
    xor edx, edx
    mov eax, 0x1ff
    wrmsr
    mov edx, offset idt + FIRST_VECTOR * 8
    mov eax, offset stubs
    mov ecx, 32
gate:
    mov [edx], ax
    mov word ptr [edx + 2], 0x08
    mov word ptr [edx + 4], 0x8e00
    mov ebx, eax
    shr ebx, 16
    mov [edx + 6], bx
    add edx, 8
    add eax, 10
    loop gate
    lidt idt_register
    sti
wait:
    pause
    mov ebx, request
    cmp ebx, done
    je wait
    mov edx, address
    mov eax, value
    mov ecx, kind
    and ecx, 15
    call [kinds + ecx * 4]
    mov value, eax
    mov done, ebx
    jmp wait

.balign 4
kinds:
    .long leave, out1, out2, out4, in1, in2, in4, write1, write2, write4, read1, read2, read4
    .long leave, leave, leave
leave:
    out DEBUG_EXIT, al
    jmp leave
out1:
    out dx, al
    ret
out2:
    out dx, ax
    ret
out4:
    out dx, eax
    ret
in1:
    xor eax, eax
    in al, dx
    ret
in2:
    xor eax, eax
    in ax, dx
    ret
in4:
    in eax, dx
    ret
write1:
    mov [edx], al
    ret
write2:
    mov [edx], ax
    ret
write4:
    mov [edx], eax
    ret
read1:
    xor eax, eax
    mov al, [edx]
    ret
read2:
    xor eax, eax
    mov ax, [edx]
    ret
read4:
    mov eax, [edx]
    ret

stubs:                              # ten bytes each: push the number, jump
.set number, 0
.rept 32
    .byte 0x68
    .long number
    .byte 0xe9
    .long interrupt - . - 4
    .set number, number + 1
.endr
interrupt:
    push eax
    push ecx
    push edx
    mov eax, [esp + 12]
    lock inc dword ptr [counters + eax * 4]
    cmp eax, LEVEL
    jb acknowledge
    mov edx, status_address
    test edx, edx
    jz acknowledge
    mov eax, [edx]
    or seen, eax
    mov edx, acknowledge_address
    test edx, edx
    jz acknowledge
    mov [edx], eax
acknowledge:
    mov ecx, X2APIC_EOI
    xor eax, eax
    xor edx, edx
    wrmsr
    pop edx
    pop ecx
    pop eax
    add esp, 4
    # An engine that interprets ring 0 was seen to know no IRET of 32 bits.
    push dword ptr [esp + 8]        # EFLAGS
    popfd
    retf 4

.balign 8
.include "flat-gdt.inc"
idt_register:
    .short 0x7ff
    .long idt

.balign 16
parameters:
.set request, parameters
.set done, parameters + 4
.set kind, parameters + 8
.set address, parameters + 12
.set value, parameters + 16
.set status_address, parameters + 20
.set acknowledge_address, parameters + 24
.set seen, parameters + 28
.set counters, parameters + 0x40
.set idt, parameters + 0x1000
.set stack_end, parameters + 0x4000
