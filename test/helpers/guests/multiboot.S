# A multiboot kernel that prints what it was given, each on a line of its own: its command line, and
# of every module the string and the content. Then the KiB of upper memory and powers off by ACPI.
# Loaded at 1 MiB, by the addresses in its header or as an ELF executable around the same bytes.

.intel_syntax noprefix
.code32
.set COM1, 0x3f8
.set PM1_CONTROL, 0x604
.set MAGIC, 0x1badb002
.set FLAGS, 0x10003                 # modules at pages, memory map, addresses below

parameters:                         # the header
    .long MAGIC
    .long FLAGS
    .long -(MAGIC + FLAGS)
    .long parameters                # header_addr
    .long parameters                # load_addr
    .long 0                         # load_end_addr: all of the file
    .long bss_end                   # bss_end_addr
    .long start

start:
    mov esp, offset bss_end
    cmp eax, 0x2badb002
    jne off
    mov esi, [ebx + 16]             # cmdline
    call print_line
    mov edi, [ebx + 24]             # mods_addr
    mov ebp, [ebx + 20]             # mods_count
next_module:
    test ebp, ebp
    jz modules_done
    mov esi, [edi + 8]
    call print_line
    mov esi, [edi]
    mov ecx, [edi + 4]
print_content:
    cmp esi, ecx
    je content_done
    lodsb
    call print_byte
    jmp print_content
content_done:
    call print_end
    add edi, 16
    dec ebp
    jmp next_module
modules_done:
    mov eax, [ebx + 8]              # mem_upper
    mov ecx, 10
    xor edi, edi
digits:
    xor edx, edx
    div ecx
    push edx
    inc edi
    test eax, eax
    jnz digits
print_digits:
    pop eax
    add al, '0'
    call print_byte
    dec edi
    jnz print_digits
    call print_end
off:
    mov dx, PM1_CONTROL
    mov ax, 0x2000
    out dx, ax
stop:
    jmp stop

print_line:                         # esi: zero-terminated
    lodsb
    test al, al
    jz print_end
    call print_byte
    jmp print_line
print_end:
    mov al, 10
print_byte:
    mov dx, COM1
    out dx, al
    ret

.set bss_end, parameters + 0x2000
