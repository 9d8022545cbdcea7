// The script for firmware, carried out as firmware does.

import { expect, test } from 'vitest'
import { ACPI_FILES, createAcpiTables, encodeTableLoader } from '../../src/boot/index.js'
import { byteSum, readAcpi } from '../helpers/acpi-reader.js'
import { lowRam } from '../helpers/canary-memory.js'

const pci = {
  ecamGpa: 0xe800_0000,
  lastBus: 0,
  memory32: { gpa: 0xc000_0000, size: 0x1000_0000 },
  intxGsis: [16, 17, 18, 19],
} as const

test.each([0x10_0000, 0x23_4540])('tables placed at 0x%x are linked and summed', (tablesGpa) => {
  const made = createAcpiTables({ cpus: [0, 1, 300], pci })
  const files = encodeTableLoader(made)
  const memory = lowRam(0x40_0000)
  const gpas = new Map([
    [ACPI_FILES.tables as string, tablesGpa],
    [ACPI_FILES.rsdp as string, 0xf_0000],
  ])
  const script = Buffer.from(files.get(ACPI_FILES.loader)!)
  const nameAt = (at: number) => script.toString('latin1', at, at + 56).replace(/\0+$/, '')
  const placed = new Map<string, number>()
  for (let at = 0; at < script.length; at += 128) {
    const file = nameAt(at + 4)
    switch (script.readUInt32LE(at)) {
      case 1: {
        const gpa = gpas.get(file)!
        expect(gpa % script.readUInt32LE(at + 60)).toBe(0)
        memory.write(gpa, files.get(file)!)
        placed.set(file, gpa)
        break
      }
      case 2: {
        const gpa = placed.get(file)! + script.readUInt32LE(at + 116)
        const base = placed.get(nameAt(at + 60))!
        if (script[at + 120] === 4) memory.writeU32(gpa, memory.readU32(gpa) + base)
        else memory.writeU64(gpa, memory.readU64(gpa) + BigInt(base))
        break
      }
      case 3: {
        const gpa = placed.get(file)!
        const sum = script.readUInt32LE(at + 60) + gpa
        const bytes = memory.read(gpa + script.readUInt32LE(at + 64), script.readUInt32LE(at + 68))
        memory.writeU8(sum, (memory.readU8(sum) - byteSum(bytes)) & 0xff)
        break
      }
      default:
        throw new Error(`command ${script.readUInt32LE(at)}`)
    }
  }
  const { rsdpGpa, tables, facs } = readAcpi(memory)
  expect(rsdpGpa).toBe(0xf_0000)
  expect(facs.gpa).toBe(tablesGpa)
  // But for links and sums they are what a kernel gets without firmware.
  for (const { name, bytes } of made.tables.filter(({ name }) =>
    ['APIC', 'MCFG', 'DSDT'].includes(name),
  )) {
    expect(tables.get(name)!.bytes).toEqual(Buffer.from(bytes))
  }
})
