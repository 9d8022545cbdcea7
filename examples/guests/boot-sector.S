# The first sector of the disk in disk.ts: counts in the second sector how often it was booted, prints the
# text there, and leaves with the count. 16-bit; firmware loads it at 0x7c00, with the disk's number in DL.

.intel_syntax noprefix
.code16
.set SECTOR, 0x8000                 # where the second sector goes
.set TEXT, 16                       # in it
.set DEBUG_CONSOLE, 0xe9
.set DEBUG_EXIT, 0xf4

start:
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7c00
    mov cx, 2                       # cylinder 0, sector 2
    mov dh, 0                       # head 0
    mov bx, SECTOR
    mov ax, 0x201                   # read one
    int 0x13
    jc fail
    inc byte ptr [SECTOR]
    mov ax, 0x301                   # write one
    int 0x13
    jc fail
    mov si, SECTOR + TEXT
    mov dx, DEBUG_CONSOLE
print:
    lodsb
    test al, al
    jz leave
    out dx, al
    jmp print
fail:
    mov byte ptr [SECTOR], 0xff
leave:
    mov al, [SECTOR]
    out DEBUG_EXIT, al
    hlt
