import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BootError, parseElf, readElfNotes } from '../../src/boot/index.js'
import { bootErrorOf } from '../helpers/boot-error-of.js'
import {
  ELF_LOAD_GPA,
  type ElfFields,
  makeElf,
  makeNote,
  makePvhElf,
  type SegmentFields,
} from '../helpers/boot-images.js'

describe('parseElf', () => {
  it('reads an ELF64 image', () => {
    const elf = parseElf(makeElf())
    expect(elf).toMatchObject({ bits: 64, machine: 62, entry: BigInt(ELF_LOAD_GPA + 0x10) })
    expect(elf.segments).toHaveLength(1)
    expect(elf.segments[0]).toMatchObject({
      index: 0,
      type: 1,
      flags: 5,
      vaddr: 0xffff_ffff_8100_0000n,
      paddr: ELF_LOAD_GPA,
      memorySize: 0x3000,
      alignment: 4n,
      offset: 120,
    })
    expect(elf.segments[0]!.data).toEqual(new Uint8Array(Buffer.alloc(0x1800, 0xcc)))
  })

  it('reads an ELF32 image', () => {
    const data = Uint8Array.of(0xf4)
    const segment = { paddr: 0xc010_0000n, vaddr: 0xffff_0000n, data, memorySize: 0x2000n }
    const elf = parseElf(makeElf({ bits: 32, entry: 0xfff0_0000n, segments: [segment] }))
    expect(elf).toMatchObject({ bits: 32, machine: 3, entry: 0xfff0_0000n })
    expect(elf.segments[0]).toMatchObject({
      paddr: 0xc010_0000,
      vaddr: 0xffff_0000n,
      memorySize: 0x2000,
      flags: 5,
      alignment: 4n,
      offset: 84,
      data,
    })
  })

  const segments = (segment: SegmentFields) => ({
    segments: [{ data: Buffer.alloc(16), ...segment }],
  })
  const big = 2n ** 64n - 1n
  const refused: [name: string, fields: ElfFields, part: RegExp, offset: number][] = [
    ['a wrong identification version', { version: 2 }, /EI_VERSION/, 6],
    ['no program headers', { phnum: 0 }, /e_phnum is 0/, 56],
    ['too many program headers', { phnum: 257 }, /more than 256/, 56],
    ['more program headers than the file holds', { phnum: 256 }, /256 program headers/, 64],
    ['a foreign size of program headers', { phentsize: 57 }, /e_phentsize/, 54],
    ['a foreign size of the header', { ehsize: 52 }, /e_ehsize/, 52],
    ['program headers beyond the file', { phoff: 0x10_0000n }, /program headers/, 0x10_0000],
    ['program headers beyond 52 bits', { phoff: big }, /above 52 bits/, 32],
    ['data beyond the file', segments({ fileSize: 17n, memorySize: 17n }), /segment 0/, 120],
    ['data far beyond the file', segments({ offset: 2n ** 51n }), /truncated/, 2 ** 51],
    ['an offset that would wrap', segments({ offset: big }), /p_offset/, 72],
    ['a physical address above 52 bits', segments({ paddr: big }), /p_paddr/, 88],
    ['a file size above 52 bits', segments({ fileSize: big }), /p_filesz/, 96],
    ['a memory size above 52 bits', segments({ memorySize: big }), /p_memsz/, 104],
    ['a sum above 52 bits', segments({ paddr: 2n ** 52n - 8n }), /above 52 bits/, 104],
    ['more bytes in the file than in memory', segments({ memorySize: 15n }), /exceeds/, 96],
  ]
  it.each(refused)('refuses %s', (_, fields, part, offset) => {
    const error = bootErrorOf(() => parseElf(makeElf(fields)))
    expect(error).toMatchObject({ code: 'ERR_BOOT_BAD_IMAGE', offset })
    expect(error.message).toMatch(part)
  })

  it('names the segment at fault', () => {
    const good = { data: Buffer.alloc(16) }
    const error = bootErrorOf(() => parseElf(makeElf({ segments: [good, { paddr: big }] })))
    expect(error.segment).toBe(1)
  })

  it.each([
    ['another architecture', { machine: 183 }],
    ['big-endian data', { data: 2 }],
    ['an object file', { type: 1 }],
    ['a core dump', { type: 4 }],
  ])('does not take %s', (_, fields) => {
    expect(bootErrorOf(() => parseElf(makeElf(fields))).code).toBe('ERR_BOOT_UNSUPPORTED')
  })

  it('refuses every truncation of a sound image', () => {
    for (const image of [makePvhElf(), makeElf({ bits: 32 })]) {
      for (let size = 0; size < image.length; size++) {
        const error = bootErrorOf(() => parseElf(image.subarray(0, size)))
        expect(error.code).toBe('ERR_BOOT_BAD_IMAGE')
      }
    }
  })

  it('throws nothing but BootError on damaged images', () => {
    const image = makePvhElf()
    const edits = fc.array(fc.tuple(fc.nat(200), fc.integer({ min: 0, max: 255 })), {
      minLength: 1,
    })
    fc.assert(
      fc.property(edits, (list) => {
        const copy = Buffer.from(image)
        for (const [at, value] of list) copy[at] = value
        try {
          readElfNotes(parseElf(copy))
        } catch (error) {
          expect(error).toBeInstanceOf(BootError)
        }
      }),
      { numRuns: 500 },
    )
  })
})

describe('readElfNotes', () => {
  const notesOf = (data: Uint8Array, alignment = 4n) =>
    readElfNotes(parseElf(makeElf({ segments: [{ type: 4, data, alignment }] })))

  it('reads notes whose parts need padding', () => {
    const data = Buffer.concat([
      makeNote('Linux', 257, Uint8Array.of(7)),
      makeNote('A', 2, Buffer.alloc(0)),
    ])
    expect(notesOf(data)).toEqual([
      { name: 'Linux', type: 257, offset: 120 + 20, data: Uint8Array.of(7) },
      { name: 'A', type: 2, offset: 120 + 24 + 16, data: new Uint8Array(0) },
    ])
  })

  it('takes alignment 8 where the segment says so', () => {
    const data = Buffer.alloc(40)
    data.writeUInt32LE(4, 0)
    data.writeUInt32LE(4, 4)
    data.writeUInt32LE(5, 8)
    data.write('GNU', 12)
    data.writeUInt32LE(0x1234, 16)
    data.writeUInt32LE(2, 24)
    data.write('B', 36)
    const notes = notesOf(data, 8n)
    expect(notes.map(({ name, type }) => [name, type])).toEqual([
      ['GNU', 5],
      ['B', 0],
    ])
  })

  it('takes the last note without its padding', () => {
    const data = makeNote('Xen', 18, Uint8Array.of(1, 2))
    expect(notesOf(data.subarray(0, data.length - 2))).toHaveLength(1)
  })

  it.each([
    ['name', 0, /note name/],
    ['descriptor', 4, /note descriptor/],
  ])('refuses a %s that reaches beyond the segment', (_, at, part) => {
    for (const size of [0x1_0000, 0xffff_ffff]) {
      const data = makeNote('Xen', 18, Buffer.alloc(4))
      data.writeUInt32LE(size, at)
      const error = bootErrorOf(() => notesOf(data))
      expect(error).toMatchObject({ code: 'ERR_BOOT_BAD_IMAGE', segment: 0 })
      expect(error.message).toMatch(part)
    }
  })

  it('refuses more notes than any kernel has', () => {
    const name = 'x'.repeat(0x10_0000)
    const error = bootErrorOf(() => notesOf(makeNote(name, 1, Buffer.alloc(0))))
    expect(error).toMatchObject({ code: 'ERR_BOOT_BAD_IMAGE', limit: 0x10_0000 })
  })

  it('survives a very long name', () => {
    const [note] = notesOf(makeNote('x'.repeat(0xf_0000), 1, Buffer.alloc(0)))
    expect(note!.name).toHaveLength(0xf_0000)
  })
})
