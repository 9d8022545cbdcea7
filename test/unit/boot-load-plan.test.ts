import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { LoadPlan, placeInitrd } from '../../src/boot/index.js'
import { bootErrorOf } from '../helpers/boot-error-of.js'
import { lowRam } from '../helpers/canary-memory.js'

const MIB = 0x10_0000
const GIB = 0x4000_0000
const below4G = { addrMax: 0xffff_ffff, above4G: false }

describe('LoadPlan', () => {
  it('takes claims up to the last byte and not one further', () => {
    const plan = new LoadPlan([{ gpa: MIB, size: MIB }])
    plan.claim('whole', MIB, MIB)
    const free = new LoadPlan([{ gpa: MIB, size: MIB }])
    expect(bootErrorOf(() => free.claim('over', MIB, MIB + 1)).code).toBe('ERR_BOOT_NO_SPACE')
    expect(bootErrorOf(() => free.claim('under', MIB - 1, 16)).code).toBe('ERR_BOOT_NO_SPACE')
  })

  it('names both sides of an overlap', () => {
    const plan = new LoadPlan([{ gpa: 0, size: MIB }])
    plan.claim('first', 0x1000, 0x1000)
    plan.claim('neighbour', 0x2000, 0x1000)
    const error = bootErrorOf(() => plan.claim('second', 0x1fff, 1))
    expect(error).toMatchObject({ code: 'ERR_BOOT_OVERLAP', placement: 'second', gpa: 0x1fff })
    expect(error.message).toContain('first is at 0x1000..0x2000')
  })

  it('lets a claim run across ranges that touch', () => {
    const plan = new LoadPlan([
      { gpa: 0, size: MIB },
      { gpa: MIB, size: MIB },
    ])
    plan.claim('across', MIB - 16, 32)
    expect(plan.placements).toEqual([{ name: 'across', gpa: MIB - 16, size: 32 }])
  })

  it('refuses to queue a write outside its claims', () => {
    const plan = new LoadPlan([{ gpa: 0, size: MIB }])
    plan.claim('some', 0x1000, 16)
    expect(() => plan.write(0x1008, new Uint8Array(9))).toThrow(/bug of the loader/)
    expect(() => plan.zero(0xfff, 2)).toThrow(/bug of the loader/)
  })

  it('writes nothing before commit', () => {
    const memory = lowRam(0x4000)
    const plan = new LoadPlan(memory.ranges)
    plan.claim('some', 0x1000, 16)
    plan.zero(0x1000, 16)
    plan.write(0x1004, Uint8Array.of(1, 2))
    expect(memory.isUntouched()).toBe(true)
    plan.commit(memory)
    expect([...memory.read(0x1002, 6)]).toEqual([0, 0, 1, 2, 0, 0])
  })

  it('searches around claims from both ends, above 2 GiB too', () => {
    const base = 3 * GIB
    const plan = new LoadPlan([{ gpa: base, size: 8 * MIB }])
    plan.claim('middle', base + 4 * MIB, MIB)
    const window = { alignment: MIB, from: 0, end: 4 * GIB }
    expect(plan.claimLowest('a', 4 * MIB, window)).toBe(base)
    expect(plan.claimLowest('b', 2 * MIB, window)).toBe(base + 5 * MIB)
    expect(plan.claimHighest('c', 2 * MIB, window)).toBeUndefined()
    expect(plan.claimHighest('d', MIB, window)).toBe(base + 7 * MIB)
    expect(plan.claimHighest('e', 1, window)).toBeUndefined()
  })

  it('finds a place exactly when there is one', () => {
    const pages = fc.integer({ min: 0, max: 30 })
    const claims = fc.array(fc.tuple(pages, fc.integer({ min: 1, max: 6 })), { maxLength: 6 })
    fc.assert(
      fc.property(claims, fc.integer({ min: 1, max: 12 }), (taken, size) => {
        const plan = new LoadPlan([{ gpa: 0, size: 32 }])
        const used = new Set<number>()
        for (const [at, length] of taken) {
          const cells = Array.from({ length }, (_, i) => at + i)
          if (cells.some((cell) => cell >= 32 || used.has(cell))) continue
          plan.claim('x', at, length)
          for (const cell of cells) used.add(cell)
        }
        const fits = Array.from({ length: 33 - size }, (_, at) => at).filter(
          (at) =>
            at % 2 === 0 &&
            !Array.from({ length: size }, (_, i) => used.has(at + i)).includes(true),
        )
        const window = { alignment: 2, from: 0, end: 32 }
        const copy = new LoadPlan([{ gpa: 0, size: 32 }])
        for (const { name, gpa, size } of plan.placements) copy.claim(name, gpa, size)
        expect(plan.claimLowest('new', size, window)).toBe(fits[0])
        expect(copy.claimHighest('new', size, window)).toBe(fits.at(-1))
      }),
    )
  })
})

describe('placeInitrd', () => {
  const plan = (size = 16 * MIB) => new LoadPlan([{ gpa: MIB, size: size - MIB }])

  it('puts the RAM disk on the last whole pages', () => {
    expect(placeInitrd(plan(), new Uint8Array(5000), below4G)).toEqual({
      gpa: 16 * MIB - 0x2000,
      size: 5000,
    })
  })

  it('needs nothing for an absent or empty one', () => {
    expect(placeInitrd(plan(), undefined, below4G)).toEqual({ gpa: 0, size: 0 })
    expect(placeInitrd(plan(), new Uint8Array(0), below4G)).toEqual({ gpa: 0, size: 0 })
  })

  it('respects initrd_addr_max to the byte', () => {
    const at = (addrMax: number) =>
      placeInitrd(plan(), new Uint8Array(0x1000), { addrMax, above4G: false }).gpa
    expect(at(0x7f_ffff)).toBe(0x7f_f000)
    expect(at(0x7f_fffe)).toBe(0x7f_e000)
  })

  it('fits exactly, and not with one byte more', () => {
    const tight = plan(2 * MIB)
    tight.claim('kernel', MIB, MIB - 0x3000)
    const error = bootErrorOf(() => placeInitrd(tight, new Uint8Array(0x3001), below4G))
    expect(error).toMatchObject({ code: 'ERR_BOOT_NO_SPACE', placement: 'initrd', size: 0x3001 })
    expect(error.message).toContain('kernel 0x100000..0x1fd000')
    expect(placeInitrd(tight, new Uint8Array(0x3000), below4G).gpa).toBe(2 * MIB - 0x3000)
  })

  it('goes above 4 GiB only for a kernel that can, and only when it must', () => {
    const ranges = [
      { gpa: 0, size: 2 * MIB },
      { gpa: 4 * GIB, size: 64 * MIB },
    ]
    const big = new Uint8Array(8 * MIB)
    const above = { addrMax: 0x7fff_ffff, above4G: true }
    expect(placeInitrd(new LoadPlan(ranges), big, above).gpa).toBe(4 * GIB + 56 * MIB)
    expect(placeInitrd(new LoadPlan(ranges), new Uint8Array(1), above).gpa).toBe(2 * MIB - 0x1000)
    const error = bootErrorOf(() => placeInitrd(new LoadPlan(ranges), big, below4G))
    expect(error.code).toBe('ERR_BOOT_NO_SPACE')
  })
})
