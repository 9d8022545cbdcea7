// KVM_TRANSLATE and our own page walker, over random page tables: both say the same.

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { GuestMemory, Kvm, type KvmError, type Vcpu } from '../../src/index.js'
import { pagingRegisters } from '../../src/testing/paging-registers.js'
import { type PagingRegisters, walkPageTables } from '../../src/x86/index.js'

const PAGE = 0x1000
const SIZE = 0x40_0000
/** Tables are the first pages; the top one is the first. */
const TABLES = 8
/** In 4 KiB and 2 MiB pages, the places of entries that are filled in every table. */
const PLACES = [0, 1, 2, 511]
const PG_PE = 0x8000_0001n
const PAE = 0x20n
const LA57 = 0x1000n
const LONG = 0x500n
const NXE = 0x800n

interface Mode {
  name: string
  cr4: bigint
  efer: bigint
  entrySize: 4 | 8
  /** Bits of the linear address below each table's index, top first. */
  shifts: number[]
  indexBits: number
}
const modes: Mode[] = [
  { name: '32-bit', cr4: 0x10n, efer: 0n, entrySize: 4, shifts: [22, 12], indexBits: 10 },
  { name: 'PAE', cr4: PAE, efer: NXE, entrySize: 8, shifts: [30, 21, 12], indexBits: 9 },
  { name: '4-level', cr4: PAE, efer: LONG, entrySize: 8, shifts: [39, 30, 21, 12], indexBits: 9 },
  {
    name: '4-level with NXE',
    cr4: PAE,
    efer: LONG | NXE,
    entrySize: 8,
    shifts: [39, 30, 21, 12],
    indexBits: 9,
  },
  {
    name: '5-level',
    cr4: PAE | LA57,
    efer: LONG | NXE,
    entrySize: 8,
    shifts: [48, 39, 30, 21, 12],
    indexBits: 9,
  },
]

/** Enters the mode; why the KVM does not, if it does not. */
function enter(vcpu: Vcpu, { cr4, efer }: Mode): string | undefined {
  const sregs = vcpu.getSregs()
  const long = (efer & LONG) !== 0n ? 1 : 0
  const cs = { ...sregs.cs, l: long, db: 1 - long, present: 1, s: 1, type: 11, g: 1 }
  try {
    vcpu.setSregs({ ...sregs, cs, cr0: sregs.cr0 | PG_PE, cr3: 0n, cr4, efer })
  } catch (error) {
    return `this KVM refuses the mode: ${(error as KvmError).code}`
  }
  const paging = (vcpu.getSregs().cr0 & PG_PE) === PG_PE
  return paging ? undefined : 'this KVM keeps paging off outside of long mode'
}

/** What decides about reserved bits, as the guest's CPUID says. */
function processor(kvm: Kvm, vcpu: Vcpu) {
  const entries = kvm.getSupportedCpuid()
  vcpu.setCpuid2(entries)
  const leaf = (number: number) => entries.find((entry) => entry.function === number)
  const address = leaf(0x8000_0008)
  const features = leaf(0x8000_0001)
  return {
    maxPhyAddr: address === undefined ? 36 : address.eax & 0xff,
    gbPages: features !== undefined && ((features.edx >>> 26) & 1) === 1,
  }
}

interface Entry {
  kind: 'absent' | 'table' | 'page' | 'large' | 'outside'
  target: number
  bits: number
  nx: boolean
  reserved: boolean
}
const entry: fc.Arbitrary<Entry> = fc.record({
  kind: fc.oneof(
    { weight: 6, arbitrary: fc.constant('table' as const) },
    { weight: 3, arbitrary: fc.constant('page' as const) },
    { weight: 2, arbitrary: fc.constant('large' as const) },
    { weight: 1, arbitrary: fc.constantFrom('absent' as const, 'outside' as const) },
  ),
  target: fc.nat(SIZE / PAGE - 1),
  bits: fc.nat(0x7f),
  nx: fc.integer({ min: 0, max: 7 }).map((n) => n === 0),
  reserved: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
})

/** The flags but present and page size: any. */
const flagsOf = (bits: number) => BigInt(bits & 0b0111_1110)

function encode(mode: Mode, top: boolean, maxPhyAddr: number, spec: Entry): bigint {
  if (spec.kind === 'absent') return BigInt(spec.bits & 0x7e)
  // The registers of PAE allow little, and KVM looks when they are loaded.
  const plain = mode.name === 'PAE' && top
  const flags = plain ? 0n : flagsOf(spec.bits)
  const kind = plain && spec.kind !== 'outside' ? 'table' : spec.kind
  const wide = mode.entrySize === 8 && !plain
  const extra =
    (wide && spec.nx ? 1n << 63n : 0n) |
    (wide && spec.reserved && maxPhyAddr < 52 ? 1n << BigInt(maxPhyAddr) : 0n)
  const large = BigInt(spec.target % 2) << (mode.entrySize === 8 ? 21n : 22n)
  const targets = {
    table: BigInt(spec.target % TABLES) * BigInt(PAGE),
    page: BigInt(spec.target) * BigInt(PAGE),
    large: large | 0x80n,
    outside: 0x3000_0000n,
  }
  return targets[kind] | flags | extra | 1n
}

function addressOf({ shifts, indexBits, efer }: Mode, places: number[], offset: number): bigint {
  const last = BigInt((1 << indexBits) - 1)
  const index = (i: number) => (PLACES[places[i]!] === 511 ? last : BigInt(PLACES[places[i]!]!))
  const address = shifts.reduce((va, shift, i) => va | (index(i) << BigInt(shift)), BigInt(offset))
  if ((efer & LONG) === 0n) return BigInt.asUintN(32, address)
  return BigInt.asUintN(64, BigInt.asIntN(shifts[0]! + indexBits, address))
}

describe.each(modes)('$name', (mode) => {
  test('KVM_TRANSLATE and the walker agree', (context) => {
    using kvm = Kvm.open()
    using vm = kvm.createVm()
    using memory = GuestMemory.create(SIZE)
    vm.mapMemory(memory)
    using vcpu = vm.createVcpu(0)
    const facts = processor(kvm, vcpu)
    const reason = enter(vcpu, mode)
    if (reason !== undefined) context.skip(reason)
    const seen = { mapped: 0, not: 0 }
    const place = fc.nat(PLACES.length - 1)
    const addresses = fc.array(
      fc.record({ places: fc.array(place, { minLength: 5, maxLength: 5 }), offset: fc.nat(0xfff) }),
      { minLength: 30, maxLength: 30 },
    )
    const count = TABLES * PLACES.length
    const tables = fc.array(entry, { minLength: count, maxLength: count })
    fc.assert(
      fc.property(tables, addresses, (entries, queries) => {
        writeTables(memory, mode, facts.maxPhyAddr, entries)
        enter(vcpu, mode)
        const registers = { ...pagingRegisters(vcpu, vcpu.getSregs()), ...facts }
        for (const { places, offset } of queries) {
          const va = addressOf(mode, places, offset)
          // ORDER: KVM sets accessed bits as it walks.
          const walk = walkPageTables(memory, registers, va)
          const gpa = walk.fault === undefined ? walk.gpa : undefined
          const translation = vcpu.translate(va)
          expect({ va, gpa: translation.valid ? translation.gpa : undefined }).toEqual({ va, gpa })
          seen[gpa === undefined ? 'not' : 'mapped']++
        }
      }),
      { numRuns: 60, seed: 42 },
    )
    expect(seen.mapped).toBeGreaterThan(100)
    expect(seen.not).toBeGreaterThan(100)
  })
})

test('PAE: directory pointers count as they were when CR3 was loaded', (context) => {
  using kvm = Kvm.open()
  using vm = kvm.createVm()
  using memory = GuestMemory.create(SIZE)
  vm.mapMemory(memory)
  using vcpu = vm.createVcpu(0)
  const facts = processor(kvm, vcpu)
  const pae = modes.find(({ name }) => name === 'PAE')!
  memory.writeU64(0, BigInt(PAGE) | 1n)
  memory.writeU64(PAGE, 0x20_0081n)
  const reason = enter(vcpu, pae)
  if (reason !== undefined) context.skip(reason)
  const gpaOf = (registers: PagingRegisters) => {
    const walk = walkPageTables(memory, registers, 0x123n)
    return walk.fault === undefined ? walk.gpa : undefined
  }
  const loaded = { ...pagingRegisters(vcpu, vcpu.getSregs()), ...facts }
  expect(loaded.pdptrs).toEqual([BigInt(PAGE) | 1n, 0n, 0n, 0n])
  memory.writeU64(0, 0n)
  expect(gpaOf(loaded)).toBe(0x20_0123)
  expect(vcpu.translate(0x123n)).toMatchObject({ valid: true, gpa: 0x20_0123 })
  const { pdptrs: _, ...inMemory } = loaded
  expect(gpaOf(inMemory)).toBeUndefined()
  enter(vcpu, pae)
  expect(vcpu.translate(0x123n).valid).toBe(false)
  expect(gpaOf({ ...pagingRegisters(vcpu, vcpu.getSregs()), ...facts })).toBeUndefined()
})

function writeTables(memory: GuestMemory, mode: Mode, maxPhyAddr: number, entries: Entry[]): void {
  const { entrySize, indexBits } = mode
  entries.forEach((spec, i) => {
    const table = Math.floor(i / PLACES.length)
    const place = PLACES[i % PLACES.length]!
    const registers = mode.name === 'PAE' && table === 0
    const last = registers ? 3 : 2 ** indexBits - 1
    const gpa = table * PAGE + Math.min(place === 511 ? last : place, last) * entrySize
    const word = encode(mode, table === 0, maxPhyAddr, spec)
    if (entrySize === 8) memory.writeU64(gpa, word)
    else memory.writeU32(gpa, Number(word))
  })
}
