// A strict reader of ELF executables for x86: headers, program headers and notes. It believes
// nothing: every offset, size, count and sum is checked against the image before it is used.

import { BootError, hex } from './boot-error.js'
import { ImageReader } from './image-reader.js'
import { GPA_END } from './layout.js'

/** Program header types and flags that matter here (ELF specification, "Program Header"). */
export const PT_LOAD = 1
/** A segment of notes. */
export const PT_NOTE = 4
/** `flags`: the segment is executable. */
export const PF_X = 1

/** `machine` of a 32-bit x86 image. */
export const EM_386 = 3
/** `machine` of a 64-bit x86 image. */
export const EM_X86_64 = 62

const ET_EXEC = 2
const ET_DYN = 3
const IDENT_SIZE = 16
const ELFDATA2LSB = 1
const EV_CURRENT = 1
/** Kernels have a handful of program headers; a cap keeps a hostile image from costing minutes. */
const MAX_PROGRAM_HEADERS = 256
/** Kernels have some hundred bytes of notes. */
const MAX_NOTE_BYTES = 0x10_0000
const NOTE_HEADER_SIZE = 12

/** One program header; sizes and offsets in bytes. */
export interface ElfSegment {
  /** Index in the table of program headers. */
  readonly index: number
  /** PT_*. */
  readonly type: number
  /** PF_*. */
  readonly flags: number
  /** Linear address for which the segment is linked. */
  readonly vaddr: bigint
  /** Guest-physical address where it is to be loaded. */
  readonly paddr: number
  /** Bytes in memory; those beyond `data` are zeros. */
  readonly memorySize: number
  readonly alignment: bigint
  /** Offset of `data` in the image. */
  readonly offset: number
  /** The segment's bytes in the image, not copied; at most `memorySize` for a PT_LOAD. */
  readonly data: Uint8Array
}

/** A parsed ELF executable. */
export interface ElfImage {
  /** Address size in bits: 32 or 64. */
  readonly bits: 32 | 64
  /** {@link EM_386} or {@link EM_X86_64}. */
  readonly machine: number
  /** Entry point, as linked: a physical address in a Linux kernel, often a linear one elsewhere. */
  readonly entry: bigint
  readonly segments: readonly ElfSegment[]
}

/** One note of a PT_NOTE segment. */
export interface ElfNote {
  /** The owner's name, without the terminating zero. */
  readonly name: string
  /** Meaning is the owner's. */
  readonly type: number
  /** Offset of `data` in the image. */
  readonly offset: number
  /** The descriptor's bytes, not copied. */
  readonly data: Uint8Array
}

/** Whether an image begins with the ELF magic. */
export function isElf(image: Uint8Array): boolean {
  return image[0] === 0x7f && image[1] === 0x45 && image[2] === 0x4c && image[3] === 0x46
}

/**
 * Parses an ELF32 or ELF64 little-endian executable for x86.
 *
 * @throws BootError `ERR_BOOT_BAD_IMAGE` with the offset, and the segment's index where there is
 *   one; `ERR_BOOT_UNSUPPORTED` for another architecture or an object file
 */
export function parseElf(image: Uint8Array): ElfImage {
  const reader = new ImageReader(image, 'ELF image')
  reader.check(0, IDENT_SIZE, 'the ELF identification')
  if (!isElf(image)) throw reader.bad('does not begin with 7f 45 4c 46', 0)
  const fields = fieldReader(reader, elfClass(reader))
  const { bits } = fields
  const machine = checkKind(reader)
  return { bits, machine, entry: fields.entry(), segments: readSegments(reader, fields) }
}

/** What differs between the classes: where fields are and how wide addresses are. */
interface ElfFields {
  readonly bits: 32 | 64
  readonly headerSize: number
  readonly programHeaderSize: number
  /** Offsets in the file header. */
  readonly phoff: number
  readonly ehsize: number
  /** Offsets in a program header. */
  readonly ph: Readonly<
    Record<'flags' | 'offset' | 'vaddr' | 'paddr' | 'filesz' | 'memsz' | 'align', number>
  >
  readonly entry: () => bigint
  readonly word: (offset: number, field: string) => bigint
  readonly address: (offset: number, field: string, segment?: number) => number
}

function elfClass(reader: ImageReader): 32 | 64 {
  const ident = reader.u8(4, 'EI_CLASS')
  if (ident === 1) return 32
  if (ident === 2) return 64
  throw reader.bad(`EI_CLASS is ${ident}, must be 1 (32-bit) or 2 (64-bit)`, 4)
}

const ENTRY_OFFSET = 24

function fieldReader(reader: ImageReader, bits: 32 | 64): ElfFields {
  if (bits === 64) {
    return {
      bits,
      headerSize: 64,
      programHeaderSize: 56,
      phoff: 32,
      ehsize: 52,
      ph: { flags: 4, offset: 8, vaddr: 16, paddr: 24, filesz: 32, memsz: 40, align: 48 },
      entry: () => reader.u64(ENTRY_OFFSET, 'e_entry'),
      word: (offset, field) => reader.u64(offset, field),
      address: (offset, field, segment) => reader.address(offset, field, segment),
    }
  }
  return {
    bits,
    headerSize: 52,
    programHeaderSize: 32,
    phoff: 28,
    ehsize: 40,
    ph: { offset: 4, vaddr: 8, paddr: 12, filesz: 16, memsz: 20, flags: 24, align: 28 },
    entry: () => BigInt(reader.u32(ENTRY_OFFSET, 'e_entry')),
    word: (offset, field) => BigInt(reader.u32(offset, field)),
    address: (offset, field) => reader.u32(offset, field),
  }
}

function checkKind(reader: ImageReader): number {
  const data = reader.u8(5, 'EI_DATA')
  const version = reader.u8(6, 'EI_VERSION')
  if (version !== EV_CURRENT) throw reader.bad(`EI_VERSION is ${version}, must be 1`, 6)
  const type = reader.u16(16, 'e_type')
  const machine = reader.u16(18, 'e_machine')
  if (data !== ELFDATA2LSB || (machine !== EM_X86_64 && machine !== EM_386)) {
    const message = `ELF image: EI_DATA ${data}, e_machine ${machine}: not for x86`
    throw new BootError('ERR_BOOT_UNSUPPORTED', message, { offset: 18 })
  }
  if (type !== ET_EXEC && type !== ET_DYN) {
    const message = `ELF image: e_type ${type} is not an executable; link it first`
    throw new BootError('ERR_BOOT_UNSUPPORTED', message, { offset: 16 })
  }
  return machine
}

function readSegments(reader: ImageReader, fields: ElfFields): ElfSegment[] {
  const { ehsize, headerSize, phoff, programHeaderSize } = fields
  reader.check(0, headerSize, 'the ELF header')
  const size = reader.u16(ehsize, 'e_ehsize')
  if (size !== headerSize) throw reader.bad(`e_ehsize is ${size}, must be ${headerSize}`, ehsize)
  const start = fields.address(phoff, 'e_phoff')
  const entrySize = reader.u16(ehsize + 2, 'e_phentsize')
  const count = reader.u16(ehsize + 4, 'e_phnum')
  if (count === 0) throw reader.bad('e_phnum is 0: nothing to load', ehsize + 4)
  if (count > MAX_PROGRAM_HEADERS) {
    throw reader.bad(`e_phnum is ${count}, more than ${MAX_PROGRAM_HEADERS}`, ehsize + 4)
  }
  if (entrySize !== programHeaderSize) {
    throw reader.bad(`e_phentsize is ${entrySize}, must be ${programHeaderSize}`, ehsize + 2)
  }
  reader.check(start, count * entrySize, `the table of ${count} program headers`)
  return Array.from({ length: count }, (_, i) =>
    readSegment(reader, fields, start + i * entrySize, i),
  )
}

function readSegment(
  reader: ImageReader,
  { ph, word, address }: ElfFields,
  at: number,
  index: number,
): ElfSegment {
  const type = reader.u32(at, 'p_type')
  const offset = address(at + ph.offset, 'p_offset', index)
  const paddr = address(at + ph.paddr, 'p_paddr', index)
  const fileSize = address(at + ph.filesz, 'p_filesz', index)
  const memorySize = address(at + ph.memsz, 'p_memsz', index)
  if (type === PT_LOAD && fileSize > memorySize) {
    const message = `segment ${index}: p_filesz ${hex(fileSize)} exceeds p_memsz ${hex(memorySize)}`
    throw reader.bad(message, at + ph.filesz, index)
  }
  if (paddr + memorySize > GPA_END) {
    const message = `segment ${index}: ${hex(paddr)} + ${hex(memorySize)} is above 52 bits`
    throw reader.bad(message, at + ph.memsz, index)
  }
  return {
    index,
    type,
    flags: reader.u32(at + ph.flags, 'p_flags'),
    vaddr: word(at + ph.vaddr, 'p_vaddr'),
    paddr,
    memorySize,
    alignment: word(at + ph.align, 'p_align'),
    offset,
    data: reader.slice(offset, fileSize, `segment ${index}`, index),
  }
}

/**
 * The notes of all PT_NOTE segments, in order.
 *
 * @throws BootError `ERR_BOOT_BAD_IMAGE` when a note reaches beyond its segment, or when there is
 *   more than 1 MiB of notes
 */
export function readElfNotes(elf: ElfImage): ElfNote[] {
  const segments = elf.segments.filter((segment) => segment.type === PT_NOTE)
  const size = segments.reduce((sum, { data }) => sum + data.length, 0)
  if (size > MAX_NOTE_BYTES) {
    const message = `ELF image: ${hex(size)} bytes of notes, more than ${hex(MAX_NOTE_BYTES)}`
    throw new BootError('ERR_BOOT_BAD_IMAGE', message, { size, limit: MAX_NOTE_BYTES })
  }
  return segments.flatMap(segmentNotes)
}

function segmentNotes({ data, offset, index, alignment }: ElfSegment): ElfNote[] {
  const reader = new ImageReader(data, `ELF notes of segment ${index}`)
  // 8 only where the segment says so (.note.gnu.property); every other value means 4.
  const align = alignment === 8n ? 8 : 4
  const notes: ElfNote[] = []
  let at = 0
  while (at + NOTE_HEADER_SIZE <= data.length) {
    const nameSize = reader.u32(at, 'namesz')
    const descSize = reader.u32(at + 4, 'descsz')
    const type = reader.u32(at + 8, 'type')
    const nameAt = at + NOTE_HEADER_SIZE
    const descAt = padTo(nameAt + nameSize, align)
    const name = reader.slice(nameAt, nameSize, 'a note name', index)
    const desc = reader.slice(descAt, descSize, 'a note descriptor', index)
    notes.push({ name: cString(name), type, offset: offset + descAt, data: desc })
    at = padTo(descAt + descSize, align)
  }
  return notes
}

function padTo(value: number, align: number): number {
  return Math.ceil(value / align) * align
}

function cString(bytes: Uint8Array): string {
  const end = bytes.indexOf(0)
  return Buffer.from(bytes.subarray(0, end < 0 ? bytes.length : end)).toString('latin1')
}
