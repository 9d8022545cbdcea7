// Assembled from platform.S; change that and run `npm run assemble`.

/** Where the guest is loaded, where it starts, where the host puts its parameters. */
export const layout = {
  gpa: 0x100000,
  parameters: 0x100000,
  start: 0x100020,
} as const

// biome-ignore format: one line of source, one line of bytes
const lines = [
  '02b0ad1b', // .long MAGIC
  '03000100', // .long FLAGS
  'fb4f51e4', // .long -(MAGIC + FLAGS)
  '00001000', // .long parameters                # header_addr
  '00001000', // .long parameters                # load_addr
  '00000000', // .long 0                         # load_end_addr: all of the file
  '00401000', // .long bss_end                   # bss_end_addr
  '20001000', // .long start
  'bc00401000', // mov esp, offset stack_end
  '0f0115a0041000', // lgdt gdt_register
  '6a08', // push 0x08
  '6834001000', // push offset reloaded
  'cb', // retf
  'b910000000', // mov ecx, 0x10
  '8ed9', // mov ds, ecx
  '8ec1', // mov es, ecx
  '8ed1', // mov ss, ecx
  '3d02b0ad2b', // cmp eax, 0x2badb002
  '741b', // je by_multiboot
  'be30041000', // mov esi, offset text_pvh
  'e876030000', // call print
  '813b78c56e33', // cmp dword ptr [ebx], PVH_MAGIC
  '0f85dd020000', // jne fail
  '8b7320', // mov esi, [ebx + 32]             # rsdp_paddr
  'eb30', // jmp found_rsdp
  'be34041000', // mov esi, offset text_multiboot
  'e85b030000', // call print
  'be00000e00', // mov esi, 0xe0000
  '813e52534420', // cmp dword ptr [esi], 0x20445352 # "RSD "
  '7509', // jne next_place
  '817e0450545220', // cmp dword ptr [esi + 4], 0x20525450 # "PTR "
  '7410', // je found_rsdp
  '83c610', // add esi, 16
  '81fe00001000', // cmp esi, 0x100000
  '72e4', // jb search
  'e9a8020000', // jmp fail
  '8b7618', // mov esi, [esi + 24]             # xsdt
  '8b4e04', // mov ecx, [esi + 4]
  '01f1', // add ecx, esi                    # its end
  '83c624', // add esi, 36
  '39ce', // cmp esi, ecx
  '7332', // jae tables_done
  '8b16', // mov edx, [esi]
  '8b02', // mov eax, [edx]
  '3d41504943', // cmp eax, 0x43495041             # "APIC"
  '7506', // jne 1f
  '8915b0041000', // mov madt, edx
  '3d46414350', // 1:  cmp eax, 0x50434146             # "FACP"
  '7506', // jne 2f
  '8915b4041000', // mov fadt, edx
  '3d4d434647', // 2:  cmp eax, 0x4746434d             # "MCFG"
  '7508', // jne 3f
  '8b422c', // mov eax, [edx + 44]
  'a3b8041000', // mov ecam, eax
  '83c608', // 3:  add esi, 8
  'ebca', // jmp next_table
  'b91b000000', // mov ecx, IA32_APIC_BASE
  '0f32', // rdmsr
  '0d000c0000', // or eax, 0xc00
  '0f30', // wrmsr
  'b90f080000', // mov ecx, X2APIC_SVR
  '31d2', // xor edx, edx
  'b8ff010000', // mov eax, 0x1ff
  '0f30', // wrmsr
  'b902080000', // mov ecx, X2APIC_ID
  '0f32', // rdmsr
  'a3bc041000', // mov own_id, eax
  'bed3031000', // mov esi, offset trampoline
  'bf00800000', // mov edi, AP_START
  'b921000000', // mov ecx, trampoline_end - trampoline
  'f3a4', // rep movsb
  '8b35b0041000', // mov esi, madt
  '8b6e04', // mov ebp, [esi + 4]
  '01f5', // add ebp, esi                    # its end
  '83c62c', // add esi, 44
  '39ee', // cmp esi, ebp
  '7348', // jae entries_done
  '803e00', // cmp byte ptr [esi], 0           # a local APIC
  '750c', // jne 1f
  'f6460401', // test byte ptr [esi + 4], 1      # enabled
  '7435', // jz skip
  '0fb65603', // movzx edx, byte ptr [esi + 3]
  'eb0e', // jmp processor
  '803e09', // 1:  cmp byte ptr [esi], 9           # a local x2APIC
  '752a', // jne skip
  'f6460801', // test byte ptr [esi + 8], 1
  '7424', // jz skip
  '8b5604', // mov edx, [esi + 4]
  'ff05c0041000', // inc dword ptr found
  '3b15bc041000', // cmp edx, own_id
  '7413', // je skip
  'b930080000', // mov ecx, X2APIC_ICR
  'b800450000', // mov eax, 0x4500                 # INIT
  '0f30', // wrmsr
  'b808460000', // mov eax, 0x4600 + (AP_START >> 12) # SIPI
  '0f30', // wrmsr
  '0fb64601', // movzx eax, byte ptr [esi + 1]
  '01c6', // add esi, eax
  'ebb4', // jmp next_entry
  'f390', // pause
  'a1c4041000', // mov eax, started
  '40', // inc eax                         # we ourselves
  '3b05c0041000', // cmp eax, found
  '75f0', // jne entries_done
  'be3e041000', // mov esi, offset text_processors
  'e847020000', // call print
  'a1c4041000', // mov eax, started
  '40', // inc eax
  'e81e020000', // call print_number
  'be4c041000', // mov esi, offset text_highest
  'e832020000', // call print
  'a1c8041000', // mov eax, highest
  'e80a020000', // call print_number
  '8b3db8041000', // mov edi, ecam
  '31ed', // xor ebp, ebp                    # slot
  '89e8', // mov eax, ebp                    # both ways to configuration space must agree
  'c1e00b', // shl eax, 11
  '0d00000080', // or eax, 0x80000000
  '66baf80c', // mov dx, 0xcf8
  'ef', // out dx, eax
  '66bafc0c', // mov dx, 0xcfc
  'ed', // in eax, dx
  '3b07', // cmp eax, [edi]
  '0f8577010000', // jne fail
  '3d34127856', // cmp eax, DEVICE
  '7411', // je found_device
  '81c700800000', // add edi, 0x8000
  '45', // inc ebp
  '83fd20', // cmp ebp, 32
  '72d1', // jb next_slot
  'e95f010000', // jmp fail
  'be5a041000', // mov esi, offset text_slot
  'e8e2010000', // call print
  '89e8', // mov eax, ebp
  'e8bd010000', // call print_number
  '66834f0406', // or word ptr [edi + 4], 6        # memory, bus master
  '0fb64734', // movzx eax, byte ptr [edi + 0x34]
  '85c0', // test eax, eax
  '0f843d010000', // jz fail
  '8d1c07', // lea ebx, [edi + eax]
  '803b11', // cmp byte ptr [ebx], 0x11        # MSI-X
  '7406', // je found_msix
  '0fb64301', // movzx eax, byte ptr [ebx + 1]
  'ebea', // jmp next_capability
  '8b4304', // mov eax, [ebx + 4]              # table: offset and BAR
  'e833010000', // call address_in_bar
  '89c6', // mov esi, eax
  '8b4308', // mov eax, [ebx + 8]              # pending bits
  'e829010000', // call address_in_bar
  'a3cc041000', // mov pending, eax
  '8b4710', // mov eax, [edi + 0x10]           # BAR 0: the device's doorbell
  '83e0f0', // and eax, -16
  'a3d0041000', // mov doorbell, eax
  'a1bc041000', // mov eax, own_id
  'c1e00c', // shl eax, 12
  '0d0000e0fe', // or eax, 0xfee00000
  '8906', // mov [esi], eax
  '894610', // mov [esi + 16], eax
  'c7460841000000', // mov dword ptr [esi + 8], VECTOR
  'c7461842000000', // mov dword ptr [esi + 24], VECTOR + 1
  'c7460c00000000', // mov dword ptr [esi + 12], 0     # unmasked
  'c7461c01000000', // mov dword ptr [esi + 28], 1     # masked
  '66c743020080', // mov word ptr [ebx + 2], 0x8000  # enable
  'ba41000000', // mov edx, VECTOR
  'b87f031000', // mov eax, offset interrupt0
  'e8e8000000', // call set_gate
  'ba42000000', // mov edx, VECTOR + 1
  'b888031000', // mov eax, offset interrupt1
  'e8d9000000', // call set_gate
  '0f011da6041000', // lidt idt_register
  'fb', // sti
  '8b3dd0041000', // mov edi, doorbell
  'b964000000', // mov ecx, 100                    # a hundred interrupts, each waited for
  'a1d4041000', // mov eax, taken0
  '40', // inc eax
  'c70700000000', // mov dword ptr [edi], 0
  'f390', // 1:  pause
  '3b05d4041000', // cmp eax, taken0
  '75f6', // jne 1b
  'e2e8', // loop ring
  'c70701000000', // mov dword ptr [edi], 1          # masked: must become pending
  'a1cc041000', // mov eax, pending
  '8b00', // mov eax, [eax]
  'a902000000', // test eax, 2
  '747c', // jz fail
  '833dd804100000', // cmp dword ptr taken1, 0
  '7573', // jne fail
  'c7461c00000000', // mov dword ptr [esi + 28], 0
  'f390', // 2:  pause
  '833dd804100001', // cmp dword ptr taken1, 1
  '75f5', // jne 2b
  'fa', // cli
  'be62041000', // mov esi, offset text_interrupts
  'e8e3000000', // call print
  'a1d4041000', // mov eax, taken0
  'e8bb000000', // call print_number
  'be70041000', // mov esi, offset text_and
  'e8cf000000', // call print
  'a1d8041000', // mov eax, taken1
  'e8a7000000', // call print_number
  'be76041000', // mov esi, offset text_end
  'e8bb000000', // call print
  '8b35b4041000', // mov esi, fadt
  '8b5640', // mov edx, [esi + 64]             # PM1a control
  '8b7628', // mov esi, [esi + 40]             # DSDT
  '46', // inc esi
  '813e5f53355f', // cmp dword ptr [esi], 0x5f35535f # "_S5_"
  '75f7', // jne search_s5
  '0fb64607', // movzx eax, byte ptr [esi + 7]   # behind package and its length and count: a constant
  '3c0a', // cmp al, 0x0a                    # a byte follows; else it is 0 or 1 itself
  '7504', // jne 1f
  '0fb64608', // movzx eax, byte ptr [esi + 8]
  'c1e00a', // 1:  shl eax, 10
  '0d00200000', // or eax, 0x2000
  '66ef', // out dx, ax
  'f4', // hlt
  'ebfd', // jmp stop
  'be78041000', // mov esi, offset text_fail
  'e883000000', // call print
  'ebf1', // jmp stop
  '89c2', // mov edx, eax
  '83e207', // and edx, 7
  '83e0f8', // and eax, -8
  '8b549710', // mov edx, [edi + 0x10 + edx * 4]
  '83e2f0', // and edx, -16
  '01d0', // add eax, edx
  'c3', // ret
  '668904d500201000', // mov [idt + edx * 8], ax
  '66c704d5022010000800', // mov word ptr [idt + edx * 8 + 2], 0x08
  '66c704d504201000008e', // mov word ptr [idt + edx * 8 + 4], 0x8e00
  'c1e810', // shr eax, 16
  '668904d506201000', // mov [idt + edx * 8 + 6], ax
  'c3', // ret
  'f0ff05d4041000', // lock inc dword ptr taken0
  'eb07', // jmp acknowledge
  'f0ff05d8041000', // lock inc dword ptr taken1
  '50', // push eax
  '51', // push ecx
  '52', // push edx
  'b90b080000', // mov ecx, X2APIC_EOI
  '31c0', // xor eax, eax
  '31d2', // xor edx, edx
  '0f30', // wrmsr
  '5a', // pop edx
  '59', // pop ecx
  '58', // pop eax
  'ff742408', // push dword ptr [esp + 8]        # EFLAGS
  '9d', // popfd
  'ca0400', // retf 4
  '53', // push ebx
  'bb0a000000', // mov ebx, 10
  '31c9', // xor ecx, ecx
  '31d2', // 1:  xor edx, edx
  'f7f3', // div ebx
  '52', // push edx
  '41', // inc ecx
  '85c0', // test eax, eax
  '75f6', // jnz 1b
  '58', // 2:  pop eax
  '0430', // add al, '0'
  '66baf803', // mov dx, COM1
  'ee', // out dx, al
  'e2f6', // loop 2b
  '5b', // pop ebx
  'c3', // ret
  'ac', // lodsb
  '84c0', // test al, al
  '7407', // jz 1f
  '66baf803', // mov dx, COM1
  'ee', // out dx, al
  'ebf4', // jmp print
  'c3', // 1:  ret
  'fa', // cli
  '8cc8', // mov ax, cs
  '8ed8', // mov ds, ax
  '0f01161b00', // lgdt [trampoline_gdt - trampoline]
  '66b811000000', // mov eax, 0x11                   # CR0.PE, ET
  '0f22c0', // mov cr0, eax
  '66ea', // .byte 0x66, 0xea                # far jump to 0x08:protected
  'f4031000', // .long protected
  '0800', // .word 0x08
  '1700', // .word 0x17
  '88041000', // .long gdt
  'b810000000', // mov eax, 0x10
  '8ed8', // mov ds, eax
  'b91b000000', // mov ecx, IA32_APIC_BASE
  '0f32', // rdmsr
  '0d000c0000', // or eax, 0xc00
  '0f30', // wrmsr
  'b902080000', // mov ecx, X2APIC_ID
  '0f32', // rdmsr
  '89c2', // mov edx, eax
  'a1c8041000', // mov eax, highest
  '39c2', // 1:  cmp edx, eax
  '760a', // jbe 2f
  'f00fb115c8041000', // lock cmpxchg [highest], edx
  '75f2', // jne 1b
  'f0ff05c4041000', // 2:  lock inc dword ptr started
  'fa', // 3:  cli
  'f4', // hlt
  'ebfc', // jmp 3b
  '70766800', // text_pvh:        .asciz "pvh"
  '6d756c7469626f6f7400', // text_multiboot:  .asciz "multiboot"
  '3a2070726f636573736f72732000', // text_processors: .asciz ": processors "
  '2c20686967686573742069642000', // text_highest:    .asciz ", highest id "
  '3b20736c6f742000', // text_slot:       .asciz "; slot "
  '2c20696e74657272757074732000', // text_interrupts: .asciz ", interrupts "
  '20616e642000', // text_and:        .asciz " and "
  '0a00', // text_end:        .asciz "\n"
  '206661696c65640a00', // text_fail:       .asciz " failed\n"
  '0f1f8000000000', // .balign 8
  '0000000000000000ffff0000009bcf00ffff00000093cf00', // .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
  '1700', // .short 23
  '88041000', // .long gdt
  'ff07', // .word 0x7ff
  '00201000', // .long idt
  '0f1f4000', // .balign 8
  '00000000', // madt: .long 0
  '00000000', // fadt: .long 0
  '00000000', // ecam: .long 0
  '00000000', // own_id: .long 0
  '00000000', // found: .long 0
  '00000000', // started: .long 0
  '00000000', // highest: .long 0
  '00000000', // pending: .long 0
  '00000000', // doorbell: .long 0
  '00000000', // taken0: .long 0
  '00000000', // taken1: .long 0
  '0f1f4000', // .balign 8
]

/** The guest's code and data. */
export const image: Uint8Array = Buffer.from(lines.join(''), 'hex')
