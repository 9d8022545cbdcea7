// Assembled from hostile.S; change that and run `npm run assemble`.

/** Where the guest is loaded, where it starts, where the host puts its parameters. */
export const layout = {
  gpa: 0x100000,
  parameters: 0x1000b0,
  start: 0x100000,
} as const

// biome-ignore format: one line of source, one line of bytes
const lines = [
  'beb0001000', // mov esi, offset parameters
  '8b1e', // mov ebx, [esi]
  '8b5604', // mov edx, [esi + 4]
  '8b4608', // mov eax, [esi + 8]
  '83c610', // add esi, 16
  '83e30f', // and ebx, 15
  'ff249d1c001000', // jmp [kinds + ebx * 4]
  '6690', // .balign 4
  '5c0010006200100065001000690010006c0010006f00100073001000760010007a0010007f001000830010008a00100092001000', // .long leave, out1, out2, out4, in1, in2, in4, write1, write2, write4, read1, read2, read4
  '990010005c0010005c001000', // .long strings, leave, leave
  '31c0', // xor eax, eax
  'e6f4', // out DEBUG_EXIT, al
  'ebfa', // jmp leave
  'ee', // out dx, al
  'eba0', // jmp next
  '66ef', // out dx, ax
  'eb9c', // jmp next
  'ef', // out dx, eax
  'eb99', // jmp next
  'ec', // in al, dx
  'eb96', // jmp next
  '66ed', // in ax, dx
  'eb92', // jmp next
  'ed', // in eax, dx
  'eb8f', // jmp next
  '8802', // mov [edx], al
  'eb8b', // jmp next
  '668902', // mov [edx], ax
  'eb86', // jmp next
  '8902', // mov [edx], eax
  'eb82', // jmp next
  '8a02', // mov al, [edx]
  'e97bffffff', // jmp next
  '668b02', // mov ax, [edx]
  'e973ffffff', // jmp next
  '8b02', // mov eax, [edx]
  'e96cffffff', // jmp next
  '0fb6c8', // movzx ecx, al
  'bf00002800', // mov edi, BUFFER
  'fc', // cld
  'f36c', // rep insb
  'e95cffffff', // jmp next
  '0f1f8000000000', // .balign 16
]

/** The guest's code and data. */
export const image: Uint8Array = Buffer.from(lines.join(''), 'hex')
