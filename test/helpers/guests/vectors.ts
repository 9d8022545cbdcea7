// Assembled from vectors.S; change that and run `npm run assemble`.

/** Where the guest is loaded, where it starts, where the host puts its parameters. */
export const layout = {
  gpa: 0x9000,
  parameters: 0x9290,
  start: 0x9088,
} as const

// biome-ignore format: one line of source, one line of bytes
const lines = [
  'fa', // cli
  '8cc8', // mov ax, cs
  '8ed8', // mov ds, ax
  '0f01167802', // lgdt [gdt_register - trampoline]
  '66b820000000', // mov eax, 0x20                   # CR4.PAE
  '0f22e0', // mov cr4, eax
  '66a1a002', // mov eax, [boot_cr3 - trampoline]
  '0f22d8', // mov cr3, eax
  '66b9800000c0', // mov ecx, 0xc0000080             # EFER
  '66b800010000', // mov eax, 0x100                  # LME
  '6631d2', // xor edx, edx
  '0f30', // wrmsr
  '66b811000080', // mov eax, 0x80000011             # CR0.PG, ET, PE: into long mode
  '0f22c0', // mov cr0, eax
  '66ea', // .byte 0x66, 0xea                # far jump to 0x08:processor
  '3c900000', // .long processor
  '0800', // .word 0x08
  '66b81000', // mov ax, 0x10
  '8ed8', // mov ds, ax
  '8ec0', // mov es, ax
  '8ed0', // mov ss, ax
  'b91b000000', // mov ecx, 0x1b                   # IA32_APIC_BASE
  '0f32', // rdmsr
  '0d000c0000', // or eax, 0xc00                   # EN, EXTD: x2APIC
  '0f30', // wrmsr
  'b902080000', // mov ecx, 0x802                  # x2APIC ID
  '0f32', // rdmsr
  'c1e00c', // shl eax, 12                     # 4 KiB of stack for each
  '488da000101000', // lea rsp, [rax + STACKS + 0x1000]
  'b90f080000', // mov ecx, 0x80f                  # SVR: software enable, spurious vector 0xff
  'b8ff010000', // mov eax, 0x1ff
  '31d2', // xor edx, edx
  '0f30', // wrmsr
  '0f011c2582920000', // lidt [idt_register]
  'f0ff042594920000', // lock inc dword ptr [online]
  'e984000000', // jmp sleep
  'fa', // cli
  '0f01142578920000', // lgdt [gdt_register]
  '6a08', // push 0x08
  '689a900000', // push offset bootstrap
  '48cb', // .byte 0x48, 0xcb                # retfq: loads CS from our own GDT
  '66b81000', // mov ax, 0x10
  '8ed8', // mov ds, ax
  '8ec0', // mov es, ax
  '8ed0', // mov ss, ax
  '0f20d8', // mov rax, cr3
  '890425a0920000', // mov [boot_cr3], eax
  '48c7c400101000', // mov rsp, STACKS + 0x1000
  '0f011c2582920000', // lidt [idt_register]
  '48c7c600000100', // mov rsi, SCRIPT
  '8b1e', // mov ebx, [rsi]
  '8b4e04', // mov ecx, [rsi + 4]
  '8b4608', // mov eax, [rsi + 8]
  '8b560c', // mov edx, [rsi + 12]
  '4883c610', // add rsi, 16
  '83fb01', // cmp ebx, 1
  '7440', // je write_msr
  '83fb02', // cmp ebx, 2
  '743f', // je write_port
  '83fb03', // cmp ebx, 3
  '743f', // je write_memory
  '83fb04', // cmp ebx, 4
  '743e', // je enable
  '83fb05', // cmp ebx, 5
  '743c', // je deadline
  '83fb06', // cmp ebx, 6
  '0f848a000000', // je wait_online
  '83fb07', // cmp ebx, 7
  '0f8491000000', // je done
  '83fb08', // cmp ebx, 8
  '0f8493000000', // je spin
  '83fb09', // cmp ebx, 9
  '743d', // je hypercall
  'fb', // sti
  'f4', // hlt
  'f0ff0425ac920000', // lock inc dword ptr [woken]
  'ebf4', // jmp sleep
  '0f30', // wrmsr
  'eba8', // jmp next
  '89ca', // mov edx, ecx
  'ee', // out dx, al
  'eba3', // jmp next
  '8901', // mov [rcx], eax
  'eb9f', // jmp next
  'fb', // sti
  'eb9c', // jmp next
  '89c1', // mov ecx, eax
  '0f31', // rdtsc
  '48c1e220', // shl rdx, 32
  '4809d0', // or rax, rdx
  '4801c8', // add rax, rcx
  '4889c2', // mov rdx, rax
  '48c1ea20', // shr rdx, 32
  'b9e0060000', // mov ecx, 0x6e0                  # IA32_TSC_DEADLINE
  '0f30', // wrmsr
  'e97bffffff', // jmp next
  '4989f0', // mov r8, rsi
  '4c8b4ef8', // mov r9, [rsi - 8]
  '89c8', // mov eax, ecx
  '498b19', // mov rbx, [r9]
  '498b4908', // mov rcx, [r9 + 8]
  '498b5110', // mov rdx, [r9 + 16]
  '498b7118', // mov rsi, [r9 + 24]
  '833c25a492000000', // cmp dword ptr [amd], 0
  '7505', // jne 1f
  '0f01c1', // .byte 0x0f, 0x01, 0xc1          # vmcall
  'eb03', // jmp 2f
  '0f01d9', // 1:  .byte 0x0f, 0x01, 0xd9          # vmmcall
  '49894120', // 2:  mov [r9 + 32], rax
  '4c89c6', // mov rsi, r8
  'e945ffffff', // jmp next
  'f390', // pause
  '39042594920000', // cmp [online], eax
  '72f5', // jb wait_online
  'e935ffffff', // jmp next
  'ba04050000', // mov edx, DONE_PORT
  'ee', // out dx, al
  'e92affffff', // jmp next
  'fb', // sti
  'ff042598920000', // inc dword ptr [spun]
  'ebf7', // jmp spinning
  '50', // push rax
  '51', // push rcx
  '52', // push rdx
  '53', // push rbx
  '8b5c2420', // mov ebx, [rsp + 32]
  'f0ff049d00400200', // lock inc dword ptr [VECTORS + rbx*4]
  'f704259092000010000000', // test dword ptr [flags], EOI_PV  # no exit before the EOI: it would take KVM's word back
  '751c', // jnz report
  'f704259092000002000000', // test dword ptr [flags], EOI_X2APIC
  '740f', // jz report
  'b902080000', // mov ecx, 0x802                  # x2APIC ID
  '0f32', // rdmsr
  'f0ff048500000200', // lock inc dword ptr [PROCESSORS + rax*4]
  'f704259092000001000000', // test dword ptr [flags], REPORT
  '7408', // jz acknowledge
  '89d8', // mov eax, ebx
  'ba00050000', // mov edx, REPORT_PORT
  'ef', // out dx, eax
  '83fb20', // cmp ebx, 0x20                   # NMI and exceptions have no EOI
  '725c', // jb leave
  '8b042590920000', // mov eax, [flags]
  'a910000000', // test eax, EOI_PV
  '7416', // jz pic
  'f00fba34250080020000', // lock btr dword ptr [PV_EOI], 0
  '730a', // jnc pic
  'f0ff0425a8920000', // lock inc dword ptr [skipped]
  'eb38', // jmp leave
  'a908000000', // test eax, EOI_PIC
  '740d', // jz xapic
  'b020', // mov al, 0x20
  'e6a0', // out 0xa0, al
  'e620', // out 0x20, al
  '8b042590920000', // mov eax, [flags]
  'a904000000', // test eax, EOI_XAPIC
  '740b', // jz x2apic
  'b9b000e0fe', // mov ecx, 0xfee000b0
  'c70100000000', // mov dword ptr [rcx], 0
  'a902000000', // test eax, EOI_X2APIC
  '740b', // jz leave
  'b90b080000', // mov ecx, 0x80b                  # x2APIC EOI
  '31c0', // xor eax, eax
  '31d2', // xor edx, edx
  '0f30', // wrmsr
  '5b', // pop rbx
  '5a', // pop rdx
  '59', // pop rcx
  '58', // pop rax
  '4883c408', // add rsp, 8
  '48cf', // iretq
  '0f1f00', // .balign 16
  '0000000000000000', // .quad 0
  'ffff0000009baf00', // .quad 0x00af9b000000ffff        # 0x08: 64-bit code
  'ffff00000093cf00', // .quad 0x00cf93000000ffff        # 0x10: data
  '1700', // .word . - gdt - 1
  '6092000000000000', // .quad gdt
  'ff0f', // .word 256*16 - 1
  '0050000000000000', // .quad 0x5000
  '0f1f4000', // .balign 8
  '00000000', // flags:    .long 0
  '00000000', // online:   .long 0                   # application processors that sleep
  '00000000', // spun:     .long 0
  'a4910000', // handler:  .long interrupt
  '00000000', // boot_cr3: .long 0
  '00000000', // amd:      .long 0                   # VMMCALL, not VMCALL
  '00000000', // skipped:  .long 0                   # EOIs that KVM did not need
  '00000000', // woken:    .long 0                   # ends of HLT
]

/** The guest's code and data. */
export const image: Uint8Array = Buffer.from(lines.join(''), 'hex')
