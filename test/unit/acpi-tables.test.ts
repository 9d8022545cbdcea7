// The tables as a guest finds them in RAM, and, where it is installed, as Intel's compiler reads them.

import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  ACPI_GPA,
  type AcpiOptions,
  aml,
  BOOT_PARAMS_GPA,
  createAcpiTables,
  createMemoryMap,
  E820_TYPE,
  HVM_START_INFO,
  loadLinux,
  MP_TABLE_GPA,
  placeAcpi,
  placeMpTable,
  ZERO_PAGE,
} from '../../src/boot/index.js'
import { ACPI_PM_BASE } from '../../src/devices/index.js'
import { byteSum, readAcpi, readRecords } from '../helpers/acpi-reader.js'
import { type AmlTerm, decodeAml } from '../helpers/aml-decoder.js'
import { bootErrorOf } from '../helpers/boot-error-of.js'
import { makeBzImage, makePvhElf } from '../helpers/boot-images.js'
import { lowRam } from '../helpers/canary-memory.js'

const MIB = 0x10_0000
const HEADER_SIZE = 36
const refusal = expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' })
const countTo = (count: number): number[] => Array.from({ length: count }, (_, id) => id)

const FULL: AcpiOptions = {
  cpus: countTo(300),
  hpet: { gpa: 0xfed0_0000 },
  serialPorts: [
    { port: 0x3f8, irq: 4 },
    { port: 0x2f8, irq: 3 },
  ],
  pci: {
    ecamGpa: 0xe000_0000,
    memory32: { gpa: 0xc000_0000, size: 0x2000_0000 },
    memory64: { gpa: 2 ** 39, size: 2 ** 38 },
    intxGsis: [16, 17, 18, 19],
  },
}

const place = (options: AcpiOptions) => {
  const memory = lowRam(MIB)
  const acpi = placeAcpi(memory, options)
  const found = readAcpi(memory)
  const table = (signature: string): Buffer => found.tables.get(signature)!.bytes
  return { memory, acpi, found, table }
}

const madtRecords = (options: AcpiOptions): number[][] =>
  readRecords(place(options).table('APIC').subarray(44)).map((record) => [...record])

describe('what a guest finds', () => {
  it('is all there, from the root pointer on', () => {
    const { acpi, found, memory } = place({ cpus: [0] })
    expect(found.rsdpGpa).toBe(acpi.rsdpGpa)
    expect([...found.tables.keys()].sort()).toEqual(['APIC', 'DSDT', 'FACP', 'XSDT'])
    expect([...place(FULL).found.tables.keys()].sort()).toEqual([
      'APIC',
      'DSDT',
      'FACP',
      'HPET',
      'MCFG',
      'XSDT',
    ])
    expect(memory.damaged()).toEqual([])
  })

  const options = fc.record(
    {
      cpus: fc.uniqueArray(fc.oneof(fc.nat(300), fc.nat(0xffff_fffe)), {
        minLength: 1,
        maxLength: 400,
      }),
      pmBase: fc.integer({ min: 1, max: 0xffc0 }),
      sciIrq: fc.nat(255),
      reset: fc.option(fc.record({ port: fc.nat(0xffff), value: fc.nat(255) })),
      rtc: fc.boolean(),
      keyboardController: fc.boolean(),
      serialPorts: fc.array(fc.record({ port: fc.nat(0xfff8), irq: fc.nat(15) }), {
        maxLength: 9,
      }),
      hpet: fc.record({ gpa: fc.nat(0xffff_ffff) }),
      pci: fc.constant(FULL.pci),
      devices: fc.array(fc.uint8Array({ maxLength: 5000 }).map(aml.buffer), { maxLength: 4 }),
    },
    { requiredKeys: ['cpus'] },
  )

  it('has right checksums and lengths, and never overlaps, whatever the machine', () => {
    fc.assert(
      fc.property(options, (machine) => {
        const { acpi, found } = place(machine)
        expect(acpi.tables.length).toBe(found.tables.size + 2)
        let end = 0
        for (const { name, gpa, bytes } of acpi.tables) {
          expect(gpa).toBeGreaterThanOrEqual(end)
          end = gpa + bytes.length
          expect(gpa % 16).toBe(0)
          if (name !== 'FACS') expect(byteSum(bytes)).toBe(0)
          const home = acpi.reservations.find((r) => gpa >= r.gpa && end <= r.gpa + r.size)
          expect(home?.type).toBe(name === 'RSDP' || name === 'FACS' ? 4 : 3)
        }
        decodeAml(found.tables.get('DSDT')!.bytes.subarray(HEADER_SIZE))
      }),
    )
  })

  it('can lie elsewhere in RAM, and then must fit there', () => {
    const memory = lowRam(4 * MIB)
    const acpi = placeAcpi(memory, { cpus: [0], gpa: 2 * MIB })
    expect(readAcpi(memory, acpi.rsdpGpa).tables.size).toBe(4)
    const error = bootErrorOf(() => createAcpiTables({ cpus: [0], end: ACPI_GPA + 0x1fff }))
    expect(error).toMatchObject({ code: 'ERR_BOOT_NO_SPACE', gpa: ACPI_GPA, size: 0x2000 })
    expect(createAcpiTables({ cpus: [0], end: ACPI_GPA + 0x2000 }).tables.length).toBe(6)
  })

  it('has room for 4096 processors below the MP table', () => {
    const { acpi } = place({ ...FULL, cpus: countTo(4096) })
    const last = acpi.tables.at(-1)!
    expect(last.gpa + last.bytes.length).toBeLessThanOrEqual(MP_TABLE_GPA)
  })

  it('leaves RAM untouched where it refuses', () => {
    const memory = lowRam(0xe_0800)
    expect(bootErrorOf(() => placeAcpi(memory, { cpus: [0] })).code).toBe('ERR_BOOT_NO_SPACE')
    expect(() => placeAcpi(memory, { cpus: [] })).toThrow(refusal)
    expect(() => placeAcpi(memory, { cpus: [0, 1, 0] })).toThrow(refusal)
    expect(() => placeAcpi(memory, { cpus: [0xffff_ffff] })).toThrow(refusal)
    expect(() => placeAcpi(memory, { cpus: [0], pmBase: 0xfff0 })).toThrow(refusal)
    expect(() => placeAcpi(memory, { cpus: [0], gpa: ACPI_GPA + 64 })).toThrow(refusal)
    const pci = { ...FULL.pci!, ecamGpa: 0xf800_0000 }
    expect(() => placeAcpi(memory, { cpus: [0], pci })).toThrow(refusal)
    expect(memory.isUntouched()).toBe(true)
  })
})

describe('with a Linux loader', () => {
  const cpus = [0, 1]

  it('the zero page names the root pointer and the map keeps the tables', () => {
    const memory = lowRam(64 * MIB)
    const acpi = placeAcpi(memory, { cpus })
    const mpGpa = placeMpTable(memory, { cpus })
    const { memoryMap } = loadLinux(memory, { kernel: makeBzImage(), ...acpi })
    expect(memory.readU64(BOOT_PARAMS_GPA + ZERO_PAGE.acpi_rsdp_addr)).toBe(BigInt(ACPI_GPA))
    const typeAt = (gpa: number) =>
      memoryMap.find((entry) => gpa >= entry.gpa && gpa < entry.gpa + entry.size)?.type
    expect(acpi.tables.map(({ gpa }) => typeAt(gpa))).toEqual([4, 4, 3, 3, 3, 3])
    expect(typeAt(mpGpa)).toBe(E820_TYPE.RESERVED)
    expect(readAcpi(memory).tables.size).toBe(4)
  })

  it('the PVH start info names the root pointer', () => {
    const memory = lowRam(64 * MIB)
    const acpi = placeAcpi(memory, { cpus })
    loadLinux(memory, { kernel: makePvhElf(), ...acpi })
    expect(memory.readU64(BOOT_PARAMS_GPA + HVM_START_INFO.rsdp_paddr)).toBe(BigInt(ACPI_GPA))
  })

  it('the map stays sorted when the tables reach into the BIOS segment', () => {
    const { reservations } = createAcpiTables({ ...FULL, cpus: countTo(4096) })
    const map = createMemoryMap([{ gpa: 0, size: 64 * MIB }], reservations)
    for (const [index, { gpa, size }] of map.slice(0, -1).entries()) {
      expect(gpa + size).toBeLessThanOrEqual(map[index + 1]!.gpa)
    }
  })
})

describe('FADT', () => {
  it('names the fixed hardware by port, in both forms', () => {
    const fadt = place({ cpus: [0] }).table('FACP')
    expect(fadt.length).toBe(276)
    expect([fadt.readUInt8(8), fadt.readUInt8(131)]).toEqual([6, 5])
    const blocks = [
      [56, 148, ACPI_PM_BASE, 4, 88],
      [64, 172, ACPI_PM_BASE + 4, 2, 89],
      [76, 208, ACPI_PM_BASE + 8, 4, 91],
      [80, 220, ACPI_PM_BASE + 0x20, 4, 92],
    ] as const
    for (const [portAt, addressAt, port, length, lengthAt] of blocks) {
      expect(fadt.readUInt32LE(portAt)).toBe(port)
      expect(fadt.readUInt8(lengthAt)).toBe(length)
      expect([...fadt.subarray(addressAt, addressAt + 3)]).toEqual([1, 8 * length, 0])
      expect(fadt.readBigUInt64LE(addressAt + 4)).toBe(BigInt(port))
    }
    expect(fadt.readUInt16LE(46)).toBe(9)
    expect(fadt.readUInt32LE(48)).toBe(0)
  })

  it('says how to reset, or that one cannot', () => {
    const withReset = place({ cpus: [0] }).table('FACP')
    expect([...withReset.subarray(116, 120)]).toEqual([1, 8, 0, 1])
    expect(withReset.readBigUInt64LE(120)).toBe(0xcf9n)
    expect(withReset.readUInt8(128)).toBe(6)
    expect(withReset.readUInt32LE(112)).toBe(0x565)
    const without = place({ cpus: [0], reset: null, pmTimerBits: 24 }).table('FACP')
    expect([...without.subarray(116, 129)]).toEqual(Array(13).fill(0))
    expect(without.readUInt32LE(112)).toBe(0x065)
    const i8042 = place({ cpus: [0], reset: { port: 0x64, value: 0xfe } }).table('FACP')
    expect([i8042.readBigUInt64LE(120), i8042.readUInt8(128)]).toEqual([0x64n, 0xfe])
  })

  it('says which PC devices are missing', () => {
    const bootArch = (options: Partial<AcpiOptions>) =>
      place({ cpus: [0], ...options })
        .table('FACP')
        .readUInt16LE(109)
    expect(bootArch({})).toBe(0x07)
    expect(bootArch({ serialPorts: [] })).toBe(0x06)
    expect(bootArch({ keyboardController: false })).toBe(0x05)
    expect(bootArch({ vga: true })).toBe(0x03)
    expect(bootArch({ rtc: false })).toBe(0x27)
    expect(
      place({ cpus: [0] })
        .table('FACP')
        .readUInt8(108),
    ).toBe(0x32)
    expect(
      place({ cpus: [0], rtc: false })
        .table('FACP')
        .readUInt8(108),
    ).toBe(0)
  })
})

describe('MADT', () => {
  it('lists processors, the I/O APIC, overrides and NMI', () => {
    const madt = place({ cpus: [0] }).table('APIC')
    expect([madt.readUInt32LE(36), madt.readUInt32LE(40)]).toEqual([0xfee0_0000, 1])
    expect(madtRecords({ cpus: [3, 1] })).toEqual([
      [0, 8, 3, 3, 1, 0, 0, 0],
      [0, 8, 1, 1, 1, 0, 0, 0],
      [1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0],
      [2, 10, 0, 0, 2, 0, 0, 0, 0, 0],
      [2, 10, 0, 9, 9, 0, 0, 0, 0x0d, 0],
      [4, 6, 0xff, 0, 0, 1],
    ])
  })

  it('takes x2APIC entries from id 255 on, with their own NMI', () => {
    const records = madtRecords({ cpus: [254, 255, 0x1234_5678], interruptOverrides: [] })
    expect(records).toEqual([
      [0, 8, 254, 254, 1, 0, 0, 0],
      [9, 16, 0, 0, 255, 0, 0, 0, 1, 0, 0, 0, 255, 0, 0, 0],
      [9, 16, 0, 0, 0x78, 0x56, 0x34, 0x12, 1, 0, 0, 0, 0x78, 0x56, 0x34, 0x12],
      [1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0],
      [4, 6, 0xff, 0, 0, 1],
      [10, 12, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0],
    ])
  })

  it('names every processor of a large machine once', () => {
    const ids = madtRecords({ cpus: countTo(1000) })
      .filter(([type]) => type === 0 || type === 9)
      .map((record) => (record[0] === 0 ? record[3]! : record[4]! + 256 * record[5]!))
    expect(ids).toEqual(countTo(1000))
  })

  it('encodes every shape of an override', () => {
    const overrides = [
      { irq: 5, gsi: 21, trigger: 'level', polarity: 'low' },
      { irq: 6, gsi: 300, trigger: 'edge', polarity: 'high' },
    ] as const
    const records = madtRecords({ cpus: [0], interruptOverrides: overrides })
    expect(records.filter(([type]) => type === 2)).toEqual([
      [2, 10, 0, 5, 21, 0, 0, 0, 0x0f, 0],
      [2, 10, 0, 6, 0x2c, 1, 0, 0, 0x05, 0],
    ])
  })
})

describe('DSDT', () => {
  const decode = (options: AcpiOptions): AmlTerm[] =>
    decodeAml(place(options).table('DSDT').subarray(HEADER_SIZE))
  const devicesOf = (options: AcpiOptions): Map<string, AmlTerm[]> => {
    const [, scope] = decode(options)
    const terms = scope![2] as AmlTerm[]
    return new Map(terms.map(([, name, body]) => [name as string, body as AmlTerm[]]))
  }

  it('says how to power off', () => {
    const zero = ['Integer', 0n]
    expect(decode({ cpus: [0] })[0]).toEqual([
      'Name',
      '\\_S5_',
      ['Package', [zero, zero, zero, zero]],
    ])
  })

  it('has the devices there are and no others', () => {
    const legacy = { rtc: false, keyboardController: false, serialPorts: [] }
    expect([...devicesOf({ cpus: [0], ...legacy }).keys()]).toEqual(['MBRD'])
    expect([...devicesOf({ cpus: [0] }).keys()]).toEqual(['MBRD', 'COM1', 'RTC_', 'KBD_'])
    expect([...devicesOf(FULL).keys()]).toEqual([
      'MBRD',
      'COM1',
      'COM2',
      'RTC_',
      'KBD_',
      'HPET',
      'PCI0',
    ])
    const own = aml.device('VIRT', aml.name('_HID', aml.string('LNRO0005')))
    expect(devicesOf({ cpus: [0], devices: [own] }).get('VIRT')).toEqual([
      ['Name', '_HID', ['String', 'LNRO0005']],
    ])
  })

  it('gives the serial port its ports and interrupt', () => {
    const resources = [0x47, 1, 0xf8, 2, 0xf8, 2, 1, 8, 0x22, 8, 0, 0x79, 0]
    expect(devicesOf(FULL).get('COM2')).toEqual([
      ['Name', '_HID', ['Integer', 0x0105_d041n]],
      ['Name', '_UID', ['Integer', 2n]],
      ['Name', '_CRS', ['Buffer', Uint8Array.from(resources)]],
    ])
  })

  it('routes each pin of each slot, turned by one a slot', () => {
    const routing = devicesOf(FULL)
      .get('PCI0')!
      .find(([, name]) => name === '_PRT')!
    const entries = (routing[2] as AmlTerm)[1] as AmlTerm[]
    const numbers = entries.map((entry) => (entry[1] as AmlTerm[]).map((term) => term[1]))
    expect(numbers.length).toBe(128)
    expect(numbers[0]).toEqual([0xffffn, 0n, 0n, 16n])
    expect(numbers[3]).toEqual([0xffffn, 3n, 0n, 19n])
    expect(numbers[4 * 6 + 1]).toEqual([0x6_ffffn, 1n, 0n, 19n])
    expect(numbers[127]).toEqual([0x1f_ffffn, 3n, 0n, 18n])
  })

  it('is a plain PCI host without ECAM, and then there is no MCFG', () => {
    const { memory32, intxGsis } = FULL.pci!
    const options = { cpus: [0], pci: { memory32, intxGsis } }
    const host = devicesOf(options).get('PCI0')!
    expect(host[0]).toEqual(['Name', '_HID', ['Integer', 0x030a_d041n]])
    expect(host.some(([op]) => op === 'Method')).toBe(false)
    expect(place(options).found.tables.has('MCFG')).toBe(false)
  })
})

describe('MCFG and HPET', () => {
  it('name the registers', () => {
    const mcfg = place(FULL).table('MCFG')
    expect(mcfg.length).toBe(60)
    expect(mcfg.readBigUInt64LE(44)).toBe(0xe000_0000n)
    expect([...mcfg.subarray(52)]).toEqual([0, 0, 0, 255, 0, 0, 0, 0])
    const few = place({ cpus: [0], pci: { ...FULL.pci!, lastBus: 7 } }).table('MCFG')
    expect(few.readUInt8(55)).toBe(7)
    const hpet = place(FULL).table('HPET')
    expect(hpet.length).toBe(56)
    expect(hpet.readUInt32LE(36)).toBe(0x8086_a201)
    expect(hpet.readBigUInt64LE(44)).toBe(0xfed0_0000n)
  })
})

const hasIasl = spawnSync('iasl', ['-v']).status === 0

const reason = hasIasl ? '' : ': skipped, iasl is not installed'

describe.skipIf(!hasIasl)(`Intel's compiler (iasl of acpica-tools)${reason}`, () => {
  let folder = ''
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'acpi-'))
  })
  afterAll(() => {
    rmSync(folder, { recursive: true })
  })

  const iasl = (...args: string[]): string => {
    const { status, stdout, stderr } = spawnSync('iasl', args, { cwd: folder, encoding: 'utf8' })
    const output = `${stdout}${stderr}`
    expect(status, output).toBe(0)
    return output
  }

  /** The table without what the compiler puts its own into: checksum and creator. */
  const comparable = (bytes: Uint8Array): Buffer => {
    const copy = Buffer.from(bytes)
    copy.fill(0, 9, 10)
    copy.fill(0, 28, HEADER_SIZE)
    return copy
  }

  const machines: [string, AcpiOptions][] = [
    ['small', { cpus: [0, 1] }],
    ['full', FULL],
  ]
  it.each(machines)(
    'reads every table of a %s machine and makes the same bytes',
    (kind, options) => {
      for (const { name, bytes } of createAcpiTables(options).tables) {
        if (name === 'RSDP' || name === 'FACS') continue
        const stem = `${kind}-${name}`
        writeFileSync(join(folder, `${stem}.dat`), bytes)
        iasl('-d', `${stem}.dat`)
        const source = readFileSync(join(folder, `${stem}.dsl`), 'utf8')
        expect(source).not.toMatch(/error|invalid|incorrect|unknown/i)
        // Without -oa the compiler writes shorter forms of some names.
        const output = iasl('-oa', '-p', `${stem}-again`, `${stem}.dsl`)
        expect(output).toContain('0 Errors, 0 Warnings, 0 Remarks')
        const again = readFileSync(join(folder, `${stem}-again.aml`))
        expect(comparable(again).equals(comparable(bytes)), name).toBe(true)
      }
    },
  )
})
