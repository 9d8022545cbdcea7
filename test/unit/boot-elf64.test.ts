import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BootError, loadElf64, SETUP_HEADER, ZERO_PAGE } from '../../src/boot/index.js'
import { bootErrorOf } from '../helpers/boot-error-of.js'
import { ELF_LOAD_GPA, makeElf, makeNote, makePvhElf } from '../helpers/boot-images.js'
import { lowRam } from '../helpers/canary-memory.js'

const MIB = 0x10_0000
const PARAMS = 0x2000
const ENTRY = BigInt(ELF_LOAD_GPA)

describe('loadElf64 by the Linux protocol', () => {
  it('loads the segments, clears the rest of them, and enters in long mode', () => {
    const memory = lowRam(4 * MIB)
    const state = loadElf64(memory, {
      kernel: makeElf(),
      cmdline: 'quiet',
      initrd: Buffer.alloc(9),
    })
    expect(state).toMatchObject({ mode: 'long', protocol: 'linux64' })
    expect(state.regs).toEqual({ rip: ENTRY + 0x10n, rsi: 0x2000n, rflags: 2n })
    expect(state.placements.map(({ name, gpa, size }) => [name, gpa, size])).toEqual([
      ['GDT', 0x1000, 0x1000],
      ['boot parameters', 0x2000, 0x1000],
      ['page tables', 0x3000, 0x6000],
      ['command line', 0x2_0000, 6],
      ['kernel segment 0', ELF_LOAD_GPA, 0x3000],
      ['initrd', 4 * MIB - 0x1000, 0x1000],
    ])
    const kernel = memory.read(ELF_LOAD_GPA, 0x3000)
    expect(kernel.subarray(0, 0x1800).every((byte) => byte === 0xcc)).toBe(true)
    expect(kernel.subarray(0x1800).every((byte) => byte === 0)).toBe(true)
    expect(memory.damaged()).toEqual([])
  })

  it('makes a zero page that a kernel trusts', () => {
    const memory = lowRam(4 * MIB)
    loadElf64(memory, { kernel: makeElf(), initrd: Buffer.alloc(9) })
    const field = (offset: number) => PARAMS + offset
    expect(memory.readU16(field(SETUP_HEADER.boot_flag))).toBe(0xaa55)
    expect(memory.readU32(field(SETUP_HEADER.header))).toBe(0x53726448)
    expect(memory.readU16(field(SETUP_HEADER.version))).toBe(0x20c)
    expect(memory.readU8(field(SETUP_HEADER.type_of_loader))).toBe(0xff)
    expect(memory.readU32(field(SETUP_HEADER.cmd_line_ptr))).toBe(0x2_0000)
    expect(memory.readU32(field(SETUP_HEADER.ramdisk_image))).toBe(4 * MIB - 0x1000)
    expect(memory.readU32(field(SETUP_HEADER.ramdisk_size))).toBe(9)
    expect(memory.readU8(field(ZERO_PAGE.e820_entries))).toBe(4)
  })

  it('can be asked for in spite of a PVH note', () => {
    const state = loadElf64(lowRam(4 * MIB), { kernel: makePvhElf() }, 'linux64')
    expect(state).toMatchObject({ protocol: 'linux64', mode: 'long' })
  })
})

describe('loadElf64 by PVH', () => {
  it('enters at the note in protected mode with EBX at the start info', () => {
    const memory = lowRam(4 * MIB)
    const state = loadElf64(memory, { kernel: makePvhElf() })
    expect(state).toMatchObject({ mode: 'protected', protocol: 'pvh' })
    expect(state.regs).toEqual({ rip: ENTRY + 0x20n, rbx: 0x2000n, rflags: 2n })
    expect(state.sregs).toMatchObject({
      cr0: 0x11n,
      cr3: 0n,
      cr4: 0n,
      efer: 0n,
      cs: { base: 0n, limit: 0xffff_ffff, type: 0xb, db: 1, l: 0, present: 1 },
      ds: { base: 0n, limit: 0xffff_ffff, type: 3, db: 1 },
      tr: { base: 0n, limit: 0x67, type: 0xb },
    })
    expect(memory.readU64(0x1010)).toBe(0x00cf_9b00_0000_ffffn)
    expect(state.placements.some(({ name }) => name === 'page tables')).toBe(false)
  })

  it('fills start info, module list and memory map', () => {
    const memory = lowRam(4 * MIB)
    const initrd = Buffer.alloc(0x1234, 0x42)
    loadElf64(memory, { kernel: makePvhElf(), initrd, cmdline: 'a=b', rsdpGpa: 0xe_0000 })
    expect(memory.readU32(PARAMS)).toBe(0x336ec578)
    expect(memory.readU32(PARAMS + 4)).toBe(1)
    expect(memory.readU32(PARAMS + 8)).toBe(0)
    expect(memory.readU32(PARAMS + 12)).toBe(1)
    expect(memory.readU64(PARAMS + 32)).toBe(0xe_0000n)
    const cmdline = Number(memory.readU64(PARAMS + 24))
    expect(Buffer.from(memory.read(cmdline, 4)).toString()).toBe('a=b\0')

    const module = Number(memory.readU64(PARAMS + 16))
    const at = 4 * MIB - 0x2000
    expect([0, 8, 16, 24].map((offset) => memory.readU64(module + offset))).toEqual([
      BigInt(at),
      0x1234n,
      0n,
      0n,
    ])
    expect(Buffer.from(memory.read(at, 0x1234)).equals(initrd)).toBe(true)

    const map = Number(memory.readU64(PARAMS + 40))
    expect(memory.readU32(PARAMS + 48)).toBe(4)
    expect(memory.readU64(map + 3 * 24)).toBe(0x10_0000n)
    expect(memory.readU64(map + 3 * 24 + 8)).toBe(0x30_0000n)
    expect(memory.readU32(map + 3 * 24 + 16)).toBe(1)
  })

  it('has no module list without a RAM disk', () => {
    const memory = lowRam(4 * MIB)
    loadElf64(memory, { kernel: makePvhElf() })
    expect(memory.readU32(PARAMS + 12)).toBe(0)
    expect(memory.readU64(PARAMS + 16)).toBe(0n)
  })

  it('holds the longest memory map in its page', () => {
    const memory = lowRam(16 * MIB)
    const reservations = Array.from({ length: 62 }, (_, i) => ({
      gpa: (i + 32) * 0x2_0000,
      size: 0x1000,
      type: 2,
    }))
    const state = loadElf64(memory, { kernel: makePvhElf(), reservations })
    expect(state.memoryMap).toHaveLength(128)
    const last = Number(memory.readU64(PARAMS + 40)) + 127 * 24
    expect(memory.readU64(last)).toBe(BigInt(state.memoryMap[127]!.gpa))
  })

  it('takes an 8-byte note, and refuses other sizes', () => {
    const withNote = (desc: Uint8Array) => {
      const code = { flags: 5, paddr: ENTRY, data: Buffer.alloc(64) }
      const note = { type: 4, flags: 0, data: makeNote('Xen', 18, desc) }
      return makeElf({ segments: [code, note] })
    }
    const wide = Buffer.alloc(8)
    wide.writeBigUInt64LE(ENTRY)
    expect(loadElf64(lowRam(4 * MIB), { kernel: withNote(wide) }).regs.rip).toBe(ENTRY)
    const error = bootErrorOf(() =>
      loadElf64(lowRam(4 * MIB), { kernel: withNote(Buffer.alloc(2)) }),
    )
    expect(error.code).toBe('ERR_BOOT_BAD_IMAGE')
  })

  it('says what to do when the note is missing', () => {
    const error = bootErrorOf(() => loadElf64(lowRam(4 * MIB), { kernel: makeElf() }, 'pvh'))
    expect(error.code).toBe('ERR_BOOT_UNSUPPORTED')
    expect(error.message).toContain('CONFIG_PVH')
  })
})

describe('loadElf64 on bad images', () => {
  it.each([
    ['before the code', ENTRY - 1n],
    ['behind the bytes in the file', ENTRY + 0x1800n],
    ['at a linear address', 0xffff_ffff_8100_0010n],
  ])('refuses an entry %s', (_, entry) => {
    const memory = lowRam(4 * MIB)
    const error = bootErrorOf(() => loadElf64(memory, { kernel: makeElf({ entry }) }))
    expect(error.code).toBe('ERR_BOOT_BAD_IMAGE')
    expect(error.message).toContain(`0x${entry.toString(16)}`)
    expect(memory.isUntouched()).toBe(true)
  })

  it('refuses an entry in data, and a PVH entry outside the code', () => {
    const data = { flags: 6, paddr: ENTRY, data: Buffer.alloc(64) }
    const kernel = makeElf({ entry: ENTRY, segments: [data] })
    expect(bootErrorOf(() => loadElf64(lowRam(4 * MIB), { kernel })).code).toBe(
      'ERR_BOOT_BAD_IMAGE',
    )
    const error = bootErrorOf(() => loadElf64(lowRam(4 * MIB), { kernel: makePvhElf(0x20) }))
    expect(error.message).toContain('XEN_ELFNOTE_PHYS32_ENTRY')
  })

  const at = (paddr: number, size: number) => ({
    flags: 5,
    paddr: BigInt(paddr),
    data: Buffer.alloc(size),
  })

  it.each([
    ['beyond RAM', [at(4 * MIB - 0x1000, 0x1001)], 'ERR_BOOT_NO_SPACE'],
    ['far beyond RAM', [at(2 ** 51, 16)], 'ERR_BOOT_NO_SPACE'],
    ['in the video area', [at(0xa_0000, 16)], 'ERR_BOOT_NO_SPACE'],
    ['over each other', [at(MIB, 0x1001), at(MIB + 0x1000, 16)], 'ERR_BOOT_OVERLAP'],
    ['over the zero page', [at(0x2800, 16)], 'ERR_BOOT_OVERLAP'],
    ['over the command line', [at(0x2_0000, 16)], 'ERR_BOOT_OVERLAP'],
  ] as const)('refuses segments %s', (_, segments, code) => {
    const memory = lowRam(4 * MIB)
    const entry = segments[0].paddr
    const kernel = makeElf({ entry, segments: [...segments] })
    expect(bootErrorOf(() => loadElf64(memory, { kernel })).code).toBe(code)
    expect(memory.isUntouched()).toBe(true)
  })

  it('refuses an image without anything to load, and a 32-bit one', () => {
    const none = makeElf({ segments: [{ type: 4, flags: 0, data: Buffer.alloc(0) }] })
    const error = bootErrorOf(() => loadElf64(lowRam(4 * MIB), { kernel: none }))
    expect(error.message).toContain('no PT_LOAD')
    const narrow = bootErrorOf(() => loadElf64(lowRam(4 * MIB), { kernel: makeElf({ bits: 32 }) }))
    expect(narrow.code).toBe('ERR_BOOT_UNSUPPORTED')
  })

  it('takes at most 2047 characters of command line', () => {
    loadElf64(lowRam(4 * MIB), { kernel: makeElf(), cmdline: 'x'.repeat(2047) })
    const cmdline = 'x'.repeat(2048)
    const error = bootErrorOf(() => loadElf64(lowRam(4 * MIB), { kernel: makeElf(), cmdline }))
    expect(error).toMatchObject({ code: 'ERR_BOOT_CMDLINE_TOO_LONG', limit: 2047 })
  })

  it('either loads or throws BootError and writes nothing, whatever the image', () => {
    const image = makePvhElf()
    const edits = fc.array(fc.tuple(fc.nat(175), fc.integer({ min: 0, max: 255 })), {
      maxLength: 4,
    })
    const size = fc.oneof({ weight: 4, arbitrary: fc.constant(image.length) }, fc.nat(image.length))
    const protocol = fc.constantFrom('auto', 'linux64', 'pvh')
    let loaded = 0
    let refused = 0
    fc.assert(
      fc.property(edits, size, protocol, (list, length, how) => {
        const memory = lowRam(2 * MIB)
        const kernel = Buffer.from(image)
        for (const [offset, value] of list) kernel[offset] = value
        try {
          const state = loadElf64(memory, { kernel: kernel.subarray(0, length) }, how)
          loaded++
          for (const write of memory.writes) {
            expect(
              state.placements.some(
                ({ gpa, size }) => write.gpa >= gpa && write.gpa + write.size <= gpa + size,
              ),
            ).toBe(true)
          }
          expect(memory.damaged()).toEqual([])
        } catch (error) {
          if (!(error instanceof BootError)) throw error
          refused++
          expect(memory.writes).toEqual([])
        }
      }),
      { numRuns: 500 },
    )
    expect(Math.min(loaded, refused)).toBeGreaterThan(10)
  })
})
