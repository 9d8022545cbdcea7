// Assembled from boot-sector.S; change that and run `npm run assemble`.

/** Where the guest is loaded, where it starts, where the host puts its parameters. */
export const layout = {
  gpa: 0x7c00,
  start: 0x7c00,
} as const

// biome-ignore format: one line of source, one line of bytes
const lines = [
  '31c0', // xor ax, ax
  '8ed8', // mov ds, ax
  '8ec0', // mov es, ax
  '8ed0', // mov ss, ax
  'bc007c', // mov sp, 0x7c00
  'b90200', // mov cx, 2                       # cylinder 0, sector 2
  'b600', // mov dh, 0                       # head 0
  'bb0080', // mov bx, SECTOR
  'b80102', // mov ax, 0x201                   # read one
  'cd13', // int 0x13
  '7219', // jc fail
  'fe060080', // inc byte ptr [SECTOR]
  'b80103', // mov ax, 0x301                   # write one
  'cd13', // int 0x13
  '720e', // jc fail
  'be1080', // mov si, SECTOR + TEXT
  'bae900', // mov dx, DEBUG_CONSOLE
  'ac', // lodsb
  '84c0', // test al, al
  '7408', // jz leave
  'ee', // out dx, al
  'ebf8', // jmp print
  'c6060080ff', // mov byte ptr [SECTOR], 0xff
  'a00080', // mov al, [SECTOR]
  'e6f4', // out DEBUG_EXIT, al
  'f4', // hlt
]

/** The guest's code and data. */
export const image: Uint8Array = Buffer.from(lines.join(''), 'hex')
