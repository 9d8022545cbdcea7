// Assembled from frames.S; change that and run `npm run assemble`.

/** Where the guest is loaded, where it starts, where the host puts its parameters. */
export const layout = {
  gpa: 0x100000,
  parameters: 0x1001a0,
  start: 0x100000,
} as const

// biome-ignore format: one line of source, one line of bytes
const lines = [
  'bc00000800', // mov esp, 0x80000
  'c705700000ea00000000', // mov dword ptr ds:[STATUS], 0    # reset
  'c705700000ea01000000', // mov dword ptr ds:[STATUS], 1    # acknowledge
  'c705700000ea03000000', // mov dword ptr ds:[STATUS], 3    # driver
  'c705240000ea01000000', // mov dword ptr ds:[DRIVER_FEATURES_SEL], 1
  'c705200000ea01000000', // mov dword ptr ds:[DRIVER_FEATURES], 1 # VIRTIO_F_VERSION_1
  'c705700000ea0b000000', // mov dword ptr ds:[STATUS], 0xb  # features ok
  'c705300000ea00000000', // mov dword ptr ds:[QUEUE_SEL], 0 # frames for us
  'c705380000ea02000000', // mov dword ptr ds:[QUEUE_NUM], 2
  'c705800000ea50011000', // mov dword ptr ds:[QUEUE_DESC], offset receive_descriptors
  'c705900000ea90011000', // mov dword ptr ds:[QUEUE_DRIVER], offset receive_available
  'c705a00000eaa0111000', // mov dword ptr ds:[QUEUE_DEVICE], offset receive_used
  'c705440000ea01000000', // mov dword ptr ds:[QUEUE_READY], 1
  'c705300000ea01000000', // mov dword ptr ds:[QUEUE_SEL], 1 # frames from us
  'c705380000ea02000000', // mov dword ptr ds:[QUEUE_NUM], 2
  'c705800000ea70011000', // mov dword ptr ds:[QUEUE_DESC], offset send_descriptors
  'c705900000ea98011000', // mov dword ptr ds:[QUEUE_DRIVER], offset send_available
  'c705a00000eae0111000', // mov dword ptr ds:[QUEUE_DEVICE], offset send_used
  'c705440000ea01000000', // mov dword ptr ds:[QUEUE_READY], 1
  'a1a4011000', // mov eax, length
  'a378011000', // mov send_descriptors + 8, eax
  'c705700000ea0f000000', // mov dword ptr ds:[STATUS], 0xf  # driver ok
  '31ed', // xor ebp, ebp                    # frames that were received
  '803da001100000', // cmp byte ptr begins, 0
  '7405', // je give
  'e859000000', // call send
  '66ff0592011000', // inc word ptr receive_available + 2
  'c705500000ea00000000', // mov dword ptr ds:[QUEUE_NOTIFY], 0
  'f390', // pause
  '66392da2111000', // cmp receive_used + 2, bp
  '74f5', // je wait
  '89eb', // mov ebx, ebp
  '83e301', // and ebx, 1
  '8b0cdda8111000', // mov ecx, receive_used[8 + ebx * 8] # bytes written
  '45', // inc ebp
  '83e90c', // sub ecx, HEADER
  '89c8', // mov eax, ecx
  '0fc8', // bswap eax
  'baf8030000', // mov edx, COM1
  '51', // push ecx
  '50', // push eax
  '89e6', // mov esi, esp
  'b904000000', // mov ecx, 4
  'f36e', // rep outsb
  '58', // pop eax
  '59', // pop ecx
  'beac211000', // mov esi, offset receive_buffer + HEADER
  'f36e', // rep outsb
  '803da101100000', // cmp byte ptr answers, 0
  '74ae', // je give
  'e802000000', // call send
  'eba7', // jmp give
  '66ff059a011000', // inc word ptr send_available + 2
  'c705500000ea01000000', // mov dword ptr ds:[QUEUE_NOTIFY], 1
  'c3', // ret
  '0f1f840000000000', // .balign 16
  'a021100000000000', // .quad receive_buffer
  '00080000', // .long 2048
  '02000000', // .short 2, 0                     # for the device to write
  '00000000000000000000000000000000', // .quad 0, 0
  'b001100000000000', // .quad frame
  '00000000', // .long 0
  '00000000', // .short 0, 0
  '00000000000000000000000000000000', // .quad 0, 0
  '0000000000000000', // .short 0, 0, 0, 0               # flags, index, ring: always descriptor 0
  '0000000000000000', // .short 0, 0, 0, 0
]

/** The guest's code and data. */
export const image: Uint8Array = Buffer.from(lines.join(''), 'hex')
