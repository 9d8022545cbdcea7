// Assembled from multiboot.S; change that and run `npm run assemble`.

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
  '00201000', // .long bss_end                   # bss_end_addr
  '20001000', // .long start
  'bc00201000', // mov esp, offset bss_end
  '3d02b0ad2b', // cmp eax, 0x2badb002
  '755a', // jne off
  '8b7310', // mov esi, [ebx + 16]             # cmdline
  'e85e000000', // call print_line
  '8b7b18', // mov edi, [ebx + 24]             # mods_addr
  '8b6b14', // mov ebp, [ebx + 20]             # mods_count
  '85ed', // test ebp, ebp
  '7424', // jz modules_done
  '8b7708', // mov esi, [edi + 8]
  'e84c000000', // call print_line
  '8b37', // mov esi, [edi]
  '8b4f04', // mov ecx, [edi + 4]
  '39ce', // cmp esi, ecx
  '7408', // je content_done
  'ac', // lodsb
  'e84b000000', // call print_byte
  'ebf4', // jmp print_content
  'e842000000', // call print_end
  '83c710', // add edi, 16
  '4d', // dec ebp
  'ebd8', // jmp next_module
  '8b4308', // mov eax, [ebx + 8]              # mem_upper
  'b90a000000', // mov ecx, 10
  '31ff', // xor edi, edi
  '31d2', // xor edx, edx
  'f7f1', // div ecx
  '52', // push edx
  '47', // inc edi
  '85c0', // test eax, eax
  '75f6', // jnz digits
  '58', // pop eax
  '0430', // add al, '0'
  'e822000000', // call print_byte
  '4f', // dec edi
  '75f5', // jnz print_digits
  'e818000000', // call print_end
  '66ba0406', // mov dx, PM1_CONTROL
  '66b80020', // mov ax, 0x2000
  '66ef', // out dx, ax
  'ebfe', // jmp stop
  'ac', // lodsb
  '84c0', // test al, al
  '7407', // jz print_end
  'e804000000', // call print_byte
  'ebf4', // jmp print_line
  'b00a', // mov al, 10
  '66baf803', // mov dx, COM1
  'ee', // out dx, al
  'c3', // ret
]

/** The guest's code and data. */
export const image: Uint8Array = Buffer.from(lines.join(''), 'hex')
