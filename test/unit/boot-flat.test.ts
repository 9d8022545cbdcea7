import { describe, expect, it } from 'vitest'
import { type FlatImage, loadFlat } from '../../src/boot/index.js'
import { bootErrorOf } from '../helpers/boot-error-of.js'
import { CanaryMemory, lowRam } from '../helpers/canary-memory.js'

const image = Uint8Array.of(0xf4, 0xeb, 0xfd)

describe('loadFlat', () => {
  it('starts in real mode with CS 0 below 64 KiB', () => {
    const memory = lowRam(0x10_0000)
    const state = loadFlat(memory, { image, gpa: 0x7c00, mode: 'real', stackPointer: 0x7c00 })
    expect(state).toMatchObject({ mode: 'real', protocol: 'flat', memoryMap: [] })
    expect(state.regs).toEqual({ rip: 0x7c00n, rsp: 0x7c00n, rflags: 2n })
    expect(state.sregs).toMatchObject({
      cr0: 0x10n,
      efer: 0n,
      cs: { selector: 0, base: 0n, limit: 0xffff, db: 0, g: 0 },
      idt: { base: 0n, limit: 0x3ff },
    })
    expect(memory.read(0x7c00, 3)).toEqual(image)
    expect(memory.writes).toEqual([{ gpa: 0x7c00, size: 3 }])
  })

  it('reaches the rest of the first MiB with a code segment', () => {
    const options: FlatImage = { image, gpa: 0xf_0000, entry: 0xf_fff3, mode: 'real' }
    const state = loadFlat(lowRam(0x10_0000), options)
    expect(state.sregs.cs).toMatchObject({ selector: 0xffff, base: 0xf_fff0n })
    expect(state.regs.rip).toBe(3n)
  })

  it('starts in protected mode and in long mode', () => {
    const low = loadFlat(lowRam(0x20_0000), { image, gpa: 0x10_0000, mode: 'protected' })
    expect(low).toMatchObject({ mode: 'protected', regs: { rip: 0x10_0000n, rsp: 0n } })
    expect(low.placements.map(({ name }) => name)).toEqual(['GDT', 'flat image'])
    const long = loadFlat(lowRam(0x20_0000), { image, gpa: 0x10_0000, mode: 'long' })
    expect(long.sregs).toMatchObject({ cr3: 0x3000n, cs: { l: 1, db: 0 } })
    expect(long.placements.map(({ name }) => name)).toEqual(['GDT', 'page tables', 'flat image'])
  })

  it('writes nothing when the image does not fit', () => {
    const cases: [FlatImage, string][] = [
      [{ image, gpa: 0x1ffffe, mode: 'protected' }, 'ERR_BOOT_NO_SPACE'],
      [{ image, gpa: 0x1_0000_0000, entry: 0, mode: 'long' }, 'ERR_BOOT_NO_SPACE'],
      [{ image, gpa: 0x3000, mode: 'long' }, 'ERR_BOOT_OVERLAP'],
      [{ image, gpa: 0x0fff, mode: 'protected' }, 'ERR_BOOT_OVERLAP'],
    ]
    for (const [options, code] of cases) {
      const memory = lowRam(0x20_0000)
      expect(bootErrorOf(() => loadFlat(memory, options)).code).toBe(code)
      expect(memory.isUntouched()).toBe(true)
    }
  })

  it('needs RAM for the long-mode tables', () => {
    const memory = new CanaryMemory([{ gpa: 0x10_0000, size: 0x1000 }])
    const error = bootErrorOf(() => loadFlat(memory, { image, gpa: 0x10_0000, mode: 'long' }))
    expect(error).toMatchObject({ code: 'ERR_BOOT_NO_SPACE', placement: 'GDT' })
  })

  it('refuses numbers and modes that mean nothing', () => {
    const bad = [
      { gpa: -1 },
      { gpa: 0.5 },
      { gpa: Number.NaN },
      { gpa: 2 ** 52 },
      { entry: 0x10_0000 },
      { stackPointer: 0x1_0000 },
      { image: new Uint8Array(0) },
      { mode: 'smm' },
    ]
    for (const part of bad) {
      const options = { image, gpa: 0x1000, mode: 'real', ...part } as FlatImage
      expect(() => loadFlat(lowRam(0x10_0000), options)).toThrow(
        expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }),
      )
    }
  })
})
