# A kernel that finds its way by ACPI alone: it counts the processors in the MADT and starts them, finds
# a PCI device through the MCFG, takes its MSI-X interrupts, prints what it found and powers off as the
# FADT and \_S5 say. 32-bit, paging off. It is entered by multiboot or PVH; loaded at 1 MiB.

.intel_syntax noprefix
.code32
.set COM1, 0x3f8
.set MAGIC, 0x1badb002
.set FLAGS, 0x10003                 # modules at pages, memory map, addresses below
.set PVH_MAGIC, 0x336ec578
.set DEVICE, 0x56781234             # device and vendor to look for
.set AP_START, 0x8000               # where SIPI lets processors begin
.set IA32_APIC_BASE, 0x1b
.set X2APIC_ID, 0x802
.set X2APIC_EOI, 0x80b
.set X2APIC_SVR, 0x80f
.set X2APIC_ICR, 0x830
.set VECTOR, 0x41                   # of MSI-X entry 0; entry 1 has the next

parameters:                         # the multiboot header
    .long MAGIC
    .long FLAGS
    .long -(MAGIC + FLAGS)
    .long parameters                # header_addr
    .long parameters                # load_addr
    .long 0                         # load_end_addr: all of the file
    .long bss_end                   # bss_end_addr
    .long start

start:
    .include "flat-enter.inc"
    cmp eax, 0x2badb002
    je by_multiboot
    mov esi, offset text_pvh
    call print
    cmp dword ptr [ebx], PVH_MAGIC
    jne fail
    mov esi, [ebx + 32]             # rsdp_paddr
    jmp found_rsdp
by_multiboot:                       # which has no place for it: search as the specification says
    mov esi, offset text_multiboot
    call print
    mov esi, 0xe0000
search:
    cmp dword ptr [esi], 0x20445352 # "RSD "
    jne next_place
    cmp dword ptr [esi + 4], 0x20525450 # "PTR "
    je found_rsdp
next_place:
    add esi, 16
    cmp esi, 0x100000
    jb search
    jmp fail
found_rsdp:
    mov esi, [esi + 24]             # xsdt
    mov ecx, [esi + 4]
    add ecx, esi                    # its end
    add esi, 36
next_table:
    cmp esi, ecx
    jae tables_done
    mov edx, [esi]
    mov eax, [edx]
    cmp eax, 0x43495041             # "APIC"
    jne 1f
    mov madt, edx
1:  cmp eax, 0x50434146             # "FACP"
    jne 2f
    mov fadt, edx
2:  cmp eax, 0x4746434d             # "MCFG"
    jne 3f
    mov eax, [edx + 44]
    mov ecam, eax
3:  add esi, 8
    jmp next_table
tables_done:

# ---- processors ----
    mov ecx, IA32_APIC_BASE
    rdmsr
    or eax, 0xc00
    wrmsr
    mov ecx, X2APIC_SVR
    xor edx, edx
    mov eax, 0x1ff
    wrmsr
    mov ecx, X2APIC_ID
    rdmsr
    mov own_id, eax
    mov esi, offset trampoline
    mov edi, AP_START
    mov ecx, trampoline_end - trampoline
    rep movsb
    mov esi, madt
    mov ebp, [esi + 4]
    add ebp, esi                    # its end
    add esi, 44
next_entry:
    cmp esi, ebp
    jae entries_done
    cmp byte ptr [esi], 0           # a local APIC
    jne 1f
    test byte ptr [esi + 4], 1      # enabled
    jz skip
    movzx edx, byte ptr [esi + 3]
    jmp processor
1:  cmp byte ptr [esi], 9           # a local x2APIC
    jne skip
    test byte ptr [esi + 8], 1
    jz skip
    mov edx, [esi + 4]
processor:
    inc dword ptr found
    cmp edx, own_id
    je skip
    mov ecx, X2APIC_ICR
    mov eax, 0x4500                 # INIT
    wrmsr
    mov eax, 0x4600 + (AP_START >> 12) # SIPI
    wrmsr
skip:
    movzx eax, byte ptr [esi + 1]
    add esi, eax
    jmp next_entry
entries_done:
    pause
    mov eax, started
    inc eax                         # we ourselves
    cmp eax, found
    jne entries_done
    mov esi, offset text_processors
    call print
    mov eax, started
    inc eax
    call print_number
    mov esi, offset text_highest
    call print
    mov eax, highest
    call print_number

# ---- the PCI device ----
    mov edi, ecam
    xor ebp, ebp                    # slot
next_slot:
    mov eax, ebp                    # both ways to configuration space must agree
    shl eax, 11
    or eax, 0x80000000
    mov dx, 0xcf8
    out dx, eax
    mov dx, 0xcfc
    in eax, dx
    cmp eax, [edi]
    jne fail
    cmp eax, DEVICE
    je found_device
    add edi, 0x8000
    inc ebp
    cmp ebp, 32
    jb next_slot
    jmp fail
found_device:
    mov esi, offset text_slot
    call print
    mov eax, ebp
    call print_number
    or word ptr [edi + 4], 6        # memory, bus master
    movzx eax, byte ptr [edi + 0x34]
next_capability:
    test eax, eax
    jz fail
    lea ebx, [edi + eax]
    cmp byte ptr [ebx], 0x11        # MSI-X
    je found_msix
    movzx eax, byte ptr [ebx + 1]
    jmp next_capability
found_msix:
    mov eax, [ebx + 4]              # table: offset and BAR
    call address_in_bar
    mov esi, eax
    mov eax, [ebx + 8]              # pending bits
    call address_in_bar
    mov pending, eax
    mov eax, [edi + 0x10]           # BAR 0: the device's doorbell
    and eax, -16
    mov doorbell, eax
    mov eax, own_id
    shl eax, 12
    or eax, 0xfee00000
    mov [esi], eax
    mov [esi + 16], eax
    mov dword ptr [esi + 8], VECTOR
    mov dword ptr [esi + 24], VECTOR + 1
    mov dword ptr [esi + 12], 0     # unmasked
    mov dword ptr [esi + 28], 1     # masked
    mov word ptr [ebx + 2], 0x8000  # enable
    mov edx, VECTOR
    mov eax, offset interrupt0
    call set_gate
    mov edx, VECTOR + 1
    mov eax, offset interrupt1
    call set_gate
    lidt idt_register
    sti
    mov edi, doorbell
    mov ecx, 100                    # a hundred interrupts, each waited for
ring:
    mov eax, taken0
    inc eax
    mov dword ptr [edi], 0
1:  pause
    cmp eax, taken0
    jne 1b
    loop ring
    mov dword ptr [edi], 1          # masked: must become pending
    mov eax, pending
    mov eax, [eax]
    test eax, 2
    jz fail
    cmp dword ptr taken1, 0
    jne fail
    mov dword ptr [esi + 28], 0
2:  pause
    cmp dword ptr taken1, 1
    jne 2b
    cli
    mov esi, offset text_interrupts
    call print
    mov eax, taken0
    call print_number
    mov esi, offset text_and
    call print
    mov eax, taken1
    call print_number

# ---- power off ----
    mov esi, offset text_end
    call print
    mov esi, fadt
    mov edx, [esi + 64]             # PM1a control
    mov esi, [esi + 40]             # DSDT
search_s5:
    inc esi
    cmp dword ptr [esi], 0x5f35535f # "_S5_"
    jne search_s5
    movzx eax, byte ptr [esi + 7]   # behind package and its length and count: a constant
    cmp al, 0x0a                    # a byte follows; else it is 0 or 1 itself
    jne 1f
    movzx eax, byte ptr [esi + 8]
1:  shl eax, 10
    or eax, 0x2000
    out dx, ax
stop:
    hlt
    jmp stop

fail:
    mov esi, offset text_fail
    call print
    jmp stop

# eax: offset and BAR of edi's function; gives the address
address_in_bar:
    mov edx, eax
    and edx, 7
    and eax, -8
    mov edx, [edi + 0x10 + edx * 4]
    and edx, -16
    add eax, edx
    ret

# edx: vector, eax: handler
set_gate:
    mov [idt + edx * 8], ax
    mov word ptr [idt + edx * 8 + 2], 0x08
    mov word ptr [idt + edx * 8 + 4], 0x8e00
    shr eax, 16
    mov [idt + edx * 8 + 6], ax
    ret

interrupt0:
    lock inc dword ptr taken0
    jmp acknowledge
interrupt1:
    lock inc dword ptr taken1
acknowledge:
    push eax
    push ecx
    push edx
    mov ecx, X2APIC_EOI
    xor eax, eax
    xor edx, edx
    wrmsr
    pop edx
    pop ecx
    pop eax
    # An engine that interprets ring 0 was seen to know no IRET of 32 bits.
    push dword ptr [esp + 8]        # EFLAGS
    popfd
    retf 4

print_number:                       # eax, decimal
    push ebx
    mov ebx, 10
    xor ecx, ecx
1:  xor edx, edx
    div ebx
    push edx
    inc ecx
    test eax, eax
    jnz 1b
2:  pop eax
    add al, '0'
    mov dx, COM1
    out dx, al
    loop 2b
    pop ebx
    ret
print:                              # esi, zero-terminated
    lodsb
    test al, al
    jz 1f
    mov dx, COM1
    out dx, al
    jmp print
1:  ret

# ---- an application processor: real mode, CS:IP = 0800:0000 ----
.code16
trampoline:
    cli
    mov ax, cs
    mov ds, ax
    lgdt [trampoline_gdt - trampoline]
    mov eax, 0x11                   # CR0.PE, ET
    mov cr0, eax
    .byte 0x66, 0xea                # far jump to 0x08:protected
    .long protected
    .word 0x08
trampoline_gdt:
    .word 0x17
    .long gdt
trampoline_end:
.code32
protected:
    mov eax, 0x10
    mov ds, eax
    mov ecx, IA32_APIC_BASE
    rdmsr
    or eax, 0xc00
    wrmsr
    mov ecx, X2APIC_ID
    rdmsr
    mov edx, eax
    mov eax, highest
1:  cmp edx, eax
    jbe 2f
    lock cmpxchg [highest], edx
    jne 1b
2:  lock inc dword ptr started
3:  cli
    hlt
    jmp 3b

text_pvh:        .asciz "pvh"
text_multiboot:  .asciz "multiboot"
text_processors: .asciz ": processors "
text_highest:    .asciz ", highest id "
text_slot:       .asciz "; slot "
text_interrupts: .asciz ", interrupts "
text_and:        .asciz " and "
text_end:        .asciz "\n"
text_fail:       .asciz " failed\n"

.balign 8
.include "flat-gdt.inc"
idt_register:
    .word 0x7ff
    .long idt

.balign 8
madt: .long 0
fadt: .long 0
ecam: .long 0
own_id: .long 0
found: .long 0
started: .long 0
highest: .long 0
pending: .long 0
doorbell: .long 0
taken0: .long 0
taken1: .long 0
.balign 8
image_end:
.set idt, parameters + 0x2000
.set stack_end, parameters + 0x4000
.set bss_end, parameters + 0x4000
