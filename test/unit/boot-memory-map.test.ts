import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createMemoryMap, E820_TYPE, type GpaRange, layOutRam } from '../../src/boot/index.js'
import { bootErrorOf } from '../helpers/boot-error-of.js'

const MIB = 0x10_0000
const GIB = 0x4000_0000
const RAM = E820_TYPE.RAM
const RESERVED = E820_TYPE.RESERVED

describe('layOutRam', () => {
  it('keeps small RAM in one piece up to the hole', () => {
    expect(layOutRam(512 * MIB)).toEqual([{ gpa: 0, size: 512 * MIB }])
    expect(layOutRam(3 * GIB)).toEqual([{ gpa: 0, size: 3 * GIB }])
  })

  it('continues at 4 GiB behind the hole', () => {
    expect(layOutRam(3 * GIB + 0x1000)).toEqual([
      { gpa: 0, size: 0xc000_0000 },
      { gpa: 0x1_0000_0000, size: 0x1000 },
    ])
    expect(layOutRam(8 * GIB, 2 * GIB)).toEqual([
      { gpa: 0, size: 2 * GIB },
      { gpa: 4 * GIB, size: 6 * GIB },
    ])
  })

  it('refuses what is not a whole number of pages', () => {
    for (const size of [0, -4096, 1000, 4096.5, Number.NaN, 2 ** 53]) {
      expect(() => layOutRam(size)).toThrow(
        expect.objectContaining({ name: 'RangeError', code: 'ERR_OUT_OF_RANGE' }),
      )
    }
    expect(() => layOutRam(MIB, 0x1_0000_1000)).toThrow(RangeError)
  })
})

describe('createMemoryMap', () => {
  it('leaves the extended BIOS data area and the ROM area out of RAM', () => {
    expect(createMemoryMap([{ gpa: 0, size: 64 * MIB }])).toEqual([
      { gpa: 0, size: 0x9fc00, type: RAM },
      { gpa: 0x9fc00, size: 0x400, type: RESERVED },
      { gpa: 0xf0000, size: 0x10000, type: RESERVED },
      { gpa: MIB, size: 63 * MIB, type: RAM },
    ])
  })

  it('shows RAM above 4 GiB and no RAM in the hole', () => {
    expect(createMemoryMap(layOutRam(5 * GIB)).filter(({ type }) => type === RAM)).toEqual([
      { gpa: 0, size: 0x9fc00, type: RAM },
      { gpa: MIB, size: 0xbff0_0000, type: RAM },
      { gpa: 0x1_0000_0000, size: 2 * GIB, type: RAM },
    ])
  })

  it('keeps the platform registers free even when a slot covers them', () => {
    const ram = createMemoryMap([{ gpa: 0, size: 5 * GIB }]).filter(({ type }) => type === RAM)
    expect(ram.slice(1)).toEqual([
      { gpa: MIB, size: 0xfec0_0000 - MIB, type: RAM },
      { gpa: 0x1_0000_0000, size: GIB, type: RAM },
    ])
  })

  it('joins neighbours and cuts reservations out', () => {
    const acpi = { gpa: 3 * MIB, size: 0x1000, type: E820_TYPE.ACPI }
    const map = createMemoryMap(
      [
        { gpa: 0, size: 2 * MIB },
        { gpa: 2 * MIB, size: 2 * MIB },
      ],
      [acpi],
    )
    expect(map.slice(3)).toEqual([
      { gpa: MIB, size: 2 * MIB, type: RAM },
      acpi,
      { gpa: 3 * MIB + 0x1000, size: MIB - 0x1000, type: RAM },
    ])
  })

  it('lets a reservation replace part of the BIOS area', () => {
    const tables = { gpa: 0xe0000, size: 0x20000, type: E820_TYPE.ACPI }
    const map = createMemoryMap([{ gpa: 0, size: 2 * MIB }], [tables])
    expect(map.filter(({ gpa }) => gpa >= 0xa0000 && gpa < MIB)).toEqual([tables])
  })

  it('refuses reservations that overlap, and more entries than the zero page holds', () => {
    const a = { gpa: MIB, size: 0x2000, type: RESERVED }
    const overlap = bootErrorOf(() =>
      createMemoryMap([{ gpa: 0, size: 4 * MIB }], [a, { ...a, gpa: MIB + 0x1000 }]),
    )
    expect(overlap).toMatchObject({ code: 'ERR_BOOT_OVERLAP', gpa: MIB + 0x1000 })

    const ranges = (count: number) =>
      Array.from({ length: count }, (_, i) => ({ gpa: MIB * (i + 1), size: 0x1000 }))
    expect(createMemoryMap(ranges(126))).toHaveLength(128)
    const full = bootErrorOf(() => createMemoryMap(ranges(127)))
    expect(full).toMatchObject({ code: 'ERR_BOOT_NO_SPACE', limit: 128 })
    expect(full.message).toContain('129 entries')
  })

  it('is ascending, without overlap, and never gives RAM that is not there', () => {
    const page = fc.integer({ min: 1, max: 0x2_0000 })
    const gaps = fc.array(fc.tuple(page, page), { minLength: 1, maxLength: 20 })
    fc.assert(
      fc.property(gaps, (steps) => {
        const ranges: GpaRange[] = []
        let at = 0
        for (const [gap, pages] of steps) {
          ranges.push({ gpa: at + gap * 0x1000, size: pages * 0x1000 })
          at += (gap + pages) * 0x1000
        }
        const map = createMemoryMap(ranges)
        for (const [i, { gpa, size, type }] of map.entries()) {
          expect(size).toBeGreaterThan(0)
          if (i > 0) expect(gpa).toBeGreaterThanOrEqual(map[i - 1]!.gpa + map[i - 1]!.size)
          const inRam = ranges.some((r) => gpa >= r.gpa && gpa + size <= r.gpa + r.size)
          if (type === RAM) expect(inRam).toBe(true)
        }
      }),
    )
  })
})
