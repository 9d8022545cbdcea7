import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { BusDevice } from '../../src/devices/index.js'
import {
  type Bus,
  BusOverlapError,
  DeviceError,
  handleIo,
  handleMmio,
  MmioBus,
  PortBus,
} from '../../src/devices/index.js'

type Access = [direction: 'r' | 'w', offset: number, size: number, value?: number | bigint]

/** A device of plain bytes that keeps a log of what reached it. */
class Ram implements BusDevice {
  readonly log: Access[] = []
  readonly bytes: Uint8Array
  readonly name: string
  readonly width: 1 | 2 | 4
  resets = 0

  constructor(name: string, length: number, width: 1 | 2 | 4 = 4) {
    this.name = name
    this.bytes = new Uint8Array(length)
    this.width = width
  }

  read(offset: number, size: number): number {
    this.log.push(['r', offset, size])
    let value = 0
    for (let i = size - 1; i >= 0; i--) value = value * 256 + this.bytes[offset + i]!
    return value
  }

  write(offset: number, size: number, value: number): void {
    this.log.push(['w', offset, size, value])
    for (let i = 0; i < size; i++) this.bytes[offset + i] = value >>> (8 * i)
  }

  reset(): void {
    this.resets++
  }
}

class WideRam extends Ram {
  read64(offset: number): bigint {
    this.log.push(['r', offset, 8])
    return new DataView(this.bytes.buffer).getBigUint64(offset, true)
  }

  write64(offset: number, value: bigint): void {
    this.log.push(['w', offset, 8, value])
    new DataView(this.bytes.buffer).setBigUint64(offset, value, true)
  }
}

describe.each([
  ['PortBus', () => new PortBus(), 0x1000],
  ['MmioBus below 4 GiB', () => new MmioBus(), 0xfee0_0000],
  ['MmioBus above 4 GiB', () => new MmioBus(), 0xf_ffff_f000],
] as [string, () => Bus, number][])('%s', (_name, create, base) => {
  it('gives a device offsets from the start of its range', () => {
    const bus = create()
    const ram = new Ram('ram', 16)
    bus.add(base, 16, ram)
    bus.write(base + 4, 4, 0x8765_4321)
    expect(bus.read(base + 4, 4)).toBe(0x8765_4321)
    expect(bus.read(base + 5, 2)).toBe(0x6543)
    expect(ram.log).toEqual([
      ['w', 4, 4, 0x8765_4321],
      ['r', 4, 4],
      ['r', 5, 2],
    ])
  })

  it('lets one device hold several ranges', () => {
    const bus = create()
    const ram = new Ram('two', 8)
    bus.add(base, 1, ram)
    bus.add(base + 4, 1, ram, 4)
    bus.write(base + 4, 1, 0x55)
    bus.read(base, 1)
    expect(ram.log).toEqual([
      ['w', 4, 1, 0x55],
      ['r', 0, 1],
    ])
    bus.reset()
    expect(ram.resets).toBe(1)
  })

  it('answers unclaimed reads with ones, drops writes, counts and reports both', () => {
    const bus = create()
    const seen: unknown[] = []
    bus.onUnclaimed = (...access) => seen.push(access)
    expect([1, 2, 4].map((size) => bus.read(base, size))).toEqual([0xff, 0xffff, 0xffff_ffff])
    bus.write(base, 2, 0x12345)
    expect(bus.unclaimedReads).toBe(3)
    expect(bus.unclaimedWrites).toBe(1)
    expect(seen.at(-2)).toEqual([base, 4, 'read', 0xffff_ffff])
    expect(seen.at(-1)).toEqual([base, 2, 'write', 0x2345])
    expect(bus.read64(base)).toBe(0xffff_ffff_ffff_ffffn)
  })

  it('refuses an overlap and names both devices', () => {
    const bus = create()
    bus.add(base, 8, new Ram('first', 8))
    for (const [at, length] of [
      [base, 8],
      [base + 7, 1],
      [base - 1, 2],
      [base - 4, 100],
      [base + 2, 1],
    ] as const) {
      expect(() => bus.add(at, length, new Ram('second', 8))).toThrow(BusOverlapError)
      expect(() => bus.add(at, length, new Ram('second', 8))).toThrow(/second .*overlaps first/)
    }
    bus.add(base - 4, 4, new Ram('before', 4))
    bus.add(base + 8, 4, new Ram('after', 4))
    expect(bus.ranges.map((range) => range.device.name)).toEqual(['before', 'first', 'after'])
  })

  it('removes a range, also the one that was hit last, and takes another in its place', () => {
    const bus = create()
    const old = new Ram('old', 4)
    bus.add(base, 4, old)
    expect(bus.read(base, 1)).toBe(0)
    expect(bus.remove(base)).toBe(old)
    expect(bus.read(base, 1)).toBe(0xff)
    expect(() => bus.remove(base)).toThrow(/no device starts/)
    const young = new Ram('young', 4)
    bus.add(base, 4, young)
    bus.write(base, 1, 1)
    expect(young.log).toEqual([['w', 0, 1, 1]])
    expect(old.log).toHaveLength(1)
  })

  it('cuts an access that is wider than the device', () => {
    const bus = create()
    const narrow = new Ram('narrow', 4, 1)
    bus.add(base, 4, narrow)
    bus.write(base, 4, 0xd4c3_b2a1)
    expect(narrow.log.map(([, offset, size, value]) => [offset, size, value])).toEqual([
      [0, 1, 0xa1],
      [1, 1, 0xb2],
      [2, 1, 0xc3],
      [3, 1, 0xd4],
    ])
    expect(bus.read(base, 4)).toBe(0xd4c3_b2a1)
    expect(bus.read(base + 1, 2)).toBe(0xc3b2)
  })

  it('cuts an access that spans devices and holes', () => {
    const bus = create()
    const left = new Ram('left', 2)
    const right = new Ram('right', 1)
    bus.add(base, 2, left)
    bus.add(base + 3, 1, right)
    bus.write(base, 4, 0x4433_2211)
    expect([...left.bytes, ...right.bytes]).toEqual([0x11, 0x22, 0x44])
    expect(bus.read(base, 4)).toBe(0x44ff_2211)
    expect(bus.read(base + 1, 4)).toBe(0xff44_ff22)
    expect(bus.read(base - 1, 4)).toBe(0xff22_11ff)
  })

  it('splits 8 bytes into two halves, low first, unless the device takes them whole', () => {
    const bus = create()
    const plain = new Ram('plain', 8)
    const wide = new WideRam('wide', 8)
    bus.add(base, 8, plain)
    bus.add(base + 8, 8, wide)
    for (const at of [base, base + 8]) {
      bus.write64(at, 0xfedc_ba98_7654_3210n)
      expect(bus.read64(at)).toBe(0xfedc_ba98_7654_3210n)
    }
    expect(plain.log).toEqual([
      ['w', 0, 4, 0x7654_3210],
      ['w', 4, 4, 0xfedc_ba98],
      ['r', 0, 4],
      ['r', 4, 4],
    ])
    expect(wide.log).toEqual([
      ['w', 0, 8, 0xfedc_ba98_7654_3210n],
      ['r', 0, 8],
    ])
    bus.read64(base + 4)
    expect(wide.log.at(-1)).toEqual(['r', 0, 4])
  })

  it('cuts values to the size of the access', () => {
    const bus = create()
    const given: number[] = []
    bus.add(base, 4, { name: 'rude', read: () => -2, write: (_o, _s, value) => given.push(value) })
    expect([1, 2, 4].map((size) => bus.read(base, size))).toEqual([0xfe, 0xfffe, 0xffff_fffe])
    for (const size of [1, 2, 4]) bus.write(base, size, -1)
    expect(given).toEqual([0xff, 0xffff, 0xffff_ffff])
  })

  it('reports an exception in a device with the access that caused it', () => {
    const bus = create()
    const cause = new Error('out of ink')
    const fail = (): never => {
      throw cause
    }
    bus.add(base, 8, { name: 'printer', read: fail, write: fail, read64: fail, write64: fail })
    const caught = (run: () => unknown): unknown => {
      try {
        run()
      } catch (error) {
        return error
      }
      return undefined
    }
    const read = caught(() => bus.read(base + 2, 2))
    expect(read).toBeInstanceOf(DeviceError)
    expect(read).toMatchObject({ device: 'printer', address: base + 2, size: 2, direction: 'read' })
    expect(read).toMatchObject({ cause, code: 'ERR_KVM_DEVICE' })
    expect(String(read)).toContain('printer: read of 2 bytes')
    expect(caught(() => bus.write(base, 4, 0))).toMatchObject({ direction: 'write', size: 4 })
    expect(caught(() => bus.read64(base))).toMatchObject({ direction: 'read', size: 8 })
    expect(caught(() => bus.write64(base, 0n))).toMatchObject({ direction: 'write', size: 8 })
  })

  it.each([0, 3, 8, -1, 1.5, Number.NaN])('refuses an access of %s bytes', (size) => {
    const bus = create()
    expect(() => bus.read(base, size)).toThrow(RangeError)
    expect(() => bus.write(base, size, 0)).toThrow(RangeError)
  })
})

describe('ranges outside the address space', () => {
  it.each([
    [new PortBus(), 0xffff, 2],
    [new PortBus(), -1, 1],
    [new PortBus(), 0, 0],
    [new PortBus(), 0.5, 1],
    [new MmioBus(), 2 ** 52, 1],
    [new MmioBus(), 2 ** 52 - 1, 2],
    [new MmioBus(), Number.NaN, 1],
  ] as [Bus, number, number][])('are refused (%#)', (bus, base, length) => {
    expect(() => bus.add(base, length, new Ram('ram', 1))).toThrow(
      expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }),
    )
  })

  it('an access at the last port finds the device and then nothing', () => {
    const bus = new PortBus()
    bus.add(0xffff, 1, new Ram('last', 1))
    expect(bus.read(0xffff, 4)).toBe(0xffff_ff00)
    expect(bus.unclaimedReads).toBeGreaterThan(0)
  })
})

describe('handleIo', () => {
  it('serves string instructions element by element', () => {
    const bus = new PortBus()
    const written: [number, number][] = []
    let next = 0
    bus.add(0x60, 2, {
      name: 'data',
      read: (_offset, size) => (size === 2 ? 0x4100 + next++ : next++),
      write: (_offset, size, value) => written.push([size, value]),
    })
    const data = Uint8Array.of(0xee, 1, 2, 3, 4, 5, 6, 0xee)
    handleIo(bus, data, 0x60, 2, 3, 'out', 1)
    handleIo(bus, data, 0x60, 1, 2, 'out', 1)
    expect(written).toEqual([
      [2, 0x0201],
      [2, 0x0403],
      [2, 0x0605],
      [1, 1],
      [1, 2],
    ])
    handleIo(bus, data, 0x60, 2, 3, 'in', 1)
    expect([...data]).toEqual([0xee, 0, 0x41, 1, 0x41, 2, 0x41, 0xee])
    handleIo(bus, data, 0x60, 1, 1, 'in')
    expect(data[0]).toBe(3)
  })

  it('carries 32-bit values unsigned', () => {
    const bus = new PortBus()
    bus.add(0, 4, new Ram('ram', 4))
    const data = Uint8Array.of(1, 2, 3, 0xff)
    handleIo(bus, data, 0, 4, 1, 'out')
    data.fill(0)
    handleIo(bus, data, 0, 4, 1, 'in')
    expect([...data]).toEqual([1, 2, 3, 0xff])
  })

  it('refuses data that is too short before it touches a device', () => {
    const bus = new PortBus()
    const ram = new Ram('ram', 4)
    bus.add(0, 4, ram)
    expect(() => handleIo(bus, new Uint8Array(7), 0, 4, 2, 'out')).toThrow(RangeError)
    expect(() => handleIo(bus, new Uint8Array(8), 0, 4, 2, 'in', 1)).toThrow(RangeError)
    expect(ram.log).toEqual([])
  })
})

describe('handleMmio', () => {
  it.each([1, 2, 3, 4, 5, 6, 7, 8])(
    'carries %d bytes to plain and wide devices alike',
    (length) => {
      for (const ram of [new Ram('plain', 16), new WideRam('wide', 16), new Ram('byte', 16, 1)]) {
        const bus = new MmioBus()
        bus.add(0x8_0000_0000, 16, ram)
        const data = Uint8Array.from({ length: 12 }, (_, i) => 0xf0 + i)
        handleMmio(bus, data, 0x8_0000_0004, length, true, 2)
        expect([...ram.bytes.subarray(4, 4 + length)]).toEqual([...data.subarray(2, 2 + length)])
        expect(ram.bytes.subarray(4 + length).every((byte) => byte === 0)).toBe(true)
        const back = new Uint8Array(12)
        handleMmio(bus, back, 0x8_0000_0004, length, false, 2)
        expect([...back.subarray(2, 2 + length)]).toEqual([...data.subarray(2, 2 + length)])
        expect(back.subarray(2 + length).every((byte) => byte === 0)).toBe(true)
      }
    },
  )

  it('refuses impossible lengths', () => {
    const bus = new MmioBus()
    for (const length of [0, 9, Number.NaN]) {
      expect(() => handleMmio(bus, new Uint8Array(16), 0, length, false)).toThrow(RangeError)
    }
    expect(() => handleMmio(bus, new Uint8Array(4), 0, 8, false)).toThrow(RangeError)
  })
})

describe('a bus against a model', () => {
  const operation = fc.record({
    kind: fc.constantFrom('add', 'remove'),
    at: fc.nat(60),
    length: fc.integer({ min: 1, max: 12 }),
  })

  it.each([
    ['ports', () => new PortBus()],
    ['memory', () => new MmioBus()],
  ] as [string, () => Bus][])(
    'finds the right owner after any adds and removes: %s',
    (_n, create) => {
      fc.assert(
        fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
          const bus = create()
          const owners = new Array<number | undefined>(80).fill(undefined)
          let id = 0
          for (const { kind, at, length } of operations) {
            if (kind === 'add') {
              const tag = id++ % 200
              const free = owners.slice(at, at + length).every((owner) => owner === undefined)
              const add = () =>
                bus.add(at, length, { name: `d${tag}`, read: () => tag, write: () => {} })
              if (free) {
                add()
                owners.fill(tag, at, at + length)
              } else {
                expect(add).toThrow(BusOverlapError)
              }
            } else {
              const range = bus.ranges[at % Math.max(1, bus.ranges.length)]
              if (range) {
                bus.remove(range.base)
                owners.fill(undefined, range.base, range.end)
              }
            }
            const found = owners.slice(0, 72).map((_, i) => bus.read(i, 1))
            expect(found).toEqual(owners.slice(0, 72).map((owner) => owner ?? 0xff))
          }
        }),
      )
    },
  )
})
