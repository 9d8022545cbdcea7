# A driver of a network device, as short as one can be. Prints each frame that it gets: its length in four
# bytes, the highest first, then the frame. The host writes into the parameters whether it sends its own
# frame at the start, whether it sends it as an answer to each, and the frame. 32-bit; loaded at 1 MiB.

.intel_syntax noprefix
.code32
.set DEVICE, 0xea000000             # registers of virtio over MMIO
.set DRIVER_FEATURES, DEVICE + 0x20
.set DRIVER_FEATURES_SEL, DEVICE + 0x24
.set QUEUE_SEL, DEVICE + 0x30
.set QUEUE_NUM, DEVICE + 0x38
.set QUEUE_READY, DEVICE + 0x44
.set QUEUE_NOTIFY, DEVICE + 0x50
.set STATUS, DEVICE + 0x70
.set QUEUE_DESC, DEVICE + 0x80
.set QUEUE_DRIVER, DEVICE + 0x90
.set QUEUE_DEVICE, DEVICE + 0xa0
.set COM1, 0x3f8
.set HEADER, 12                     # of virtio, before each frame

start:
    mov esp, 0x80000
    mov dword ptr ds:[STATUS], 0    # reset
    mov dword ptr ds:[STATUS], 1    # acknowledge
    mov dword ptr ds:[STATUS], 3    # driver
    mov dword ptr ds:[DRIVER_FEATURES_SEL], 1
    mov dword ptr ds:[DRIVER_FEATURES], 1 # VIRTIO_F_VERSION_1
    mov dword ptr ds:[STATUS], 0xb  # features ok
    mov dword ptr ds:[QUEUE_SEL], 0 # frames for us
    mov dword ptr ds:[QUEUE_NUM], 2
    mov dword ptr ds:[QUEUE_DESC], offset receive_descriptors
    mov dword ptr ds:[QUEUE_DRIVER], offset receive_available
    mov dword ptr ds:[QUEUE_DEVICE], offset receive_used
    mov dword ptr ds:[QUEUE_READY], 1
    mov dword ptr ds:[QUEUE_SEL], 1 # frames from us
    mov dword ptr ds:[QUEUE_NUM], 2
    mov dword ptr ds:[QUEUE_DESC], offset send_descriptors
    mov dword ptr ds:[QUEUE_DRIVER], offset send_available
    mov dword ptr ds:[QUEUE_DEVICE], offset send_used
    mov dword ptr ds:[QUEUE_READY], 1
    mov eax, length
    mov send_descriptors + 8, eax
    mov dword ptr ds:[STATUS], 0xf  # driver ok
    xor ebp, ebp                    # frames that were received
    cmp byte ptr begins, 0
    je give
    call send
give:
    inc word ptr receive_available + 2
    mov dword ptr ds:[QUEUE_NOTIFY], 0
wait:
    pause
    cmp receive_used + 2, bp
    je wait
    mov ebx, ebp
    and ebx, 1
    mov ecx, receive_used[8 + ebx * 8] # bytes written
    inc ebp
    sub ecx, HEADER
    mov eax, ecx
    bswap eax
    mov edx, COM1
    push ecx
    push eax
    mov esi, esp
    mov ecx, 4
    rep outsb
    pop eax
    pop ecx
    mov esi, offset receive_buffer + HEADER
    rep outsb
    cmp byte ptr answers, 0
    je give
    call send
    jmp give
send:
    inc word ptr send_available + 2
    mov dword ptr ds:[QUEUE_NOTIFY], 1
    ret

.balign 16
receive_descriptors:                # the other one is never used
    .quad receive_buffer
    .long 2048
    .short 2, 0                     # for the device to write
    .quad 0, 0
send_descriptors:
    .quad frame
    .long 0
    .short 0, 0
    .quad 0, 0
receive_available:
    .short 0, 0, 0, 0               # flags, index, ring: always descriptor 0
send_available:
    .short 0, 0, 0, 0
.balign 16
parameters:
.set begins, parameters
.set answers, parameters + 1
.set length, parameters + 4         # with the header
.set frame, parameters + 16
.set receive_used, parameters + 0x1000
.set send_used, parameters + 0x1040
.set receive_buffer, parameters + 0x2000
