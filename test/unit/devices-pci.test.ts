import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type BusDevice,
  type MessageInterrupt,
  MmioBus,
  MsiCapability,
  MsixCapability,
  PCI_ECAM_SIZE,
  type PciBar,
  PciFunction,
  PciHost,
  PortBus,
} from '../../src/devices/index.js'
import type { MsiMessage } from '../../src/x86/index.js'

const ECAM = 0xe000_0000
const MEMORY_32 = { base: 0xc000_0000, size: 0x1000_0000 }
const MEMORY_64 = { base: 0x1_0000_0000, size: 0x1_0000_0000 }

/** Remembers what is written. */
class Registers implements BusDevice {
  readonly name = 'registers'
  readonly writes: [offset: number, size: number, value: number][] = []

  read(offset: number): number {
    return 0xa0 + offset
  }

  write(offset: number, size: number, value: number): void {
    this.writes.push([offset, size, value])
  }
}

/** A vector that notes what becomes of it. */
class Vector implements MessageInterrupt {
  message: MsiMessage | undefined
  delivered: number[] = []
  isPending = false
  closed = false

  connect(message: MsiMessage | undefined): void {
    this.message = message
    if (message && this.isPending) this.signal()
  }

  signal(): void {
    this.isPending = this.message === undefined
    if (this.message) this.delivered.push(this.message.data)
  }

  close(): void {
    this.closed = true
  }
}

function createHost() {
  const ports = new PortBus()
  const mmio = new MmioBus()
  const levels = [false, false, false, false]
  const resets: number[] = []
  const host = new PciHost({
    ports,
    mmio,
    ecamGpa: ECAM,
    io: { base: 0x1000, size: 0x1000 },
    memory32: MEMORY_32,
    memory64: MEMORY_64,
    lines: levels.map((_, i) => ({
      set: (level) => {
        levels[i] = level
      },
    })),
    resetControl: {
      name: 'reset',
      read: () => 0x5a,
      write: (_offset, _size, value) => void resets.push(value),
    },
  })
  const config = (slot: number, offset: number) => ECAM + slot * 0x8000 + offset
  return { ports, mmio, levels, resets, host, config }
}

const createFunction = (bars: (PciBar | undefined)[] = [], more = {}) =>
  new PciFunction({
    name: 'test',
    vendorId: 0x1234,
    deviceId: 0x5678,
    classCode: 0xff_0001,
    revisionId: 2,
    subsystemVendorId: 0x9abc,
    subsystemId: 0xdef0,
    bars,
    ...more,
  })

describe('configuration space', () => {
  it('is reached by the ports and by ECAM', () => {
    const { host, ports, mmio, config } = createHost()
    host.add(3, createFunction())
    ports.write(0xcf8, 4, 0x8000_1800)
    expect(ports.read(0xcf8, 4)).toBe(0x8000_1800)
    expect(ports.read(0xcfc, 4)).toBe(0x5678_1234)
    expect(ports.read(0xcfe, 2)).toBe(0x5678)
    expect(ports.read(0xcff, 1)).toBe(0x56)
    expect(mmio.read(config(3, 0), 4)).toBe(0x5678_1234)
    expect(mmio.read(config(3, 8), 4)).toBe(0xff_0001_02)
    expect(mmio.read(config(3, 0x2c), 4)).toBe(0xdef0_9abc)
    expect(mmio.read(config(3, 0x100), 4)).toBe(0xffff_ffff)
    expect(mmio.read(config(0, 0), 4)).toBe(0x0008_1b36)
  })

  it('reads all ones where there is no function, bus or enable bit', () => {
    const { ports, mmio, config } = createHost()
    for (const address of [0x8000_0800, 0x8001_0000, 0x0000_0000, 0x8000_0100]) {
      ports.write(0xcf8, 4, address)
      expect(ports.read(0xcfc, 4)).toBe(0xffff_ffff)
      ports.write(0xcfc, 4, 0)
    }
    expect(mmio.read(config(31, 0xffe), 2)).toBe(0xffff)
    expect(mmio.read(config(0, 0xff), 4)).toBe(0xffff_ff00)
  })

  it('leaves port 0xcf9 to the reset control', () => {
    const { ports, resets } = createHost()
    ports.write(0xcf8, 4, 0x8000_1234)
    ports.write(0xcf9, 1, 6)
    expect(resets).toEqual([6])
    expect(ports.read(0xcf9, 1)).toBe(0x5a)
    expect(ports.read(0xcf8, 4)).toBe(0x8000_1234)
    expect(ports.read(0xcfa, 2)).toBe(0xffff)
  })

  it('lets only writable bits be written', () => {
    const { host, mmio, config } = createHost()
    host.add(1, createFunction())
    for (let at = 0; at < 0x1000; at += 4) mmio.write(config(1, at), 4, 0xffff_ffff)
    expect(mmio.read(config(1, 0), 4)).toBe(0x5678_1234)
    expect(mmio.read(config(1, 4), 4)).toBe(0x0000_0547)
    expect(mmio.read(config(1, 0x3c), 4)).toBe(0xff)
    expect(mmio.read(config(1, 0x200), 4)).toBe(0xffff_ffff)
    host.reset()
    expect(mmio.read(config(1, 4), 4)).toBe(0)
  })

  it('tells of further functions in function 0', () => {
    const { host, mmio, config } = createHost()
    host.add(2, createFunction())
    expect(mmio.read(config(2, 0xe), 1)).toBe(0)
    host.add(2, createFunction(), 7)
    expect(mmio.read(config(2, 0xe), 1)).toBe(0x80)
    expect(mmio.read(config(2, 0x7000), 4)).toBe(0x5678_1234)
    host.reset()
    expect(mmio.read(config(2, 0xe), 1)).toBe(0x80)
  })

  it('refuses slots that are taken or do not exist', () => {
    const { host } = createHost()
    for (const slot of [-1, 32, 0.5, 0]) {
      expect(() => host.add(slot, createFunction())).toThrow(
        expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }),
      )
    }
    expect(() => host.add(1, createFunction(), 8)).toThrow(RangeError)
  })
})

describe('BARs', () => {
  const io = new Registers()
  const low = new Registers()
  const high = new Registers()
  const bars = (): (PciBar | undefined)[] => [
    { kind: 'io', size: 0x20, device: io },
    { kind: 'memory32', size: 0x1000, device: low },
    { kind: 'memory64', size: 0x2000, device: high, prefetchable: true },
  ]

  it('tell their kind and size', () => {
    const { host, mmio, config } = createHost()
    host.add(1, createFunction(bars()))
    for (let at = 0x10; at < 0x28; at += 4) mmio.write(config(1, at), 4, 0xffff_ffff)
    const read = (at: number) => mmio.read(config(1, at), 4)
    expect([0x10, 0x14, 0x18, 0x1c, 0x20, 0x24].map(read)).toEqual([
      0xffff_ffe1, 0xffff_f000, 0xffff_e00c, 0xffff_ffff, 0, 0,
    ])
  })

  it('get the same addresses in every run, in the order of slots', () => {
    const addresses = [
      [5, 2],
      [2, 5],
    ].map((slots) => {
      const { host, mmio, config } = createHost()
      for (const slot of slots) host.add(slot, createFunction(bars()))
      host.assignBars()
      return [0x10, 0x14, 0x18, 0x1c].map((at) => mmio.read(config(5, at), 4))
    })
    expect(addresses[0]).toEqual([0x1021, 0xc000_1000, 0x2000 + 0xc, 1])
    expect(addresses[1]).toEqual(addresses[0])
  })

  it('answer while the guest enables them, where it puts them', () => {
    const { host, ports, mmio, config } = createHost()
    host.add(1, createFunction(bars()))
    host.assignBars()
    expect(mmio.read(0xc000_0004, 1)).toBe(0xff)
    mmio.write(config(1, 4), 2, 3)
    expect(mmio.read(0xc000_0004, 1)).toBe(0xa4)
    expect(mmio.read(0x1_0000_0004, 1)).toBe(0xa4)
    expect(ports.read(0x1004, 1)).toBe(0xa4)
    mmio.write(config(1, 0x14), 4, 0xd000_0000)
    expect(mmio.read(0xc000_0004, 1)).toBe(0xff)
    expect(mmio.read(0xd000_0004, 1)).toBe(0xa4)
    mmio.write(config(1, 0x1c), 4, 0x10)
    expect(mmio.read(0x10_0000_0004, 1)).toBe(0xa4)
    mmio.write(config(1, 4), 2, 1)
    expect(mmio.read(0xd000_0004, 1)).toBe(0xff)
    expect(ports.read(0x1004, 1)).toBe(0xa4)
    host.reset()
    expect(ports.read(0x1004, 1)).toBe(0xff)
  })

  it('do not displace each other, and come when the place is free', () => {
    const { host, mmio, config } = createHost()
    const moves: (number | undefined)[] = []
    host.add(1, createFunction([{ kind: 'memory32', size: 0x1000, device: low }]))
    host.add(
      2,
      createFunction([
        { kind: 'memory32', size: 0x1000, device: high, onMoved: (base) => moves.push(base) },
      ]),
    )
    host.assignBars()
    for (const slot of [1, 2]) mmio.write(config(slot, 4), 2, 2)
    mmio.write(config(2, 0x10), 4, 0xc000_0000)
    mmio.write(0xc000_0008, 4, 1)
    expect(low.writes).toContainEqual([8, 4, 1])
    mmio.write(config(1, 0x10), 4, 0xc100_0000)
    mmio.write(0xc000_0008, 4, 2)
    expect(high.writes).toContainEqual([8, 4, 2])
    // Onto configuration space, beyond every address: nowhere.
    for (const address of [ECAM, 0xffff_f000]) mmio.write(config(2, 0x10), 4, address)
    expect(mmio.read(config(0, 0), 4)).toBe(0x0008_1b36)
    expect(moves).toEqual([0xc000_1000, undefined, 0xc000_0000, undefined, 0xffff_f000])
  })

  it('refuse sizes and windows that cannot be', () => {
    const device = new Registers()
    const bad: (PciBar | undefined)[][] = [
      [{ kind: 'io', size: 3, device }],
      [{ kind: 'io', size: 512, device }],
      [{ kind: 'memory32', size: 256, device }],
      [{ kind: 'memory32', size: 2 ** 32, device }],
      [{ kind: 'memory64', size: 2 ** 41, device }],
      [
        { kind: 'memory64', size: 4096, device },
        { kind: 'io', size: 4, device },
      ],
      [
        undefined,
        undefined,
        undefined,
        undefined,
        undefined,
        { kind: 'memory64', size: 4096, device },
      ],
    ]
    for (const each of bad) expect(() => createFunction(each)).toThrow(RangeError)
    const { host } = createHost()
    host.add(1, createFunction([{ kind: 'memory32', size: 2 ** 29, device }]))
    expect(() => host.assignBars()).toThrow(expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }))
  })
})

describe('INTx', () => {
  it('is shared by slots, can be disabled, and shows in the status', () => {
    const { host, mmio, levels, config } = createHost()
    const [one, five] = [1, 5].map((slot) => {
      const made = createFunction([], { hasInterruptPin: true })
      host.add(slot, made)
      return made
    })
    expect(mmio.read(config(1, 0x3d), 1)).toBe(1)
    one!.interrupt.set(true)
    five!.interrupt.set(true)
    expect(levels).toEqual([false, true, false, false])
    one!.interrupt.set(false)
    expect(levels[1]).toBe(true)
    mmio.write(config(5, 4), 2, 0x400)
    expect(levels[1]).toBe(false)
    expect(mmio.read(config(5, 6), 2)).toBe(0x8)
    mmio.write(config(5, 4), 2, 0)
    expect(levels[1]).toBe(true)
    host.reset()
    expect(levels[1]).toBe(false)
  })
})

describe('MSI-X', () => {
  function createMsix(vectors = 4) {
    const made: Vector[] = []
    const create = () => {
      const vector = new Vector()
      made.push(vector)
      return vector
    }
    const msix = new MsixCapability({ vectors, barIndex: 0, create })
    const { host, mmio, config } = createHost()
    host.add(1, createFunction([msix.bar], { capabilities: [msix] }))
    host.assignBars()
    mmio.write(config(1, 4), 2, 6)
    const table = (vector: number, word: number) => MEMORY_32.base + vector * 16 + word * 4
    const route = (vector: number, data: number) => {
      mmio.write(table(vector, 0), 4, 0xfee0_0000)
      mmio.write(table(vector, 2), 4, data)
      mmio.write(table(vector, 3), 4, 0)
    }
    const control = (value: number) => mmio.write(config(1, 0x42), 2, value)
    return { msix, made, host, mmio, config, table, route, control }
  }

  it('is found in the list, with its table and pending bits', () => {
    const { mmio, config, table } = createMsix(3)
    expect(mmio.read(config(1, 6), 2)).toBe(0x10)
    expect(mmio.read(config(1, 0x34), 1)).toBe(0x40)
    expect(mmio.read(config(1, 0x40), 4)).toBe(0x0002_0011)
    expect(mmio.read(config(1, 0x44), 4)).toBe(0)
    expect(mmio.read(config(1, 0x48), 4)).toBe(0x800)
    expect([0, 1, 2, 3].map((vector) => mmio.read(table(vector, 3), 4))).toEqual([1, 1, 1, 0])
  })

  it('delivers, masks one or all, and keeps what comes meanwhile', () => {
    const { msix, made, mmio, table, route, control } = createMsix()
    route(1, 0x41)
    msix.signal(1)
    expect(made).toEqual([]) // off
    control(0x8000)
    msix.signal(1)
    expect(made[0]!.delivered).toEqual([0x41])
    mmio.write(table(1, 3), 4, 0xffff_ffff)
    expect(mmio.read(table(1, 3), 4)).toBe(1)
    msix.signal(1)
    expect(mmio.read(MEMORY_32.base + 0x800, 4)).toBe(2)
    mmio.write(table(1, 3), 4, 0)
    expect(made[0]!.delivered).toEqual([0x41, 0x41])
    expect(mmio.read(MEMORY_32.base + 0x800, 4)).toBe(0)
    control(0xc000)
    msix.signal(1)
    expect(made[0]!.delivered.length).toBe(2)
    mmio.write(table(1, 2), 4, 0x42)
    control(0x8000)
    expect(made[0]!.delivered).toEqual([0x41, 0x41, 0x42])
    control(0)
    expect(made[0]!.closed).toBe(true)
    msix.signal(1)
    expect(made.length).toBe(1)
  })

  it('is as new after a reset', () => {
    const { msix, made, host, mmio, config, table, route, control } = createMsix()
    route(0, 0x50)
    control(0x8000)
    msix.signal(0)
    host.reset()
    expect(made[0]!.closed).toBe(true)
    expect(msix.isEnabled).toBe(false)
    host.assignBars()
    mmio.write(config(1, 4), 2, 2)
    expect(mmio.read(table(0, 0), 4)).toBe(0)
    expect(mmio.read(table(0, 3), 4)).toBe(1)
  })

  it('has at most 2048 vectors', () => {
    const create = () => new Vector()
    for (const vectors of [0, 2049, 1.5]) {
      expect(() => new MsixCapability({ vectors, barIndex: 0, create })).toThrow(RangeError)
    }
    const { bar } = new MsixCapability({ vectors: 2048, barIndex: 1, create })
    expect(bar.size).toBe(0x1_0000)
    expect(() => createMsix(4).msix.signal(4)).toThrow(RangeError)
  })
})

describe('MSI', () => {
  it('numbers its vectors in the low bits of the data', () => {
    const made: Vector[] = []
    const msi = new MsiCapability({
      vectors: 4,
      create: () => {
        made.push(new Vector())
        return made.at(-1)!
      },
    })
    const { host, mmio, config } = createHost()
    host.add(1, createFunction([], { capabilities: [msi] }))
    expect(mmio.read(config(1, 0x40), 4)).toBe(0x0184_0005)
    mmio.write(config(1, 0x44), 4, 0xfee0_0000)
    mmio.write(config(1, 0x4c), 2, 0x43)
    mmio.write(config(1, 0x42), 2, 0x11) // enabled, two of four
    expect(msi.enabled).toBe(2)
    for (const vector of [0, 1, 3]) msi.signal(vector)
    expect(made.map(({ delivered }) => delivered)).toEqual([[0x42], [0x43, 0x43]])
    mmio.write(config(1, 0x50), 4, 1)
    msi.signal(0)
    expect(mmio.read(config(1, 0x54), 4)).toBe(1)
    mmio.write(config(1, 0x50), 4, 0)
    expect(mmio.read(config(1, 0x54), 4)).toBe(0)
    expect(made[0]!.delivered).toEqual([0x42, 0x42])
    mmio.write(config(1, 0x42), 2, 0)
    expect(made.every(({ closed }) => closed)).toBe(true)
    for (const vectors of [0, 3, 64]) {
      expect(() => new MsiCapability({ vectors, create: () => new Vector() })).toThrow(RangeError)
    }
  })
})

describe('a hostile guest', () => {
  it('moves BARs and writes configuration space at random: the buses stay sound', () => {
    const access = fc.record({
      isPort: fc.boolean(),
      slot: fc.constantFrom(0, 1, 2, 3, 31),
      offset: fc.oneof(
        fc.constantFrom(4, 0x10, 0x14, 0x18, 0x1c, 0x42, 0x44),
        fc.integer({ min: 0, max: 0xfff }),
      ),
      size: fc.constantFrom(1, 2, 4),
      value: fc.oneof(
        fc.integer({ min: 0, max: 0xffff_ffff }),
        fc.constantFrom(
          0,
          3,
          7,
          0xffff_ffff,
          0xc000_0000,
          0xc000_1000,
          ECAM,
          0x8000,
          0xc000,
          0xcf8,
        ),
      ),
    })
    fc.assert(
      fc.property(fc.array(access, { minLength: 1, maxLength: 200 }), (accesses) => {
        const { host, ports, mmio, config } = createHost()
        const create = () => new Vector()
        for (const slot of [1, 2, 3]) {
          const msix = new MsixCapability({ vectors: 8, barIndex: 1, create })
          const device = new Registers()
          host.add(
            slot,
            createFunction(
              [
                { kind: 'io', size: 8, device },
                msix.bar,
                { kind: 'memory64', size: 0x1000, device },
              ],
              { capabilities: [msix] },
            ),
          )
        }
        host.assignBars()
        for (const { isPort, slot, offset, size, value } of accesses) {
          if (isPort) {
            ports.write(0xcf8, 4, 0x8000_0000 + slot * 0x800 + (offset & 0xfc))
            ports.write(0xcfc + (offset & 3), size, value)
          } else mmio.write(config(slot, offset), size, value)
          mmio.write(value, size, value)
          mmio.read(value, size)
        }
        for (const { ranges } of [ports, mmio]) {
          ranges.forEach((range, i) => {
            expect(range.base).toBeGreaterThanOrEqual(ranges[i - 1]?.end ?? 0)
          })
        }
        expect(mmio.find(ECAM + PCI_ECAM_SIZE - 1)?.device.name).toBe('pci-ecam')
        host.reset()
        expect([ports.ranges.length, mmio.ranges.length]).toEqual([1, 1])
      }),
      { seed: 6, numRuns: 100 },
    )
  })
})
