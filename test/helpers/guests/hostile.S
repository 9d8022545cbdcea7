# Does what a list tells it, one access after the other: in and out, reads and writes of memory. The
# list is at `parameters`, made by the host: for each a kind, an address, a value and a zero, 4 bytes
# each. Kind 0 leaves by the debug exit. 32-bit, paging off; loaded at 1 MiB.

.intel_syntax noprefix
.code32
.set DEBUG_EXIT, 0xf4
.set BUFFER, 0x280000               # for string input

start:
    mov esi, offset parameters
next:
    mov ebx, [esi]
    mov edx, [esi + 4]
    mov eax, [esi + 8]
    add esi, 16
    and ebx, 15
    jmp [kinds + ebx * 4]
.balign 4
kinds:
    .long leave, out1, out2, out4, in1, in2, in4, write1, write2, write4, read1, read2, read4
    .long strings, leave, leave
leave:
    xor eax, eax
    out DEBUG_EXIT, al
    jmp leave
out1:
    out dx, al
    jmp next
out2:
    out dx, ax
    jmp next
out4:
    out dx, eax
    jmp next
in1:
    in al, dx
    jmp next
in2:
    in ax, dx
    jmp next
in4:
    in eax, dx
    jmp next
write1:
    mov [edx], al
    jmp next
write2:
    mov [edx], ax
    jmp next
write4:
    mov [edx], eax
    jmp next
read1:
    mov al, [edx]
    jmp next
read2:
    mov ax, [edx]
    jmp next
read4:
    mov eax, [edx]
    jmp next
strings:                            # up to 255 bytes from a port
    movzx ecx, al
    mov edi, BUFFER
    cld
    rep insb
    jmp next

.balign 16
parameters:
