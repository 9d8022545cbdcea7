// Guest code that comes as a file: flat, or an ELF executable.

import { isElf, PT_LOAD, parseElf } from '../boot/elf.js'
import type { GuestMemory } from '../core/memory.js'
import { decodeLines } from './assembler/disassemble.js'
import type { Bits } from './assembler/opcodes.js'
import { Program } from './assembler/program.js'
import * as layout from './layout.js'

/** `out PORT_DONE, al; jmp $ - 2`: what a flat image runs into. */
const DONE = [0xe6, layout.PORT_DONE, 0xeb, 0xfc]

interface Piece {
  readonly gpa: number
  readonly bytes: Uint8Array
  readonly size: number
}

/**
 * Puts the code into RAM; the program begins at its entry.
 *
 * @throws BootError for a malformed ELF file.
 * @throws RangeError for code that does not fit, or lies where the guest's tables are.
 */
export function loadImage(memory: GuestMemory, image: Uint8Array, bits: Bits): Program {
  const { entry, pieces } = isElf(image) ? elfPieces(image, bits) : flatPieces(image)
  for (const { gpa, size } of pieces) checkPlace(memory, gpa, size)
  for (const { gpa, bytes, size } of pieces) {
    memory.write(gpa, bytes)
    memory.fill(gpa + bytes.length, size - bytes.length)
  }
  const first = pieces.find(({ gpa, size }) => entry >= gpa && entry < gpa + size)
  if (!first) throw new RangeError(`the entry 0x${entry.toString(16)} lies in no segment`)
  const code = first.bytes.subarray(entry - first.gpa)
  return new Program(BigInt(entry), bits, decodeLines(code, BigInt(entry), bits), new Map())
}

function flatPieces(image: Uint8Array): { entry: number; pieces: Piece[] } {
  const bytes = Uint8Array.from([...image, ...DONE])
  return { entry: layout.CODE, pieces: [{ gpa: layout.CODE, bytes, size: bytes.length }] }
}

function elfPieces(image: Uint8Array, bits: Bits): { entry: number; pieces: Piece[] } {
  const elf = parseElf(image)
  if ((elf.bits === 64) !== (bits === 64)) {
    throw new RangeError(`an ELF${elf.bits} file does not hold ${bits}-bit code`)
  }
  const pieces = elf.segments
    .filter(({ type, memorySize }) => type === PT_LOAD && memorySize > 0)
    .map(({ paddr, data, memorySize }) => ({ gpa: paddr, bytes: data, size: memorySize }))
  return { entry: Number(elf.entry), pieces }
}

/** Code may lie where the assembler's lies, and behind the page tables. */
function checkPlace(memory: GuestMemory, gpa: number, size: number): void {
  const end = gpa + size
  const low = gpa >= layout.CODE && end <= layout.CODE_END
  const high = gpa >= layout.TABLES + layout.TABLES_SIZE && end <= memory.size
  if (low || high) return
  const range = `0x${gpa.toString(16)} to 0x${end.toString(16)}`
  throw new RangeError(
    `code may lie from 0x8000 to 0xbfff and from 0x20000 to 0x${(memory.size - 1).toString(16)}, not ${range}`,
  )
}
