// A guest in two halves. The first fills pages of RAM with numbers and says so at a port: the moment
// to save it. The second adds up some of them, writes a few, and says the sum.

/** Where its code is to be, and where it begins. */
export const CODE = 0x9000
/** The pages it fills. */
export const DATA = 0x20_0000
export const PAGES = 4096
/** The second half reads every so-manieth page, and writes the first few. */
export const STEP = 8
export const WRITES = 16
/** RAM in bytes. */
export const SIZE = DATA + PAGES * 4096
export const READY_PORT = 0x10
export const SUM_PORT = 0x11
/** What it says in the end: its pages hold 1, 2, 3, … */
export const SUM = (PAGES / STEP) * (1 + (PAGES - STEP) / 2)

const imm32 = (value: number) => [...new Uint8Array(Uint32Array.of(value).buffer)]

export const image: Uint8Array = Uint8Array.from([
  ...[0xbf, ...imm32(DATA)], // mov edi, DATA
  ...[0xb9, ...imm32(PAGES)], // mov ecx, PAGES
  ...[0xb8, ...imm32(1)], // mov eax, 1
  ...[0x48, 0x89, 0x07], // fill: mov [rdi], rax
  ...[0x48, 0x81, 0xc7, ...imm32(4096)], // add rdi, 4096
  ...[0xff, 0xc0], // inc eax
  ...[0xff, 0xc9], // dec ecx
  ...[0x75, 0xf0], // jnz fill
  ...[0xe6, READY_PORT], // out READY_PORT, al
  ...[0xbe, ...imm32(DATA)], // mov esi, DATA
  ...[0xb9, ...imm32(PAGES / STEP)], // mov ecx, PAGES / STEP
  ...[0x31, 0xdb], // xor ebx, ebx
  ...[0x48, 0x03, 0x1e], // sum: add rbx, [rsi]
  ...[0x48, 0x81, 0xc6, ...imm32(STEP * 4096)], // add rsi, STEP * 4096
  ...[0xff, 0xc9], // dec ecx
  ...[0x75, 0xf2], // jnz sum
  ...[0xbf, ...imm32(DATA)], // mov edi, DATA
  ...[0xb9, ...imm32(WRITES)], // mov ecx, WRITES
  ...[0x48, 0x01, 0x1f], // own: add [rdi], rbx
  ...[0x48, 0x81, 0xc7, ...imm32(4096)], // add rdi, 4096
  ...[0xff, 0xc9], // dec ecx
  ...[0x75, 0xf2], // jnz own
  ...[0x89, 0xd8], // mov eax, ebx
  ...[0xe7, SUM_PORT], // out SUM_PORT, eax
  0xf4, // hlt
])
