import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FW_CFG_ITEM, FW_CFG_PORT, FW_CFG_PORTS, FwCfg, PortBus } from '../../src/devices/index.js'
import { CanaryMemory } from '../helpers/canary-memory.js'

const SELECTOR = FW_CFG_PORT
const DATA = FW_CFG_PORT + 1
const DMA = FW_CFG_PORT + 4
const REQUEST = 0x1000
const READ = 2
const SKIP = 4
const SELECT = 8
const WRITE = 16

function create(size = 0x4000) {
  const memory = new CanaryMemory([{ gpa: 0, size }])
  const ports = new PortBus()
  const fwCfg = new FwCfg(memory)
  ports.add(FW_CFG_PORT, FW_CFG_PORTS, fwCfg)
  const select = (item: number) => ports.write(SELECTOR, 2, item)
  const read = (count: number) =>
    Buffer.from(Array.from({ length: count }, () => ports.read(DATA, 1)))
  const swap = (value: number) => {
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32BE(value)
    return bytes.readUInt32LE()
  }
  /** Performs a request and gives what is left of its control word. */
  const dma = (control: number, length: number, target: number, at = REQUEST) => {
    const bytes = Buffer.alloc(16)
    bytes.writeUInt32BE(control, 0)
    bytes.writeUInt32BE(length, 4)
    bytes.writeBigUInt64BE(BigInt(target), 8)
    memory.write(at, bytes)
    ports.write(DMA, 4, 0)
    ports.write(DMA + 4, 4, swap(at))
    return Buffer.from(memory.read(at, 4)).readUInt32BE()
  }
  return { memory, ports, fwCfg, select, read, dma, swap }
}

describe('FwCfg', () => {
  it('is recognised by its signature, at the ports and at the address of DMA', () => {
    const { ports, select, read } = create()
    select(FW_CFG_ITEM.signature)
    expect(read(6).toString('latin1')).toBe('QEMU\0\0')
    select(FW_CFG_ITEM.id)
    expect(read(4).readUInt32LE()).toBe(3)
    expect([0, 4].map((at) => ports.read(DMA + at, 4))).toEqual(
      [0x554d4551, 0x47464320].map((_, i) => Buffer.from('QEMU CFG').readUInt32LE(i * 4)),
    )
    select(0x7777)
    expect(read(3)).toEqual(Buffer.alloc(3))
  })

  it('lists files by name, wherever they were added', () => {
    const { fwCfg, select, read } = create()
    fwCfg.setFile('opt/b', Buffer.from('second'))
    fwCfg.setFile('etc/a', Buffer.from('first'))
    fwCfg.setFile('opt/b', Buffer.from('third'))
    select(FW_CFG_ITEM.directory)
    expect(read(4).readUInt32BE()).toBe(2)
    const files = [0, 1].map(() => {
      const entry = read(64)
      const name = entry.toString('latin1', 8).replace(/\0+$/, '')
      return { name, size: entry.readUInt32BE(), item: entry.readUInt16BE(4) }
    })
    expect(files.map(({ name }) => name)).toEqual(['etc/a', 'opt/b'])
    const contents = files.map(({ item, size }) => {
      select(item)
      return read(size).toString()
    })
    expect(contents).toEqual(['first', 'third'])
    for (const name of ['', 'x'.repeat(56), 'a b', 'ä']) {
      expect(() => fwCfg.setFile(name, new Uint8Array(1))).toThrow(
        expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }),
      )
    }
  })

  it('copies by DMA: select, read, skip, zeros behind the end', () => {
    const { memory, fwCfg, dma } = create()
    fwCfg.setItem(0x15, Buffer.from('0123456789'))
    expect(dma((0x15 << 16) | SELECT | READ, 4, 0x2000)).toBe(0)
    expect(Buffer.from(memory.read(0x2000, 4)).toString()).toBe('0123')
    expect(dma(SKIP, 2, 0)).toBe(0)
    expect(dma(READ, 6, 0x2000)).toBe(0)
    expect(Buffer.from(memory.read(0x2000, 6)).toString('latin1')).toBe('6789\0\0')
    expect(memory.readU8(0x2006)).toBe(0xa5)
  })

  it('reports an error for writes and for what is no memory', () => {
    const { memory, fwCfg, dma, ports, swap } = create()
    fwCfg.setItem(0x15, Buffer.from('0123456789'))
    const select = (0x15 << 16) | SELECT
    expect(dma(select | WRITE, 4, 0x2000)).toBe(1)
    expect(dma(select | READ, 4, 0x4000)).toBe(1)
    expect(dma(select | READ, 8, 0x3ffe)).toBe(1)
    expect(dma(select | READ, 0xffff_ffff, 0x2000)).toBe(1)
    expect(dma(select | READ, 4, 2 ** 60)).toBe(1)
    const before = memory.writes.length
    for (const gpa of [0x3ff8, 0xffff_fff0]) ports.write(DMA + 4, 4, swap(gpa))
    ports.write(DMA, 4, 0xffff_ffff)
    ports.write(DMA + 4, 4, 0xffff_ffff)
    expect(memory.writes.length).toBe(before)
    expect(memory.damaged()).toEqual([])
  })

  it('stays within RAM and itself, whatever the guest does', () => {
    const step = fc.record({
      port: fc.integer({ min: FW_CFG_PORT, max: FW_CFG_PORT + FW_CFG_PORTS - 1 }),
      size: fc.constantFrom(1, 2, 4),
      value: fc.oneof(
        fc.integer({ min: 0, max: 0xffff_ffff }),
        fc.constantFrom(0, 0x19, 0x0010_0000, 0x0011_0000),
      ),
      request: fc.uint8Array({ minLength: 16, maxLength: 16 }),
    })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const { memory, ports } = create()
        for (const { port, size, value, request } of steps) {
          memory.write(REQUEST, request)
          ports.write(port, size, value)
          expect(ports.read(port, size)).toBeLessThan(256 ** size)
        }
        expect(memory.damaged()).toEqual([])
      }),
      { seed: 5, numRuns: 100 },
    )
  })
})
