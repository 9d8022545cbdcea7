// Page tables built and walked, in every mode; rights and faults against the manual's rules.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { flagBits } from '../../src/x86/bitfields.js'
import { BufferMemory } from '../../src/x86/buffer-memory.js'
import { CR0, CR3, CR4 } from '../../src/x86/control-registers.js'
import { EFER } from '../../src/x86/efer.js'
import { type PageFlags, PageTableBuilder } from '../../src/x86/page-table-builder.js'
import { type PageAccess, type PagingRegisters, walkPageTables } from '../../src/x86/page-walk.js'
import {
  isCanonical,
  PAGING_GEOMETRY,
  type PagingMode,
  pagingMode,
} from '../../src/x86/paging-mode.js'

const MODES: PagingMode[] = ['32-bit', 'pae', '4-level', '5-level']
const TABLES = 0x10_0000
const outOfRange = expect.objectContaining({ name: 'RangeError', code: 'ERR_OUT_OF_RANGE' })

function builder(mode: PagingMode, maxPageSize?: number, pages = 64) {
  const memory = BufferMemory.ofSize(pages * 4096, TABLES)
  const options = { mode, gpa: TABLES, size: pages * 4096 }
  const tables = new PageTableBuilder(
    memory,
    maxPageSize === undefined ? options : { ...options, maxPageSize },
  )
  return { memory, tables }
}

const pageSizes: Record<PagingMode, number[]> = {
  '32-bit': [2 ** 12, 2 ** 22],
  pae: [2 ** 12, 2 ** 21],
  '4-level': [2 ** 12, 2 ** 21, 2 ** 30],
  '5-level': [2 ** 12, 2 ** 21, 2 ** 30],
}

// A page of one of the mode's sizes at a random place, with random flags that the mode knows.
function mapping(mode: PagingMode) {
  const { linearBits } = PAGING_GEOMETRY[mode]
  const wide = linearBits > 32
  return fc.constantFrom(...pageSizes[mode]).chain((size) => {
    const physicalBits = wide || mode === 'pae' ? 52 : size > 4096 ? 40 : 32
    return fc.record({
      size: fc.constant(size),
      va: fc
        .bigInt({ min: 0n, max: 2n ** BigInt(linearBits) / BigInt(size) - 1n })
        .map((n) => canonical(n * BigInt(size), linearBits)),
      gpa: fc.integer({ min: 0, max: 2 ** physicalBits / size - 1 }).map((n) => n * size),
      offset: fc.integer({ min: 0, max: size - 1 }),
      flags: fc.record({
        writable: fc.boolean(),
        user: fc.boolean(),
        nx: mode === '32-bit' ? fc.constant(false) : fc.boolean(),
        global: fc.boolean(),
        pwt: fc.boolean(),
        pcd: fc.boolean(),
        pat: fc.boolean(),
        accessed: fc.boolean(),
        dirty: fc.boolean(),
        pkey: wide ? fc.integer({ min: 0, max: 15 }) : fc.constant(0),
      }),
    })
  })
}

function canonical(va: bigint, bits: number): bigint {
  return bits === 32 ? va : BigInt.asUintN(64, BigInt.asIntN(bits, va))
}

describe.each(MODES)('%s paging', (mode) => {
  const { linearBits, levels } = PAGING_GEOMETRY[mode]

  it('translates what was mapped, with the flags it was mapped with', () => {
    fc.assert(
      fc.property(mapping(mode), ({ size, va, gpa, offset, flags }) => {
        const { memory, tables } = builder(mode, size)
        tables.map(va, gpa, size, flags)
        const access = { user: flags.user }
        const walk = walkPageTables(memory, tables.registers(), va + BigInt(offset), access)
        expect(walk).toMatchObject({
          fault: undefined,
          gpa: gpa + offset,
          pageSize: size,
          flags: expectedFlags(flags),
        })
        expect(pagingMode(tables.registers())).toBe(mode)
        expect(walk.levels[0]?.level).toBe(levels[0]?.level)
      }),
    )
  })

  it('chooses the largest pages, and the same addresses with any size', () => {
    const large = mode === '32-bit' ? 2 ** 22 : 2 ** 21
    const size = 3 * large + 8192
    const va = BigInt(large) - 4096n
    const gpa = 4 * large - 4096
    const small = builder(mode, 4096)
    const big = builder(mode)
    small.tables.map(va, gpa, size)
    big.tables.map(va, gpa, size)
    const sizes = new Set<number>()
    for (let at = 0; at < size; at += 4096) {
      const a = walkPageTables(small.memory, small.tables.registers(), va + BigInt(at))
      const b = walkPageTables(big.memory, big.tables.registers(), va + BigInt(at))
      if (a.fault !== undefined || b.fault !== undefined) throw new Error(`no translation at ${at}`)
      expect(a.gpa).toBe(gpa + at)
      expect(b.gpa).toBe(gpa + at)
      expect(a.pageSize).toBe(4096)
      sizes.add(b.pageSize)
    }
    expect([...sizes].sort((x, y) => x - y)).toEqual([4096, large])
    expect(big.tables.used).toBeLessThan(small.tables.used)
    const outside = walkPageTables(big.memory, big.tables.registers(), va + BigInt(size))
    expect(outside.fault).toMatchObject({ reason: 'not-present', errorCode: 0 })
  })

  it('splits a large page that changes in part, and keeps the rest as it was', () => {
    const large = pageSizes[mode].at(-1)!
    const flags = { user: true, pat: true, pcd: true, dirty: true }
    const { memory, tables } = builder(mode, large)
    tables.map(0n, 0, large, flags)
    tables.map(0x3000n, 0x7000, 4096, { writable: false }).unmap(0x5000n, 4096)
    const at = (va: bigint) => walkPageTables(memory, tables.registers(), va)
    expect(at(0x3010n)).toMatchObject({ gpa: 0x7010, flags: { writable: false, user: false } })
    expect(at(0x5000n).fault?.reason).toBe('not-present')
    for (const va of [0, 0x2fff, 0x4000, 0x6000, large / 2, large - 1]) {
      expect(at(BigInt(va))).toMatchObject({
        gpa: va,
        flags: { ...expectedFlags({ user: true }), pat: 6, dirty: true },
      })
    }
    tables.map(0n, 0, large)
    expect(at(0x5000n)).toMatchObject({ gpa: 0x5000, pageSize: large })
  })

  it('forgets what is unmapped', () => {
    const { memory, tables } = builder(mode)
    tables.map(0x40_0000n, 0, 0x80_0000).unmap(0x40_0000n, 0x80_0000).unmap(0x2000_0000n, 4096)
    const walk = walkPageTables(memory, tables.registers(), 0x40_0000n)
    expect(walk.fault?.reason).toBe('not-present')
  })

  it('refuses addresses that do not exist', () => {
    const { tables } = builder(mode)
    const top = linearBits === 32 ? 2n ** 32n : 2n ** BigInt(linearBits - 1)
    expect(() => tables.map(top - 4096n, 0, 8192)).toThrow(outOfRange)
    expect(() => tables.map(top, 0, 4096)).toThrow(outOfRange)
    expect(() => tables.map(-4096n, 0, 4096)).toThrow(outOfRange)
    expect(() => tables.map(1n, 0, 4096)).toThrow(outOfRange)
    expect(() => tables.map(0n, 1, 4096)).toThrow(outOfRange)
    expect(() => tables.map(0n, 0, 0)).toThrow(outOfRange)
    expect(() => tables.map(0n, 2 ** 52, 4096)).toThrow(outOfRange)
    expect(() => tables.map(0n, 0, 4096, { pkey: 16 })).toThrow(outOfRange)
  })

  it('says when its range is full', () => {
    const { tables } = builder(mode, 4096, 1)
    expect(() => tables.map(0n, 0, 4096)).toThrow(/large enough for all tables/)
  })

  it('faults where tables lie outside of RAM', () => {
    const { memory, tables } = builder(mode)
    const registers = { ...tables.registers(), cr3: 0x80_0000n }
    expect(walkPageTables(memory, registers, 0n).fault).toMatchObject({
      vector: 14,
      reason: 'outside-ram',
      level: levels[0]?.level,
    })
  })
})

function expectedFlags(f: PageFlags) {
  return {
    writable: f.writable ?? true,
    user: f.user ?? false,
    executable: !f.nx,
    global: f.global ?? false,
    accessed: f.accessed ?? false,
    dirty: f.dirty ?? false,
    pat: Number(f.pwt ?? false) + Number(f.pcd ?? false) * 2 + Number(f.pat ?? false) * 4,
    protectionKey: f.pkey ?? 0,
  }
}

// SDM vol. 3A §4.6.1, §4.6.2 and §4.7, row by row. `null` is an access that succeeds.
describe('access rights', () => {
  const bit = {
    wp: { cr0: flagBits(CR0, 'WP') },
    smep: { cr4: flagBits(CR4, 'SMEP') },
    smap: { cr4: flagBits(CR4, 'SMAP') },
    pke: { cr4: flagBits(CR4, 'PKE') },
    pks: { cr4: flagBits(CR4, 'PKS') },
    nxe: { efer: flagBits(EFER, 'NXE') },
  }
  type Extra = { cr0?: bigint; cr4?: bigint; efer?: bigint; pkru?: number; pkrs?: number }
  type Row = [string, PageFlags, PageAccess, Extra, number | null]
  const user = { user: true }
  const write = { write: true }
  const fetch = { fetch: true }

  const rows: Row[] = [
    ['supervisor reads a supervisor page', {}, {}, {}, null],
    ['user reads a supervisor page', {}, user, {}, 0x5],
    ['user writes a supervisor page', {}, { ...user, ...write }, {}, 0x7],
    ['user reads a user page', user, user, {}, null],
    ['user writes a read-only page', { ...user, writable: false }, { ...user, ...write }, {}, 0x7],
    ['supervisor writes a read-only page, WP=0', { writable: false }, write, {}, null],
    ['supervisor writes a read-only page, WP=1', { writable: false }, write, bit.wp, 0x3],
    ['supervisor reads a user page, SMAP', user, {}, bit.smap, 0x1],
    ['supervisor writes a user page, SMAP', user, write, bit.smap, 0x3],
    ['supervisor reads a user page, SMAP with AC', user, { ac: true }, bit.smap, null],
    ['user reads a user page, SMAP', user, user, bit.smap, null],
    ['supervisor fetches a user page', user, fetch, {}, null],
    ['supervisor fetches a user page, SMEP', user, fetch, bit.smep, 0x11],
    ['supervisor fetches a user page, SMAP only', user, fetch, bit.smap, null],
    ['user fetches a user page, SMEP', user, { ...user, ...fetch }, bit.smep, null],
    ['supervisor fetches a no-execute page', { nx: true }, fetch, bit.nxe, 0x11],
    ['user fetches a no-execute page', { ...user, nx: true }, { ...user, ...fetch }, bit.nxe, 0x15],
    ['supervisor reads a no-execute page', { nx: true }, {}, bit.nxe, null],
    [
      'user reads, key access-disabled',
      { ...user, pkey: 3 },
      user,
      { ...bit.pke, pkru: 0x40 },
      0x25,
    ],
    [
      'supervisor reads, key access-disabled',
      { ...user, pkey: 3 },
      {},
      { ...bit.pke, pkru: 0x40 },
      0x21,
    ],
    [
      'user reads, another key disabled',
      { ...user, pkey: 2 },
      user,
      { ...bit.pke, pkru: 0x40 },
      null,
    ],
    [
      'user reads, key write-disabled',
      { ...user, pkey: 15 },
      user,
      { ...bit.pke, pkru: 0x80000000 },
      null,
    ],
    [
      'user writes, key write-disabled',
      { ...user, pkey: 15 },
      { ...user, ...write },
      { ...bit.pke, pkru: 0x80000000 },
      0x27,
    ],
    [
      'supervisor writes, key write-disabled, WP=0',
      { ...user, pkey: 1 },
      write,
      { ...bit.pke, pkru: 8 },
      null,
    ],
    [
      'supervisor writes, key write-disabled, WP=1',
      { ...user, pkey: 1 },
      write,
      { ...bit.pke, ...bit.wp, pkru: 8 },
      0x23,
    ],
    [
      'user fetches, key disabled',
      { ...user, pkey: 1 },
      { ...user, ...fetch },
      { ...bit.pke, pkru: 4 },
      null,
    ],
    ['supervisor page ignores PKRU', { pkey: 1 }, {}, { ...bit.pke, pkru: 4 }, null],
    ['supervisor page obeys PKRS', { pkey: 1 }, {}, { ...bit.pks, pkrs: 4 }, 0x21],
    ['user page ignores PKRS', { ...user, pkey: 1 }, {}, { ...bit.pks, pkrs: 4 }, null],
    [
      'the key shows in the error code beside another reason',
      { ...user, pkey: 1, writable: false },
      { ...user, ...write },
      { ...bit.pke, pkru: 4 },
      0x27,
    ],
  ]

  it.each(rows)('%s', (_name, flags, access, extra, errorCode) => {
    const { memory, tables } = builder('4-level')
    const base = tables.map(0x20_0000n, 0, 4096, flags).registers()
    // PKE comes with any key that is used; here the row alone decides.
    const cr4 = base.cr4 & ~flagBits(CR4, 'PKE')
    const registers: PagingRegisters = {
      ...extra,
      cr0: base.cr0 | (extra.cr0 ?? 0n),
      cr3: base.cr3,
      cr4: cr4 | (extra.cr4 ?? 0n),
      efer: base.efer | (extra.efer ?? 0n),
    }
    const walk = walkPageTables(memory, registers, 0x20_0000n, access)
    expect(walk.fault?.errorCode ?? null).toBe(errorCode)
    if (errorCode !== null) expect(walk.fault).toMatchObject({ vector: 14, level: 1 })
  })

  it('combines the rights of all levels', () => {
    const { memory, tables } = builder('4-level')
    const registers = tables.map(0n, 0x5000, 4096, { user: true }).registers()
    const upper = walkPageTables(memory, registers, 0n).levels[1]!
    memory.writeU64(upper.entryGpa, upper.entry & ~0x6n)
    expect(walkPageTables(memory, registers, 0n)).toMatchObject({
      flags: { writable: false, user: false },
    })
  })

  it('sets the fetch bit of a not-present fault only with NX or SMEP', () => {
    const { memory, tables } = builder('4-level')
    const r = tables.registers()
    const code = (registers: PagingRegisters) =>
      walkPageTables(memory, registers, 0n, { fetch: true }).fault?.errorCode
    expect(code(r)).toBe(0)
    expect(code({ ...r, efer: r.efer | flagBits(EFER, 'NXE') })).toBe(0x10)
    expect(code({ ...r, cr4: r.cr4 | flagBits(CR4, 'SMEP') })).toBe(0x10)
  })
})

describe('reserved bits', () => {
  type Row = [string, PagingMode, number, number, bigint, Partial<PagingRegisters>, number | null]
  // mode, page size, level whose entry gets the bit, the bit, what the processor is, error code
  const rows: Row[] = [
    ['bit 51 with 52 address bits', '4-level', 4096, 1, 1n << 51n, {}, null],
    ['bit 51 with 46 address bits', '4-level', 4096, 1, 1n << 51n, { maxPhyAddr: 46 }, 9],
    [
      'bit 46 of a PML4E with 46 address bits',
      '4-level',
      4096,
      4,
      1n << 46n,
      { maxPhyAddr: 46 },
      9,
    ],
    ['bit 52, for software', '4-level', 4096, 1, 1n << 52n, { maxPhyAddr: 46 }, null],
    ['XD without NXE', '4-level', 4096, 3, 1n << 63n, {}, 9],
    ['PS in a PML4E', '4-level', 4096, 4, 1n << 7n, {}, 9],
    ['PS in a PML5E', '5-level', 4096, 5, 1n << 7n, {}, 9],
    ['bit 13 of a 2 MiB page', '4-level', 2 ** 21, 2, 1n << 13n, {}, 9],
    ['bit 29 of a 1 GiB page', '4-level', 2 ** 30, 3, 1n << 29n, {}, 9],
    ['a 1 GiB page without pdpe1gb', '4-level', 2 ** 30, 3, 0n, { gbPages: false }, 9],
    ['bit 62 of a PAE entry', 'pae', 4096, 1, 1n << 62n, {}, 9],
    ['bit 20 of a 2 MiB page in PAE', 'pae', 2 ** 21, 2, 1n << 20n, {}, 9],
    ['bit 21 of a 4 MiB page', '32-bit', 2 ** 22, 2, 1n << 21n, {}, 9],
    ['bit 20 of a 4 MiB page with 40 address bits', '32-bit', 2 ** 22, 2, 1n << 20n, {}, null],
    [
      'bit 17 of a 4 MiB page with 36 address bits',
      '32-bit',
      2 ** 22,
      2,
      1n << 17n,
      { maxPhyAddr: 36 },
      9,
    ],
    ['bit 11 of a 32-bit entry', '32-bit', 4096, 1, 1n << 11n, {}, null],
  ]

  it.each(rows)('%s', (_name, mode, size, level, bits, facts, errorCode) => {
    const { memory, tables } = builder(mode, size)
    const registers = { ...tables.map(0n, 0, size).registers(), ...facts }
    const found = walkPageTables(memory, tables.registers(), 0n).levels.find(
      (l) => l.level === level,
    )!
    if (mode === '32-bit') memory.writeU32(found.entryGpa, Number(found.entry | bits))
    else memory.writeU64(found.entryGpa, found.entry | bits)
    const { fault } = walkPageTables(memory, registers, 0n)
    expect(fault?.errorCode ?? null).toBe(errorCode)
    if (errorCode !== null) expect(fault).toMatchObject({ reason: 'reserved-bit', level })
  })

  it('in a PDPTE of PAE are a matter of loading CR3', () => {
    const { memory, tables } = builder('pae')
    const registers = tables.map(0n, 0, 4096).registers()
    memory.writeU64(TABLES, memory.readU64(TABLES) | 2n)
    expect(walkPageTables(memory, registers, 0n).fault).toMatchObject({
      vector: 13,
      errorCode: 0,
      level: 3,
    })
  })
})

describe('addresses', () => {
  it('pass through when paging is off', () => {
    const memory = BufferMemory.ofSize(0)
    const registers = { cr0: flagBits(CR0, 'PE'), cr3: 0n, cr4: 0n, efer: 0n }
    expect(walkPageTables(memory, registers, 0x1_0000_1234n)).toMatchObject({ gpa: 0x1234 })
  })

  it('are 32 bits wide in 32-bit modes', () => {
    const { memory, tables } = builder('pae')
    const registers = tables.map(0xffff_f000n, 0x3000, 4096).registers()
    expect(walkPageTables(memory, registers, 0xffff_ffff_ffff_f004n)).toMatchObject({ gpa: 0x3004 })
  })

  it('must be canonical', () => {
    const { memory, tables } = builder('4-level')
    const registers = tables.registers()
    expect(walkPageTables(memory, registers, 1n << 47n).fault).toEqual({
      vector: 13,
      errorCode: 0,
      level: 0,
      reason: 'non-canonical',
    })
    expect(walkPageTables(memory, registers, 0xffff_8000_0000_0000n).fault?.reason).toBe(
      'not-present',
    )
    expect(isCanonical(0xffff_8000_0000_0000n, 48)).toBe(true)
    expect(isCanonical(0xffff_8000_0000_0000n, 57)).toBe(true)
    expect(isCanonical(0x0000_8000_0000_0000n, 57)).toBe(true)
    expect(isCanonical(0xff00_0000_0000_0000n, 48)).toBe(false)
  })

  it('take their PDPTEs from registers in PAE paging when these are given', () => {
    const { memory, tables } = builder('pae')
    const registers = tables.map(0n, 0x3000, 4096).registers()
    const pdptrs = [memory.readU64(TABLES), 0n, 0n, 0n]
    memory.writeU64(TABLES, 0n)
    const walk = walkPageTables(memory, { ...registers, pdptrs }, 0n)
    expect(walk).toMatchObject({ gpa: 0x3000 })
    expect(walk.levels[0]).toEqual({ level: 3, entryGpa: -1, entry: pdptrs[0] })
    expect(walkPageTables(memory, registers, 0n).fault?.level).toBe(3)
  })

  it('ignore PS in a PDE of 32-bit paging without PSE', () => {
    const { memory, tables } = builder('32-bit')
    const r = tables.map(0n, 0, 4096).registers()
    memory.writeU32(TABLES, memory.readU32(TABLES) | 0x80)
    expect(walkPageTables(memory, r, 0n)).toMatchObject({ pageSize: 2 ** 22 })
    expect(walkPageTables(memory, { ...r, cr4: 0n }, 0n)).toMatchObject({ pageSize: 4096 })
  })

  it('have their tag removed with linear-address masking, for data only', () => {
    const { memory, tables } = builder('4-level')
    const base = tables
      .map(0x5000n, 0x3000, 4096)
      .map(0xffff_8000_0000_0000n, 0x4000, 4096)
      .registers()
    const walk = (va: bigint, more: Partial<PagingRegisters>, access?: PageAccess) =>
      walkPageTables(memory, { ...base, ...more }, va, access)
    const u57 = { cr3: base.cr3 | flagBits(CR3, 'LAM_U57') }
    const u48 = { cr3: base.cr3 | flagBits(CR3, 'LAM_U48') }
    const sup = { cr4: base.cr4 | flagBits(CR4, 'LAM_SUP') }
    expect(walk(0x7e00_0000_0000_5010n, {}).fault?.vector).toBe(13)
    expect(walk(0x7e00_0000_0000_5010n, u57)).toMatchObject({ gpa: 0x3010 })
    expect(walk(0x7fff_0000_0000_5010n, u57).fault?.vector).toBe(13)
    expect(walk(0x7fff_0000_0000_5010n, u48)).toMatchObject({ gpa: 0x3010 })
    expect(walk(0x7fff_8000_0000_5010n, u48).fault?.vector).toBe(13)
    expect(walk(0x7e00_0000_0000_5010n, u57, { fetch: true }).fault?.vector).toBe(13)
    expect(walk(0x8123_8000_0000_0010n, u57).fault?.vector).toBe(13)
    expect(walk(0x8123_8000_0000_0010n, sup)).toMatchObject({ gpa: 0x4010 })
  })
})

describe('the builder', () => {
  it('asks for the register bits that its mappings need', () => {
    const { tables } = builder('4-level')
    expect(tables.registers()).toEqual({
      cr0: 0x80000001n,
      cr3: BigInt(TABLES),
      cr4: flagBits(CR4, 'PAE'),
      efer: flagBits(EFER, 'LME', 'LMA'),
    })
    tables.map(0n, 0, 4096, { nx: true, global: true, pkey: 1 })
    expect(tables.registers()).toMatchObject({
      cr4: flagBits(CR4, 'PAE', 'PGE', 'PKE'),
      efer: flagBits(EFER, 'LME', 'LMA', 'NXE'),
    })
  })

  it('builds the tables that every 64-bit boot stub builds by hand', () => {
    const { memory, tables } = builder('4-level')
    tables.map(0n, 0, 2 ** 30)
    expect(tables.used).toBe(3 * 4096)
    expect(memory.readU64(TABLES)).toBe(BigInt(TABLES) + 0x1007n)
    expect(memory.readU64(TABLES + 0x1000)).toBe(BigInt(TABLES) + 0x2007n)
    expect(memory.readU64(TABLES + 0x2000 + 511 * 8)).toBe(0x3fe00083n)
  })

  it('needs RAM, alignment and low addresses', () => {
    const memory = BufferMemory.ofSize(0x10000)
    const make = (mode: PagingMode, gpa: number, size: number) => () =>
      new PageTableBuilder(memory, { mode, gpa, size })
    expect(make('4-level', 0x10000, 4096)).toThrow(outOfRange)
    expect(make('4-level', 0x800, 4096)).toThrow(outOfRange)
    expect(make('4-level', 0x1000, 0)).toThrow(outOfRange)
    expect(make('pae', 2 ** 32, 4096)).toThrow(outOfRange)
  })

  it('knows what 32-bit paging cannot say', () => {
    const { tables } = builder('32-bit')
    expect(() => tables.map(0n, 0, 4096, { nx: true })).toThrow(outOfRange)
    expect(() => tables.map(0n, 2 ** 32, 4096)).toThrow(/below 4 GiB/)
    tables.map(0n, 2 ** 32, 2 ** 22)
    expect(() => tables.map(0n, 0, 4096)).toThrow(/below 4 GiB/)
  })
})

describe('buffer memory', () => {
  it('reads what was written, and nothing beyond', () => {
    const memory = new BufferMemory([
      { gpa: 2 ** 40, bytes: new Uint8Array(16) },
      { gpa: 0x1000, bytes: new Uint8Array(16) },
    ])
    expect(memory.ranges.map((r) => r.gpa)).toEqual([0x1000, 2 ** 40])
    memory.writeU64(2 ** 40 + 8, 0x1122334455667788n)
    expect(memory.readU8(2 ** 40 + 8)).toBe(0x88)
    expect(memory.readU16(2 ** 40 + 14)).toBe(0x1122)
    expect(memory.readU32(2 ** 40 + 12)).toBe(0x11223344)
    memory.write(0x1000, Uint8Array.of(1, 2, 3))
    memory.fill(0x1001, 1, 9)
    expect([...memory.read(0x1000, 3)]).toEqual([1, 9, 3])
    expect(() => memory.readU64(2 ** 40 + 9)).toThrow(outOfRange)
    expect(() => memory.write(0x100f, new Uint8Array(2))).toThrow(outOfRange)
    expect(() => memory.readU8(0)).toThrow(outOfRange)
    expect(() => memory.readU8(Number.NaN)).toThrow(outOfRange)
  })

  it('refuses ranges that overlap', () => {
    const bytes = new Uint8Array(4096)
    expect(
      () =>
        new BufferMemory([
          { gpa: 0, bytes },
          { gpa: 4095, bytes },
        ]),
    ).toThrow(outOfRange)
  })
})
