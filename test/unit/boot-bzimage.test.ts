import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  BootError,
  type BootState,
  loadBzImage,
  parseSetupHeader,
  SETUP_HEADER,
  ZERO_PAGE,
} from '../../src/boot/index.js'
import { bootErrorOf } from '../helpers/boot-error-of.js'
import { type BzImageFields, makeBzImage } from '../helpers/boot-images.js'
import { CanaryMemory, lowRam } from '../helpers/canary-memory.js'

const MIB = 0x10_0000
const ZERO_PAGE_GPA = 0x2000

function placed(state: BootState, name: string) {
  const placement = state.placements.find((p) => p.name === name)
  expect(placement, name).toBeDefined()
  return placement!
}

describe('parseSetupHeader', () => {
  it('reads the fields', () => {
    const header = parseSetupHeader(makeBzImage({ prefAddress: 0x100_0000n }))
    expect(header).toMatchObject({
      version: 0x20f,
      xloadflags: 3,
      relocatable: true,
      kernelAlignment: 0x20_0000,
      prefAddress: 0x100_0000,
      initSize: 0x8000,
      initrdAddrMax: 0x7fff_ffff,
      cmdlineSize: 2047,
    })
    expect(header.payload).toHaveLength(0x2000)
    expect(header.bytes).toHaveLength(0x26c - 0x1f1)
  })

  it('takes 0 setup sectors as 4', () => {
    const image = makeBzImage({ setupSects: 4 })
    image[SETUP_HEADER.setup_sects] = 0
    expect(parseSetupHeader(image).payload).toHaveLength(0x2000)
  })

  it('takes alignments up to 2 GiB', () => {
    const image = makeBzImage({ kernelAlignment: 0x8000_0000 })
    expect(parseSetupHeader(image).kernelAlignment).toBe(0x8000_0000)
  })

  const bad: [name: string, fields: BzImageFields, part: RegExp, offset: number][] = [
    ['a missing boot flag', { bootFlag: 0 }, /boot_flag/, 0x1fe],
    ['a missing magic', { magic: 1 }, /HdrS/, 0x202],
    ['a header that ends too early', { headerEnd: 0x267 }, /ends at 0x267/, 0x201],
    ['a header that would run over the next field', { headerEnd: 0x291 }, /ends at 0x291/, 0x201],
    ['no code', { syssize: 0 }, /syssize is 0/, 0x1f4],
    ['more code than the file holds', { syssize: 0x201 }, /syssize/, 0x800],
    ['very much more code', { syssize: 0xffff_ffff }, /truncated/, 0x800],
    ['a payload beyond the code', { payloadLength: 0x1c01 }, /compressed kernel/, 0x248],
    ['a payload far beyond', { payloadOffset: 0xffff_ffff }, /compressed kernel/, 0x248],
    ['an alignment of 0', { kernelAlignment: 0 }, /power of two/, 0x230],
    ['an odd alignment', { kernelAlignment: 0x30_0000 }, /power of two/, 0x230],
    ['an init_size of 0', { initSize: 0 }, /init_size/, 0x260],
    ['a run address above 4 GiB', { prefAddress: 2n ** 32n }, /pref_address/, 0x258],
    ['a run address above 52 bits', { prefAddress: 2n ** 63n }, /pref_address/, 0x258],
  ]
  it.each(bad)('refuses %s', (_, fields, part, offset) => {
    const error = bootErrorOf(() => parseSetupHeader(makeBzImage(fields)))
    expect(error).toMatchObject({ code: 'ERR_BOOT_BAD_IMAGE', offset })
    expect(error.message).toMatch(part)
  })

  it.each([
    ['a protocol without 64-bit entry', { version: 0x20b }],
    ['a zImage', { loadflags: 0 }],
    ['a 32-bit kernel', { xloadflags: 2 }],
  ])('does not take %s', (_, fields) => {
    const error = bootErrorOf(() => parseSetupHeader(makeBzImage(fields)))
    expect(error.code).toBe('ERR_BOOT_UNSUPPORTED')
  })
})

describe('loadBzImage', () => {
  it('enters the kernel in long mode at +0x200 with RSI at the zero page', () => {
    const memory = lowRam(8 * MIB)
    const state = loadBzImage(memory, { kernel: makeBzImage() })
    expect(state).toMatchObject({ mode: 'long', protocol: 'linux64' })
    expect(state.regs).toEqual({ rip: 0x20_0200n, rsi: 0x2000n, rflags: 2n })
    expect(state.sregs).toMatchObject({
      cr0: 0x8000_0011n,
      cr3: 0x3000n,
      cr4: 0x20n,
      efer: 0x500n,
      cs: { selector: 0x10, type: 0xb, l: 1, db: 0, s: 1, present: 1, g: 1, limit: 0xffff_ffff },
      ss: { selector: 0x18, type: 3, l: 0, db: 1 },
      tr: { type: 0xb, s: 0, present: 1, unusable: 0 },
      ldt: { unusable: 1 },
      gdt: { base: 0x1000n, limit: 0x2f },
      idt: { base: 0n, limit: 0 },
    })
    expect(placed(state, 'kernel')).toMatchObject({ gpa: 2 * MIB, size: 0x8000 })
    expect([...memory.read(2 * MIB, 0x2000)].every((byte) => byte === 0xcc)).toBe(true)
    expect(memory.damaged()).toEqual([])
  })

  it('writes the descriptors and the identity map that the state names', () => {
    const memory = lowRam(8 * MIB)
    loadBzImage(memory, { kernel: makeBzImage() })
    const gdt = [0, 1, 2, 3, 4, 5].map((slot) => memory.readU64(0x1000 + slot * 8))
    expect(gdt).toEqual([
      0n,
      0n,
      0x00af_9b00_0000_ffffn,
      0x00cf_9300_0000_ffffn,
      0x8b00_0000_0067n,
      0n,
    ])
    const walk = (linear: number) => {
      const index = (shift: number) => Math.floor(linear / 2 ** shift) % 512
      const table = (gpa: number, at: number) => memory.readU64(gpa + at * 8)
      const pdpt = Number(table(0x3000, index(39)) & 0xf_ffff_ffff_f000n)
      const pd = Number(table(pdpt, index(30)) & 0xf_ffff_ffff_f000n)
      return table(pd, index(21))
    }
    for (const linear of [0, 0x20_0000, 0x4000_0000, 0xbfe0_0000, 0xffe0_0000]) {
      expect(walk(linear)).toBe(BigInt(linear) + 0x83n)
    }
  })

  it('fills the zero page: header, command line, RAM disk, memory map', () => {
    const memory = lowRam(8 * MIB)
    const initrd = Buffer.alloc(0x1801, 0x77)
    const state = loadBzImage(memory, {
      kernel: makeBzImage(),
      initrd,
      cmdline: 'console=ttyS0',
      rsdpGpa: 0xe_0000,
    })
    const field = (offset: number) => ZERO_PAGE_GPA + offset
    const h = SETUP_HEADER
    expect(memory.readU32(field(h.header))).toBe(0x53726448)
    expect(memory.readU8(field(h.type_of_loader))).toBe(0xff)
    expect(memory.readU16(field(h.vid_mode))).toBe(0xffff)
    expect(memory.readU32(field(h.code32_start))).toBe(2 * MIB)
    expect(memory.readU64(field(h.setup_data))).toBe(0n)
    expect(memory.readU32(field(h.init_size))).toBe(0x8000)
    expect(memory.readU32(field(h.cmd_line_ptr))).toBe(0x2_0000)
    expect(Buffer.from(memory.read(0x2_0000, 14)).toString()).toBe('console=ttyS0\0')

    const at = 8 * MIB - 0x2000
    expect(placed(state, 'initrd')).toMatchObject({ gpa: at, size: 0x2000 })
    expect(memory.readU32(field(h.ramdisk_image))).toBe(at)
    expect(memory.readU32(field(h.ramdisk_size))).toBe(0x1801)
    expect(Buffer.from(memory.read(at, 0x1801)).equals(initrd)).toBe(true)
    expect(memory.readU32(field(ZERO_PAGE.ext_ramdisk_image))).toBe(0)
    expect(memory.readU32(field(ZERO_PAGE.ext_ramdisk_size))).toBe(0)
    expect(memory.readU32(field(ZERO_PAGE.ext_cmd_line_ptr))).toBe(0)
    expect(memory.readU64(field(ZERO_PAGE.acpi_rsdp_addr))).toBe(0xe_0000n)

    expect(memory.readU8(field(ZERO_PAGE.e820_entries))).toBe(4)
    const entry = (i: number) => {
      const start = field(ZERO_PAGE.e820_table + i * 20)
      return [memory.readU64(start), memory.readU64(start + 8), memory.readU32(start + 16)]
    }
    expect(entry(0)).toEqual([0n, 0x9_fc00n, 1])
    expect(entry(3)).toEqual([0x10_0000n, 0x70_0000n, 1])
  })

  it('copies the setup header and nothing behind it', () => {
    const image = makeBzImage({ headerEnd: 0x268 })
    image.fill(0x99, 0x268, 0x290)
    image.fill(0x99, 0, 0x1f1)
    const memory = lowRam(8 * MIB)
    loadBzImage(memory, { kernel: image })
    expect([...memory.read(ZERO_PAGE_GPA + 0x268, 0x68)].every((byte) => byte === 0)).toBe(true)
    expect([...memory.read(ZERO_PAGE_GPA, 0x1e8)].every((byte) => byte === 0)).toBe(true)
  })

  it('aligns a relocatable kernel that prefers an unaligned address', () => {
    const state = loadBzImage(lowRam(8 * MIB), { kernel: makeBzImage({ prefAddress: 0x21_0000n }) })
    expect(placed(state, 'kernel').gpa).toBe(4 * MIB)
  })

  it('moves a relocatable kernel past a hole at its preferred address', () => {
    const memory = new CanaryMemory([
      { gpa: 0, size: 2 * MIB },
      { gpa: 6 * MIB, size: 2 * MIB },
    ])
    const state = loadBzImage(memory, { kernel: makeBzImage() })
    expect(placed(state, 'kernel').gpa).toBe(6 * MIB)
    expect(memory.damaged()).toEqual([])
  })

  it('keeps a kernel that is not relocatable at its address', () => {
    const fields = { relocatable: 0, prefAddress: 0x21_0000n }
    const state = loadBzImage(lowRam(8 * MIB), { kernel: makeBzImage(fields) })
    expect(placed(state, 'kernel').gpa).toBe(0x21_0000)
    const hole = new CanaryMemory([
      { gpa: 0, size: 2 * MIB },
      { gpa: 6 * MIB, size: 2 * MIB },
    ])
    const error = bootErrorOf(() => loadBzImage(hole, { kernel: makeBzImage(fields) }))
    expect(error).toMatchObject({ code: 'ERR_BOOT_NO_SPACE', placement: 'kernel', gpa: 0x21_0000 })
    expect(hole.isUntouched()).toBe(true)
  })

  it('needs RAM for init_size to the byte', () => {
    const fits = makeBzImage({ initSize: 6 * MIB })
    expect(placed(loadBzImage(lowRam(8 * MIB), { kernel: fits }), 'kernel').size).toBe(6 * MIB)
    const memory = lowRam(8 * MIB)
    const error = bootErrorOf(() =>
      loadBzImage(memory, { kernel: makeBzImage({ initSize: 6 * MIB + 1 }) }),
    )
    expect(error).toMatchObject({ code: 'ERR_BOOT_NO_SPACE', placement: 'kernel' })
    expect(error.message).toContain('0x600001 bytes')
    expect(memory.isUntouched()).toBe(true)
  })

  it('keeps the RAM disk out of the area that the kernel unpacks into', () => {
    // From 1 MiB on, so that the only other free pages are behind the kernel.
    const from = { prefAddress: 0x10_0000n, kernelAlignment: MIB }
    const kernel = makeBzImage({ ...from, initSize: 7 * MIB - 0x1000 })
    const memory = lowRam(8 * MIB)
    const error = bootErrorOf(() => loadBzImage(memory, { kernel, initrd: Buffer.alloc(0x1001) }))
    expect(error).toMatchObject({ code: 'ERR_BOOT_NO_SPACE', placement: 'initrd' })
    expect(memory.isUntouched()).toBe(true)
    const state = loadBzImage(memory, { kernel, initrd: Buffer.alloc(0x1000) })
    expect(placed(state, 'initrd').gpa).toBe(8 * MIB - 0x1000)
  })

  it.each([
    ['zero page', 0x2000n, 'kernel'],
    ['page tables', 0x3000n, 'page tables'],
    ['command line', 0x2_0000n, 'command line'],
    ['GDT', 0x1000n, 'GDT'],
  ])('refuses a fixed kernel on top of the %s', (_, prefAddress, other) => {
    const memory = lowRam(8 * MIB)
    const kernel = makeBzImage({
      relocatable: 0,
      prefAddress,
      initSize: 0x1000,
      payloadSize: 0x1000,
      payloadLength: 0,
    })
    const error = bootErrorOf(() => loadBzImage(memory, { kernel }))
    expect(error.code).toBe('ERR_BOOT_OVERLAP')
    expect(error.message).toContain(other)
    expect(memory.isUntouched()).toBe(true)
  })

  it('refuses a fixed kernel in the video area even if RAM is there', () => {
    const kernel = makeBzImage({ relocatable: 0, prefAddress: 0xa_0000n })
    const error = bootErrorOf(() => loadBzImage(lowRam(8 * MIB), { kernel }))
    expect(error).toMatchObject({ code: 'ERR_BOOT_NO_SPACE', gpa: 0xa_0000 })
  })

  it('takes a command line of exactly the length that the header allows', () => {
    const kernel = makeBzImage({ cmdlineSize: 10 })
    loadBzImage(lowRam(8 * MIB), { kernel, cmdline: 'x'.repeat(10) })
    const memory = lowRam(8 * MIB)
    const error = bootErrorOf(() => loadBzImage(memory, { kernel, cmdline: 'x'.repeat(11) }))
    expect(error).toMatchObject({ code: 'ERR_BOOT_CMDLINE_TOO_LONG', size: 11, limit: 10 })
    expect(memory.isUntouched()).toBe(true)
  })

  it('bounds the command line by its own area when the header allows any length', () => {
    const kernel = makeBzImage({ cmdlineSize: 0xffff_ffff })
    const memory = lowRam(8 * MIB)
    loadBzImage(memory, { kernel, cmdline: 'x'.repeat(0xffff) })
    expect(memory.readU8(0x2_ffff)).toBe(0)
    const error = bootErrorOf(() => loadBzImage(memory, { kernel, cmdline: 'x'.repeat(0x1_0000) }))
    expect(error.limit).toBe(0xffff)
  })

  it('refuses code that does not reach the entry point', () => {
    const kernel = makeBzImage({ payloadSize: 0x200, payloadOffset: 0, payloadLength: 0x200 })
    const error = bootErrorOf(() => loadBzImage(lowRam(8 * MIB), { kernel }))
    expect(error).toMatchObject({ code: 'ERR_BOOT_BAD_IMAGE', size: 0x200 })
  })

  it('keeps everything out of reservations', () => {
    const reserved = { gpa: 2 * MIB, size: 0x1000, type: 3 }
    const state = loadBzImage(lowRam(8 * MIB), {
      kernel: makeBzImage(),
      reservations: [reserved, { gpa: 8 * MIB - 0x1000, size: 0x1000, type: 2 }],
      initrd: Buffer.alloc(1),
    })
    expect(placed(state, 'kernel').gpa).toBe(4 * MIB)
    expect(placed(state, 'initrd').gpa).toBe(8 * MIB - 0x2000)
    expect(state.memoryMap).toContainEqual(reserved)
  })

  it('either loads soundly or throws BootError and writes nothing, whatever the image', () => {
    const image = makeBzImage()
    const headerByte = fc.integer({ min: 0x1f1, max: 0x267 })
    const edits = fc.array(fc.tuple(headerByte, fc.integer({ min: 0, max: 255 })), { maxLength: 6 })
    const length = fc.oneof(fc.constant(image.length), fc.nat(image.length))
    let loaded = 0
    let refused = 0
    fc.assert(
      fc.property(edits, length, fc.nat(0x3000), (list, size, initrdSize) => {
        const memory = new CanaryMemory([
          { gpa: 0, size: 3 * MIB },
          { gpa: 3 * MIB + 0x1000, size: 0x7000 },
        ])
        const kernel = Buffer.from(image)
        for (const [at, value] of list) kernel[at] = value
        try {
          const images = { kernel: kernel.subarray(0, size), initrd: Buffer.alloc(initrdSize) }
          const state = loadBzImage(memory, images)
          loaded++
          expectSound(state, memory)
        } catch (error) {
          if (!(error instanceof BootError)) throw error
          refused++
          expect(memory.writes).toEqual([])
        }
      }),
      { numRuns: 400 },
    )
    expect(Math.min(loaded, refused)).toBeGreaterThan(10)
  })
})

/** Placements lie in usable RAM, apart from each other, and all writes lie in them. */
function expectSound(state: BootState, memory: CanaryMemory) {
  const ram = state.memoryMap.filter(({ type }) => type === 1)
  for (const [i, { gpa, size }] of state.placements.entries()) {
    expect(ram.some((r) => gpa >= r.gpa && gpa + size <= r.gpa + r.size)).toBe(true)
    const next = state.placements[i + 1]
    if (next) expect(gpa + size).toBeLessThanOrEqual(next.gpa)
  }
  for (const write of memory.writes) {
    const home = state.placements.find(
      ({ gpa, size }) => write.gpa >= gpa && write.gpa + write.size <= gpa + size,
    )
    expect(home).toBeDefined()
  }
  expect(memory.damaged()).toEqual([])
}
