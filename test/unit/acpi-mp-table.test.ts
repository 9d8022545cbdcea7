// The Intel MP table as a kernel without ACPI finds it in RAM.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { MP_TABLE_GPA, type MpTableOptions, placeMpTable } from '../../src/boot/index.js'
import { byteSum } from '../helpers/acpi-reader.js'
import { bootErrorOf } from '../helpers/boot-error-of.js'
import { lowRam } from '../helpers/canary-memory.js'

const MIB = 0x10_0000
const ENTRY_SIZES = [20, 8, 8, 8, 8]
const refusal = expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' })
const countTo = (count: number): number[] => Array.from({ length: count }, (_, id) => id)

/** Places a table, finds it by the search of the specification, and gives its entries. */
const place = (options: MpTableOptions) => {
  const memory = lowRam(MIB)
  const gpa = placeMpTable(memory, options)
  let pointerGpa = 0xf_0000
  const pointerAt = (at: number) => Buffer.from(memory.read(at, 16))
  while (pointerAt(pointerGpa).toString('latin1', 0, 4) !== '_MP_') pointerGpa += 16
  const pointer = pointerAt(pointerGpa)
  expect(pointerGpa).toBe(gpa)
  expect(byteSum(pointer)).toBe(0)
  expect([...pointer.subarray(8)]).toEqual([1, 4, pointer[10], 0, 0, 0, 0, 0])

  const headerGpa = pointer.readUInt32LE(4)
  const table = Buffer.from(memory.read(headerGpa, memory.readU16(headerGpa + 4)))
  expect(table.toString('latin1', 0, 4)).toBe('PCMP')
  expect(byteSum(table)).toBe(0)
  const entries: Buffer[] = []
  for (let at = 44; at < table.length; at += ENTRY_SIZES[table.readUInt8(at)]!) {
    entries.push(table.subarray(at, at + ENTRY_SIZES[table.readUInt8(at)]!))
  }
  expect(entries.length).toBe(table.readUInt16LE(34))
  expect(entries.reduce((sum, entry) => sum + entry.length, 44)).toBe(table.length)
  expect(memory.damaged()).toEqual([])
  const ofType = (type: number) => entries.filter((entry) => entry[0] === type)
  return { table, entries, ofType }
}

describe('MP table', () => {
  it('stands where kernels search, and says 1.4', () => {
    const { table } = place({ cpus: [0] })
    expect(table.readUInt8(6)).toBe(4)
    expect(table.readUInt32LE(36)).toBe(0xfee0_0000)
    const memory = lowRam(MIB)
    expect(placeMpTable(memory, { cpus: [0] })).toBe(MP_TABLE_GPA)
  })

  it('lists processors in ascending types, the boot processor marked', () => {
    const { entries, ofType } = place({ cpus: [2, 0, 7] })
    const types = entries.map((entry) => entry.readUInt8(0))
    expect(types).toEqual([...types].sort((a, b) => a - b))
    expect(ofType(0).map((entry) => [entry[1], entry[2], entry[3]])).toEqual([
      [2, 0x14, 3],
      [0, 0x14, 1],
      [7, 0x14, 1],
    ])
  })

  it('takes the processor from CPUID where it is given', () => {
    const identity = { cpuSignature: 0x000a_0655, cpuFeatures: 0x178b_fbff }
    const [cpu] = place({ cpus: [0], ...identity }).ofType(0)
    expect([cpu!.readUInt32LE(4), cpu!.readUInt32LE(8)]).toEqual([0x000a_0655, 0x178b_fbff])
  })

  it('has an ISA bus and one I/O APIC with an id of its own', () => {
    const { ofType } = place({ cpus: [0, 5] })
    expect(ofType(1).map((entry) => entry.toString('latin1', 2))).toEqual(['ISA   '])
    expect(ofType(2).map((entry) => [...entry])).toEqual([[2, 6, 0x11, 1, 0, 0, 0xc0, 0xfe]])
  })

  it('brings every ISA interrupt but the cascade to an input, each to another', () => {
    const { ofType } = place({ cpus: [0] })
    const inputs = new Map(ofType(3).map((entry) => [entry[5]!, entry[7]!]))
    expect([...inputs.keys()]).toEqual([0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])
    expect(inputs.get(0)).toBe(2)
    expect(new Set(inputs.values()).size).toBe(15)
    for (const entry of ofType(3)) expect([...entry.subarray(1, 5)]).toEqual([0, 0, 0, 0])
  })

  it('takes other overrides', () => {
    const interruptOverrides = [{ irq: 11, gsi: 20, trigger: 'level', polarity: 'low' }] as const
    const lines = place({ cpus: [0], interruptOverrides }).ofType(3)
    expect([...lines.find((entry) => entry[5] === 0)!]).toEqual([3, 0, 0, 0, 0, 0, 1, 0])
    expect([...lines.find((entry) => entry[5] === 11)!]).toEqual([3, 0, 0x0f, 0, 0, 11, 1, 20])
  })

  it('connects ExtINT to the boot processor and NMI to all', () => {
    expect(
      place({ cpus: [4, 1] })
        .ofType(4)
        .map((entry) => [...entry]),
    ).toEqual([
      [4, 3, 0, 0, 0, 0, 4, 0],
      [4, 1, 0, 0, 0, 0, 0xff, 1],
    ])
  })

  it('is intact for any processors, up to 255 of them', () => {
    const ids = fc.uniqueArray(fc.nat(254), { minLength: 1, maxLength: 255 })
    fc.assert(
      fc.property(ids, (cpus) => {
        const listed = place({ cpus }).ofType(0)
        expect(listed.map((entry) => entry[1])).toEqual(cpus)
      }),
      { numRuns: 30 },
    )
    expect(place({ cpus: countTo(255) }).ofType(0).length).toBe(255)
  })

  it('leaves RAM untouched where it refuses', () => {
    const memory = lowRam(0xf_d000)
    const many = { cpus: countTo(255) }
    expect(bootErrorOf(() => placeMpTable(memory, many)).code).toBe('ERR_BOOT_NO_SPACE')
    expect(() => placeMpTable(memory, { cpus: [255] })).toThrow(refusal)
    expect(() => placeMpTable(memory, { cpus: [1, 1] })).toThrow(refusal)
    expect(() => placeMpTable(memory, { cpus: [0], gpa: 0xe_0000 })).toThrow(refusal)
    expect(() => placeMpTable(memory, { cpus: [0], gpa: 0xf_0008 })).toThrow(refusal)
    expect(() => placeMpTable(memory, { ...many, gpa: 0xf_fff0 })).toThrow(refusal)
    expect(memory.isUntouched()).toBe(true)
  })
})
