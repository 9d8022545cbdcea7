// Assembled from puppet.S; change that and run `npm run assemble`.

/** Where the guest is loaded, where it starts, where the host puts its parameters. */
export const layout = {
  gpa: 0x100000,
  parameters: 0x1002d0,
  start: 0x100000,
} as const

// biome-ignore format: one line of source, one line of bytes
const lines = [
  'bcd0421000', // mov esp, offset stack_end
  '0f0115c0021000', // lgdt gdt_register
  '6a08', // push 0x08
  '6814001000', // push offset reloaded
  'cb', // retf
  'b910000000', // mov ecx, 0x10
  '8ed9', // mov ds, ecx
  '8ec1', // mov es, ecx
  '8ed1', // mov ss, ecx
  'b91b000000', // mov ecx, IA32_APIC_BASE
  '0f32', // rdmsr
  '0d000c0000', // or eax, 0xc00
  '0f30', // wrmsr
  'b90f080000', // mov ecx, X2APIC_SVR
  '31d2', // xor edx, edx
  'b8ff010000', // mov eax, 0x1ff
  '0f30', // wrmsr
  'bad0141000', // mov edx, offset idt + FIRST_VECTOR * 8
  'b81a011000', // mov eax, offset stubs
  'b920000000', // mov ecx, 32
  '668902', // mov [edx], ax
  '66c742020800', // mov word ptr [edx + 2], 0x08
  '66c74204008e', // mov word ptr [edx + 4], 0x8e00
  '89c3', // mov ebx, eax
  'c1eb10', // shr ebx, 16
  '66895a06', // mov [edx + 6], bx
  '83c208', // add edx, 8
  '83c00a', // add eax, 10
  'e2e0', // loop gate
  '0f011dc6021000', // lidt idt_register
  'fb', // sti
  'f390', // pause
  '8b1dd0021000', // mov ebx, request
  '3b1dd4021000', // cmp ebx, done
  '74f0', // je wait
  '8b15dc021000', // mov edx, address
  'a1e0021000', // mov eax, value
  '8b0dd8021000', // mov ecx, kind
  '83e10f', // and ecx, 15
  'ff148dac001000', // call [kinds + ecx * 4]
  'a3e0021000', // mov value, eax
  '891dd4021000', // mov done, ebx
  'ebc8', // jmp wait
  '6690', // .balign 4
  'ec001000f0001000f2001000f5001000f7001000fb001000000110000201100005011000090110000c0110001101100017011000', // .long leave, out1, out2, out4, in1, in2, in4, write1, write2, write4, read1, read2, read4
  'ec001000ec001000ec001000', // .long leave, leave, leave
  'e6f4', // out DEBUG_EXIT, al
  'ebfc', // jmp leave
  'ee', // out dx, al
  'c3', // ret
  '66ef', // out dx, ax
  'c3', // ret
  'ef', // out dx, eax
  'c3', // ret
  '31c0', // xor eax, eax
  'ec', // in al, dx
  'c3', // ret
  '31c0', // xor eax, eax
  '66ed', // in ax, dx
  'c3', // ret
  'ed', // in eax, dx
  'c3', // ret
  '8802', // mov [edx], al
  'c3', // ret
  '668902', // mov [edx], ax
  'c3', // ret
  '8902', // mov [edx], eax
  'c3', // ret
  '31c0', // xor eax, eax
  '8a02', // mov al, [edx]
  'c3', // ret
  '31c0', // xor eax, eax
  '668b02', // mov ax, [edx]
  'c3', // ret
  '8b02', // mov eax, [edx]
  'c3', // ret
  '6800000000e9360100006801000000e92c0100006802000000e9220100006803000000e9180100006804000000e90e0100006805000000e9040100006806000000e9fa0000006807000000e9f00000006808000000e9e60000006809000000e9dc000000680a000000e9d2000000680b000000e9c8000000680c000000e9be000000680d000000e9b4000000680e000000e9aa000000680f000000e9a00000006810000000e9960000006811000000e98c0000006812000000e9820000006813000000e9780000006814000000e96e0000006815000000e9640000006816000000e95a0000006817000000e9500000006818000000e9460000006819000000e93c000000681a000000e932000000681b000000e928000000681c000000e91e000000681d000000e914000000681e000000e90a000000681f000000e900000000', // .endr
  '50', // push eax
  '51', // push ecx
  '52', // push edx
  '8b44240c', // mov eax, [esp + 12]
  'f0ff048510031000', // lock inc dword ptr [counters + eax * 4]
  '83f810', // cmp eax, LEVEL
  '721e', // jb acknowledge
  '8b15e4021000', // mov edx, status_address
  '85d2', // test edx, edx
  '7414', // jz acknowledge
  '8b02', // mov eax, [edx]
  '0905ec021000', // or seen, eax
  '8b15e8021000', // mov edx, acknowledge_address
  '85d2', // test edx, edx
  '7402', // jz acknowledge
  '8902', // mov [edx], eax
  'b90b080000', // mov ecx, X2APIC_EOI
  '31c0', // xor eax, eax
  '31d2', // xor edx, edx
  '0f30', // wrmsr
  '5a', // pop edx
  '59', // pop ecx
  '58', // pop eax
  '83c404', // add esp, 4
  'ff742408', // push dword ptr [esp + 8]        # EFLAGS
  '9d', // popfd
  'ca0400', // retf 4
  '0f1f00', // .balign 8
  '0000000000000000ffff0000009bcf00ffff00000093cf00', // .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
  '1700', // .short 23
  'a8021000', // .long gdt
  'ff07', // .short 0x7ff
  'd0121000', // .long idt
  '0f1f4000', // .balign 16
]

/** The guest's code and data. */
export const image: Uint8Array = Buffer.from(lines.join(''), 'hex')
