# The driver of the device in own-virtio-device.ts, as short as a driver can be: one request, and it looks
# for the answer until that is there. Prints the answer and leaves. 32-bit, paging off; loaded at 1 MiB.

.intel_syntax noprefix
.code32
.set DEVICE, 0xea000000             # registers of virtio over MMIO
.set DRIVER_FEATURES, DEVICE + 0x20
.set DRIVER_FEATURES_SEL, DEVICE + 0x24
.set QUEUE_NUM, DEVICE + 0x38
.set QUEUE_READY, DEVICE + 0x44
.set QUEUE_NOTIFY, DEVICE + 0x50
.set STATUS, DEVICE + 0x70
.set QUEUE_DESC, DEVICE + 0x80
.set QUEUE_DRIVER, DEVICE + 0x90
.set QUEUE_DEVICE, DEVICE + 0xa0
.set COM1, 0x3f8
.set DEBUG_EXIT, 0xf4

start:
    mov dword ptr ds:[STATUS], 0    # reset
    mov dword ptr ds:[STATUS], 1    # acknowledge
    mov dword ptr ds:[STATUS], 3    # driver
    mov dword ptr ds:[DRIVER_FEATURES_SEL], 1
    mov dword ptr ds:[DRIVER_FEATURES], 1 # VIRTIO_F_VERSION_1
    mov dword ptr ds:[STATUS], 0xb  # features ok
    mov dword ptr ds:[QUEUE_NUM], 2
    mov dword ptr ds:[QUEUE_DESC], offset descriptors
    mov dword ptr ds:[QUEUE_DRIVER], offset available
    mov dword ptr ds:[QUEUE_DEVICE], offset used
    mov dword ptr ds:[QUEUE_READY], 1
    mov dword ptr ds:[STATUS], 0xf  # driver ok
    mov dword ptr ds:[QUEUE_NOTIFY], 0
wait:
    pause
    cmp word ptr used + 2, 1
    jne wait
    mov ecx, used + 8               # bytes written
    mov esi, offset answer
    mov edx, COM1
    rep outsb
    xor eax, eax
    out DEBUG_EXIT, al
stop:
    hlt
    jmp stop

.balign 16
descriptors:
    .quad question
    .long question_end - question
    .short 1, 1                     # the next one belongs to it: descriptor 1
    .quad answer
    .long 64
    .short 2, 0                     # for the device to write
available:
    .short 0, 1, 0                  # flags, index, ring: one buffer, which begins with descriptor 0
.balign 4
question:
    .ascii "!oitriv olleH"
question_end:
.balign 16
parameters:
.set used, parameters
.set answer, parameters + 32
