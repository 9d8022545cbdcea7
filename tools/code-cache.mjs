// @ts-check
// Part of `npm run build:ts`: keeps the code that V8 makes of `node-kvm run`, beside it. A machine is run first, so that
// functions which are compiled when they are first called are among it; without KVM, those that need none.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { setFlagsFromString } from 'node:v8'
import { codeCacheOf, compileModule } from '../lib/cli/code-cache.js'

// Such flags count when code is taken or not, so this one is taken back below.
setFlagsFromString('--no-flush-bytecode')

/** @param {number} port mov dx, port */
const select = (port) => [0x66, 0xba, port & 0xff, port >> 8]
/** @param {number} port @param {number} value mov al, value; out dx, al */
const outByte = (port, value) => [...select(port), 0xb0, value, 0xee]
/** @param {number} port in al, dx */
const inByte = (port) => [...select(port), 0xec]
/** @param {number} port @param {number} value mov eax, value; out dx, ax */
const outWord = (port, value) => [...select(port), 0xb8, value & 0xff, value >> 8, 0, 0, 0x66, 0xef]
/** @param {number} port in ax, dx */
const inWord = (port) => [...select(port), 0x66, 0xed]

/** What kernels do with the serial port, the clock, ACPI's registers, PCI and ports that nobody has; then a power-off. */
const PROGRAM = Buffer.from([
  ...[outByte(0x3f9, 0), outByte(0x3fb, 0x83), outByte(0x3f8, 1), outByte(0x3f9, 0)].flat(),
  ...[outByte(0x3fb, 3), outByte(0x3fa, 7), outByte(0x3fc, 11), inByte(0x3f8)].flat(),
  ...[inByte(0x3fd), inByte(0x3fe), outByte(0x3f9, 7), inByte(0x3fa)].flat(),
  ...[outByte(0x3f8, 0x0a), inByte(0x3fa), outByte(0x3f9, 0), inByte(0x3fa)].flat(),
  ...[outByte(0xcfb, 1), inByte(0x2f9), outByte(0x2f9, 0)].flat(),
  ...[10, 11, 12, 0, 50].flatMap((register) => [...outByte(0x70, register), ...inByte(0x71)]),
  ...[outByte(0x70, 11), outByte(0x71, 2)].flat(),
  ...[0x600, 0x602, 0x620, 0x622].flatMap((port) => [...inWord(port), ...outWord(port, 0)]),
  ...[inWord(0x604), outWord(0x604, 0x2000)].flat(),
  ...[0xf4, 0xeb, 0xfd], // hlt, again and again
])
const GPA = 0x10_0000

/** An ELF64 kernel with a PVH entry, the way in that Linux is given, which ends at once. */
function kernel() {
  const [elfHeader, programHeader, noteSize] = [64, 56, 20]
  const headers = elfHeader + 2 * programHeader
  const file = Buffer.alloc(headers + noteSize + PROGRAM.length)
  file.write('\x7fELF\x02\x01\x01', 'latin1')
  file.writeUInt16LE(2, 16) // e_type ET_EXEC
  file.writeUInt16LE(62, 18) // e_machine EM_X86_64
  file.writeUInt32LE(1, 20) // e_version
  file.writeUInt32LE(GPA, 24) // e_entry
  file.writeUInt32LE(elfHeader, 32) // e_phoff
  file.writeUInt16LE(elfHeader, 52) // e_ehsize
  file.writeUInt16LE(programHeader, 54) // e_phentsize
  file.writeUInt16LE(2, 56) // e_phnum
  const segments = [
    { type: 1, offset: headers + noteSize, size: PROGRAM.length },
    { type: 4, offset: headers, size: noteSize },
  ]
  for (const [i, { type, offset, size }] of segments.entries()) {
    const at = elfHeader + i * programHeader
    file.writeUInt32LE(type, at)
    file.writeUInt32LE(7, at + 4) // p_flags
    file.writeUInt32LE(offset, at + 8)
    file.writeUInt32LE(GPA, at + 16) // p_vaddr
    file.writeUInt32LE(GPA, at + 24) // p_paddr
    file.writeUInt32LE(size, at + 32)
    file.writeUInt32LE(size, at + 40)
    file.writeUInt32LE(4, at + 48) // p_align
  }
  // XEN_ELFNOTE_PHYS32_ENTRY
  for (const [i, word] of [4, 4, 18].entries()) file.writeUInt32LE(word, headers + 4 * i)
  file.write('Xen\0', headers + 12, 'latin1')
  file.writeUInt32LE(GPA, headers + 16)
  PROGRAM.copy(file, headers + noteSize)
  return file
}

const file = fileURLToPath(new URL('../lib/cli/parts/run.cjs', import.meta.url))
const { script, run } = compileModule(file)
const command = /** @type {typeof import('../lib/cli/run.js')} */ (run())
const folder = mkdtempSync(join(tmpdir(), 'node-kvm-build-'))
try {
  const image = join(folder, 'image')
  writeFileSync(image, kernel())
  const args = [
    '--kernel',
    image,
    '--initrd',
    image,
    '--cmdline',
    'quiet',
    '--memory',
    '64M',
    '--thp',
  ]
  await command.run(args)
} catch (error) {
  console.error(`code cache: without a machine's: ${/** @type {Error} */ (error).message}`)
} finally {
  rmSync(folder, { recursive: true })
}
setFlagsFromString('--flush-bytecode')
writeFileSync(codeCacheOf(file), script.createCachedData())
