// Assembled from smp.S; change that and run `npm run assemble`.

/** Where the guest is loaded, where it starts, where the host puts its parameters. */
export const layout = {
  gpa: 0x9000,
  parameters: 0x92b0,
  start: 0x903c,
} as const

// biome-ignore format: one line of source, one line of bytes
const lines = [
  'fa', // cli
  '8cc8', // mov ax, cs
  '8ed8', // mov ds, ax
  '0f01169802', // lgdt [gdt_register - trampoline]
  '66b820000000', // mov eax, 0x20                   # CR4.PAE
  '0f22e0', // mov cr4, eax
  '66a1b802', // mov eax, [boot_cr3 - trampoline]
  '0f22d8', // mov cr3, eax
  '66b9800000c0', // mov ecx, IA32_EFER
  '66b800010000', // mov eax, 0x100                  # EFER.LME
  '6631d2', // xor edx, edx
  '0f30', // wrmsr
  '66b811000080', // mov eax, 0x80000011             # CR0.PG, ET, PE: into long mode
  '0f22c0', // mov cr0, eax
  '66ea', // .byte 0x66, 0xea                # far jump to 0x08:processor
  '8e900000', // .long processor
  '0800', // .word 0x08
  'fa', // cli
  '0f01142598920000', // lgdt [gdt_register]
  '6a08', // push 0x08
  '684e900000', // push offset bootstrap
  '48cb', // .byte 0x48, 0xcb                # retfq: loads CS from our own GDT
  '0f20d8', // mov rax, cr3
  '890425b8920000', // mov [boot_cr3], eax
  'e81d010000', // call build_timer_gate
  '48c7c6e4910000', // mov rsi, offset text_hello
  'e847010000', // call print_locked
  'b91b000000', // mov ecx, IA32_APIC_BASE
  '0f32', // rdmsr
  '0d000c0000', // or eax, 0xc00                   # EN, EXTD: x2APIC
  '0f30', // wrmsr
  'b930080000', // mov ecx, X2APIC_ICR
  '31d2', // xor edx, edx
  'b800450c00', // mov eax, 0xc4500                # INIT, all but self
  '0f30', // wrmsr
  'b809460c00', // mov eax, 0xc4609                # SIPI, vector 9: start at 0x9000
  '0f30', // wrmsr
  'eb00', // jmp processor
  '66b81000', // mov ax, 0x10
  '8ed8', // mov ds, ax
  '8ec0', // mov es, ax
  '8ed0', // mov ss, ax
  'b91b000000', // mov ecx, IA32_APIC_BASE
  '0f32', // rdmsr
  '0d000c0000', // or eax, 0xc00                   # EN, EXTD: x2APIC
  '0f30', // wrmsr
  'b902080000', // mov ecx, X2APIC_ID
  '0f32', // rdmsr
  '89c5', // mov ebp, eax                    # our number, for the rest of our life
  '89c2', // mov edx, eax
  'ffc2', // inc edx
  'c1e20c', // shl edx, 12                     # 4 KiB of stack for each
  '488da200000200', // lea rsp, [rdx + 0x20000]
  'b90f080000', // mov ecx, X2APIC_SVR
  '31d2', // xor edx, edx
  'b8ff010000', // mov eax, 0x1ff                  # software enable, spurious vector 0xff
  '0f30', // wrmsr
  '0f011c25a2920000', // lidt [idt_register]
  '48c7c620920000', // mov rsi, offset text_up
  'e8c8000000', // call print_with_number
  'b93e080000', // mov ecx, X2APIC_DIVIDE
  '31d2', // xor edx, edx
  'b80b000000', // mov eax, 0xb                    # divide by 1
  '0f30', // wrmsr
  'b932080000', // mov ecx, X2APIC_LVT_TIMER
  'b820000200', // mov eax, 0x20000 | TIMER_VECTOR # periodic
  '0f30', // wrmsr
  'b938080000', // mov ecx, X2APIC_INITIAL_COUNT
  '8b0425b4920000', // mov eax, [timer_count]
  '0f30', // wrmsr
  'fb', // sti
  'f4', // hlt
  'fa', // cli
  '833cadc492000005', // cmp dword ptr [ticks + rbp*4], TICKS
  '72f3', // jb wait_for_ticks
  'b938080000', // mov ecx, X2APIC_INITIAL_COUNT   # stop the timer
  '31c0', // xor eax, eax
  '31d2', // xor edx, edx
  '0f30', // wrmsr
  '48c7c645920000', // mov rsi, offset text_ticked
  'e87c000000', // call print_with_number
  'f0ff0425c0920000', // lock inc dword ptr [done]
  '85ed', // test ebp, ebp
  '7525', // jnz sleep
  'f390', // pause
  '8b0425c0920000', // mov eax, [done]
  '3b0425b0920000', // cmp eax, [processors]
  '72ee', // jb wait_for_all
  '48c7c66e920000', // mov rsi, offset text_bye
  'e85b000000', // call print_locked
  '66baf400', // mov dx, DEBUG_EXIT
  '31c0', // xor eax, eax
  'ee', // out dx, al
  'fa', // cli
  'f4', // hlt
  'ebfc', // jmp sleep
  '50', // push rax
  '51', // push rcx
  '52', // push rdx
  'ff04adc4920000', // inc dword ptr [ticks + rbp*4]
  'b90b080000', // mov ecx, X2APIC_EOI
  '31c0', // xor eax, eax
  '31d2', // xor edx, edx
  '0f30', // wrmsr
  '5a', // pop rdx
  '59', // pop rcx
  '58', // pop rax
  '48cf', // iretq
  '48c7c060910000', // mov rax, offset timer_interrupt
  '48c7c700a20000', // mov rdi, offset idt + TIMER_VECTOR*16
  '668907', // mov [rdi], ax
  '66c747020800', // mov word ptr [rdi + 2], 0x08
  '66c74704008e', // mov word ptr [rdi + 4], 0x8e00  # present, interrupt gate
  '48c1e810', // shr rax, 16
  '66894706', // mov [rdi + 6], ax
  '48c1e810', // shr rax, 16
  '894708', // mov [rdi + 8], eax
  'c3', // ret
  'b030', // mov al, '0'
  '4000e8', // add al, bpl
  '88c3', // mov bl, al
  'eb02', // jmp print
  'b323', // mov bl, '#'
  'f00fba2c25bc92000000', // lock bts dword ptr [print_lock], 0
  '7222', // jc print_wait
  '8a06', // mov al, [rsi]
  '48ffc6', // inc rsi
  '84c0', // test al, al
  '740d', // jz print_done
  '3c23', // cmp al, '#'
  '7502', // jne print_byte
  '88d8', // mov al, bl
  '66baf803', // mov dx, COM1
  'ee', // out dx, al
  'ebea', // jmp print_next
  'c70425bc92000000000000', // mov dword ptr [print_lock], 0
  'c3', // ret
  'f390', // pause
  'ebce', // jmp print
  '48656c6c6f2066726f6d2072696e6720302c206c6f6e67206d6f64652e2057616b696e6720746865206f746865722070726f636573736f72732e0a00', // text_hello:  .asciz "Hello from ring 0, long mode. Waking the other processors.\n"
  '202070726f636573736f7220232069732075702c2078324150494320656e61626c65640a00', // text_up:     .asciz "  processor # is up, x2APIC enabled\n"
  '202070726f636573736f72202320746f6f6b206974732074696d657220696e74657272757074730a00', // text_ticked: .asciz "  processor # took its timer interrupts\n"
  '416c6c20646f6e652e20427965210a00', // text_bye:    .asciz "All done. Bye!\n"
  '6690', // .balign 16
  '0000000000000000', // .quad 0
  'ffff0000009baf00', // .quad 0x00af9b000000ffff        # 0x08: 64-bit code
  'ffff00000093cf00', // .quad 0x00cf93000000ffff        # 0x10: data
  '1700', // .word . - gdt - 1
  '8092000000000000', // .quad gdt
  '0f02', // .word 0x21*16 - 1
  '00a0000000000000', // .quad idt
  '0f1f4000', // .balign 8
  '00000000', // processors:  .long 0
  '00000000', // timer_count: .long 0
  '00000000', // boot_cr3:    .long 0
  '00000000', // print_lock:  .long 0
  '00000000', // done:        .long 0
  '00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000', // ticks:       .fill 16, 4, 0
]

/** The guest's code and data. */
export const image: Uint8Array = Buffer.from(lines.join(''), 'hex')
