import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BootError, isMultiboot, loadKernel, loadMultiboot } from '../../src/boot/index.js'
import { bootErrorOf } from '../helpers/boot-error-of.js'
import { makeElf } from '../helpers/boot-images.js'
import { lowRam } from '../helpers/canary-memory.js'

const MAGIC = 0x1bad_b002
const RAM = 0x40_0000

interface HeaderFields {
  flags?: number
  checksum?: number
  headerAt?: number
  headerAddr?: number
  loadAddr?: number
  loadEnd?: number
  bssEnd?: number
  entry?: number
}

/** 4 KiB with a header that loads all of it at 1 MiB. */
function flatKernel(fields: HeaderFields = {}): Buffer {
  const { flags = 0x1_0003, headerAt = 0x40 } = fields
  const image = Buffer.alloc(0x1000, 0x90)
  const words = [
    MAGIC,
    flags,
    fields.checksum ?? -(MAGIC + flags) >>> 0,
    fields.headerAddr ?? 0x10_0000 + headerAt,
    fields.loadAddr ?? 0x10_0000,
    fields.loadEnd ?? 0,
    fields.bssEnd ?? 0x10_3000,
    fields.entry ?? 0x10_0100,
  ]
  for (const [i, word] of words.entries()) image.writeUInt32LE(word, headerAt + i * 4)
  return image
}

describe('loadMultiboot', () => {
  it('places the image, clears its bss and hands over the information', () => {
    const memory = lowRam(RAM)
    memory.fill(0x10_0000, 0x4000, 0xee)
    const kernel = flatKernel()
    const state = loadMultiboot(memory, {
      kernel,
      cmdline: 'root',
      modules: [{ image: Buffer.from('abc'), cmdline: 'one' }],
      reservations: [{ gpa: 0x20_0000, size: 0x1000, type: 3 }],
    })
    expect(state).toMatchObject({ mode: 'protected', protocol: 'multiboot' })
    expect(state.regs).toMatchObject({ rip: 0x10_0100n, rax: 0x2bad_b002n })
    expect(Buffer.from(memory.read(0x10_0000, 0x1000))).toEqual(kernel)
    expect(memory.read(0x10_1000, 0x2000)).toEqual(new Uint8Array(0x2000))
    const info = Number(state.regs.rbx)
    const word = (at: number) => memory.readU32(info + at)
    expect(word(0)).toBe(0x24d)
    expect([word(4), word(8)]).toEqual([0x9_fc00 / 1024, (0x20_0000 - 0x10_0000) / 1024])
    const text = (gpa: number, length: number) => Buffer.from(memory.read(gpa, length)).toString()
    expect(text(word(16), 5)).toBe('root\0')
    expect(text(word(64), 9)).toBe('node-kvm\0')
    expect(word(20)).toBe(1)
    const [start, end, name] = [0, 4, 8].map((at) => memory.readU32(word(24) + at))
    expect(text(start!, end! - start!)).toBe('abc')
    expect(start! % 4096).toBe(0)
    expect(text(name!, 4)).toBe('one\0')
    const entries = []
    for (let at = word(48); at < word(48) + word(44); at += memory.readU32(at) + 4) {
      entries.push({
        gpa: Number(memory.readU64(at + 4)),
        size: Number(memory.readU64(at + 12)),
        type: memory.readU32(at + 20),
      })
    }
    expect(entries).toEqual(state.memoryMap)
    expect(memory.damaged()).toEqual([])
  })

  it('enters an ELF executable by physical or linear entry point', () => {
    const header = flatKernel({ flags: 3 }).subarray(0, 0x100)
    const segment = { vaddr: 0xc010_0000n, paddr: 0x10_0000n, data: header }
    for (const entry of [0x10_0080n, 0xc010_0080n]) {
      const kernel = makeElf({ bits: 32, entry, segments: [segment] })
      expect(loadMultiboot(lowRam(RAM), { kernel }).regs.rip).toBe(0x10_0080n)
    }
    const stray = makeElf({ bits: 32, entry: 0x5000n, segments: [segment] })
    expect(bootErrorOf(() => loadMultiboot(lowRam(RAM), { kernel: stray })).code).toBe(
      'ERR_BOOT_BAD_IMAGE',
    )
  })

  it.each([
    ['no header', { checksum: 1 }, 'ERR_BOOT_BAD_IMAGE'],
    ['a video mode', { flags: 0x1_0007 }, 'ERR_BOOT_UNSUPPORTED'],
    ['no addresses and no ELF', { flags: 3 }, 'ERR_BOOT_BAD_IMAGE'],
    ['a header before the image', { loadAddr: 0xf_0000 }, 'ERR_BOOT_BAD_IMAGE'],
    ['a load address above the header', { loadAddr: 0x20_0000 }, 'ERR_BOOT_BAD_IMAGE'],
    ['more than the file', { loadEnd: 0x10_2000 }, 'ERR_BOOT_BAD_IMAGE'],
    ['an end before the start', { loadEnd: 0x1000 }, 'ERR_BOOT_BAD_IMAGE'],
    ['an entry in the bss', { entry: 0x10_1000 }, 'ERR_BOOT_BAD_IMAGE'],
    ['too large a bss', { bssEnd: 0xffff_ffff }, 'ERR_BOOT_NO_SPACE'],
    [
      'a load address that is no RAM',
      { loadAddr: 0x8000_0000, headerAddr: 0x8000_0040, entry: 0x8000_0100 },
      'ERR_BOOT_NO_SPACE',
    ],
  ])('refuses %s before it writes', (_, fields, code) => {
    const memory = lowRam(RAM)
    expect(bootErrorOf(() => loadMultiboot(memory, { kernel: flatKernel(fields) })).code).toBe(code)
    expect(memory.isUntouched()).toBe(true)
  })

  it('refuses modules that do not fit', () => {
    const memory = lowRam(RAM)
    const modules = [{ image: new Uint8Array(RAM) }]
    const error = bootErrorOf(() => loadMultiboot(memory, { kernel: flatKernel(), modules }))
    expect(error).toMatchObject({ code: 'ERR_BOOT_NO_SPACE', placement: 'module 0' })
    expect(memory.isUntouched()).toBe(true)
  })

  it('writes within RAM or not at all, whatever the header says', () => {
    const word = fc.oneof(
      fc.integer({ min: 0, max: 0xffff_ffff }),
      fc.integer({ min: 0xf_f000, max: 0x10_4000 }),
    )
    const header = fc.record({
      headerAt: fc.integer({ min: 0, max: 0xf00 / 4 }).map((n) => n * 4),
      headerAddr: word,
      loadAddr: word,
      loadEnd: word,
      bssEnd: word,
      entry: word,
    })
    fc.assert(
      fc.property(header, (fields) => {
        const memory = lowRam(RAM)
        try {
          loadMultiboot(memory, { kernel: flatKernel(fields) })
        } catch (error) {
          if (!(error instanceof BootError)) throw error
          expect(memory.writes).toEqual([])
        }
      }),
      { seed: 7, numRuns: 60 },
    )
  })
})

describe('loadKernel', () => {
  it('takes multiboot for what has its header and no other entry', () => {
    expect(isMultiboot(flatKernel())).toBe(true)
    expect(isMultiboot(makeElf())).toBe(false)
    expect(loadKernel(lowRam(RAM), { kernel: flatKernel() }).protocol).toBe('multiboot')
    expect(loadKernel(lowRam(RAM), { kernel: makeElf() }).protocol).toBe('linux64')
  })

  it('gives modules to multiboot kernels only', () => {
    const modules = [{ image: new Uint8Array(1) }]
    const error = bootErrorOf(() => loadKernel(lowRam(RAM), { kernel: makeElf(), modules }))
    expect(error.code).toBe('ERR_BOOT_UNSUPPORTED')
  })
})
