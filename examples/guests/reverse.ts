// Assembled from reverse.S; change that and run `npm run assemble`.

/** Where the guest is loaded, where it starts, where the host puts its parameters. */
export const layout = {
  gpa: 0x100000,
  parameters: 0x1000f0,
  start: 0x100000,
} as const

// biome-ignore format: one line of source, one line of bytes
const lines = [
  'c705700000ea00000000', // mov dword ptr ds:[STATUS], 0    # reset
  'c705700000ea01000000', // mov dword ptr ds:[STATUS], 1    # acknowledge
  'c705700000ea03000000', // mov dword ptr ds:[STATUS], 3    # driver
  'c705240000ea01000000', // mov dword ptr ds:[DRIVER_FEATURES_SEL], 1
  'c705200000ea01000000', // mov dword ptr ds:[DRIVER_FEATURES], 1 # VIRTIO_F_VERSION_1
  'c705700000ea0b000000', // mov dword ptr ds:[STATUS], 0xb  # features ok
  'c705380000ea02000000', // mov dword ptr ds:[QUEUE_NUM], 2
  'c705800000eab0001000', // mov dword ptr ds:[QUEUE_DESC], offset descriptors
  'c705900000ead0001000', // mov dword ptr ds:[QUEUE_DRIVER], offset available
  'c705a00000eaf0001000', // mov dword ptr ds:[QUEUE_DEVICE], offset used
  'c705440000ea01000000', // mov dword ptr ds:[QUEUE_READY], 1
  'c705700000ea0f000000', // mov dword ptr ds:[STATUS], 0xf  # driver ok
  'c705500000ea00000000', // mov dword ptr ds:[QUEUE_NOTIFY], 0
  'f390', // pause
  '66833df200100001', // cmp word ptr used + 2, 1
  '75f4', // jne wait
  '8b0df8001000', // mov ecx, used + 8               # bytes written
  'be10011000', // mov esi, offset answer
  'baf8030000', // mov edx, COM1
  'f36e', // rep outsb
  '31c0', // xor eax, eax
  'e6f4', // out DEBUG_EXIT, al
  'f4', // hlt
  'ebfd', // jmp stop
  '660f1f840000000000', // .balign 16
  'd800100000000000', // .quad question
  '0d000000', // .long question_end - question
  '01000100', // .short 1, 1                     # the next one belongs to it: descriptor 1
  '1001100000000000', // .quad answer
  '40000000', // .long 64
  '02000000', // .short 2, 0                     # for the device to write
  '000001000000', // .short 0, 1, 0                  # flags, index, ring: one buffer, which begins with descriptor
  '6690', // .balign 4
  '216f6974726976206f6c6c6548', // .ascii "!oitriv olleH"
  '66662e0f1f840000000000', // .balign 16
]

/** The guest's code and data. */
export const image: Uint8Array = Buffer.from(lines.join(''), 'hex')
