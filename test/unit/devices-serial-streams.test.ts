import { once } from 'node:events'
import { PassThrough, Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setImmediate as nextTurn } from 'node:timers/promises'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Serial16550 } from '../../src/devices/index.js'

const transmit = (uart: Serial16550, bytes: Uint8Array | string): void => {
  for (const byte of Buffer.from(bytes as string)) uart.write(0, 1, byte)
}

const takeAll = (uart: Serial16550): number[] => {
  const bytes: number[] = []
  while (uart.read(5) & 1) bytes.push(uart.read(0))
  return bytes
}

const collect = async (stream: Readable): Promise<Buffer> => {
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks)
}

describe('output', () => {
  it('gives what one turn of the event loop wrote as one chunk', async () => {
    const uart = new Serial16550()
    const chunks: string[] = []
    uart.output.on('data', (chunk: Buffer) => chunks.push(chunk.toString()))
    await nextTurn()
    transmit(uart, 'hello, ')
    transmit(uart, 'world')
    expect(chunks).toEqual([])
    await nextTurn()
    await nextTurn()
    transmit(uart, 'again')
    await nextTurn()
    await nextTurn()
    expect(chunks).toEqual(['hello, world', 'again'])
  })

  it('keeps what was written before somebody reads, and ends on close', async () => {
    const uart = new Serial16550()
    const text = 'boot line\n'.repeat(5000)
    transmit(uart, text)
    uart.close()
    transmit(uart, 'lost')
    expect((await collect(uart.output)).toString()).toBe(text)
    expect(uart.output.dropped).toBe(0)
  })

  it('ends without a byte', async () => {
    const uart = new Serial16550()
    uart.close()
    uart.close()
    expect(await collect(uart.output)).toHaveLength(0)
  })

  it('drops the oldest bytes beyond its limit and counts them', async () => {
    const uart = new Serial16550({ outputLimit: 1000 })
    const sent = Uint8Array.from({ length: 100_000 }, (_, i) => (i * 7919) >>> 8)
    transmit(uart, sent)
    uart.close()
    const kept = await collect(uart.output)
    expect(kept.length).toBeLessThanOrEqual(1000)
    expect(kept.length).toBeGreaterThan(500)
    expect(uart.output.dropped).toBe(sent.length - kept.length)
    expect(kept.equals(sent.subarray(sent.length - kept.length))).toBe(true)
  })

  it('stays bounded behind a reader that stopped', async () => {
    const uart = new Serial16550({ outputLimit: 4096 })
    uart.output.on('data', () => uart.output.pause())
    for (let i = 0; i < 100; i++) {
      transmit(uart, Buffer.alloc(4096, i))
      await nextTurn()
    }
    const held = uart.output.readableLength
    expect(held).toBeLessThanOrEqual(uart.output.readableHighWaterMark + 4096)
    expect(uart.output.dropped).toBeGreaterThan(100_000)
  })

  it('survives its reader', async () => {
    const uart = new Serial16550()
    transmit(uart, 'x')
    for await (const _chunk of uart.output) break
    expect(uart.output.destroyed).toBe(true)
    transmit(uart, Buffer.alloc(10_000))
    await nextTurn()
    uart.close()
    uart.input.write('still there')
    expect(uart.read(5) & 1).toBe(0)
  })

  it('shows bytes at once through onByte', () => {
    const seen: number[] = []
    const uart = new Serial16550({ onByte: (byte) => seen.push(byte) })
    transmit(uart, 'ok')
    expect(seen).toEqual([0x6f, 0x6b])
  })
})

describe('input', () => {
  it('counts a chunk as written when the guest has its last byte in the FIFO', async () => {
    const uart = new Serial16550()
    uart.write(2, 1, 0x01)
    let written = false
    uart.input.write(Buffer.alloc(18, 0x2e), () => {
      written = true
    })
    await nextTurn()
    expect(written).toBe(false)
    uart.read(0)
    await nextTurn()
    expect(written).toBe(false)
    uart.read(0)
    await nextTurn()
    expect(written).toBe(true)
    expect(takeAll(uart)).toHaveLength(16)
  })

  it('holds a fast source back', async () => {
    const uart = new Serial16550()
    uart.write(2, 1, 0x01)
    let produced = 0
    const source = new Readable({
      read() {
        produced += 1000
        this.push(produced > 1_000_000 ? null : Buffer.alloc(1000, 1))
      },
    })
    source.pipe(uart.input)
    for (let i = 0; i < 20; i++) await nextTurn()
    expect(produced).toBeLessThan(200_000)
    let taken = 0
    while (!uart.input.writableFinished) {
      taken += takeAll(uart).length
      await nextTurn()
    }
    expect(taken + takeAll(uart).length).toBe(1_000_000)
  })

  it('takes empty chunks and strings', async () => {
    const uart = new Serial16550()
    uart.write(2, 1, 0x01)
    uart.input.write(Buffer.alloc(0))
    uart.input.end('é')
    await once(uart.input, 'finish')
    expect(takeAll(uart)).toEqual([0xc3, 0xa9])
  })

  it('is swallowed after close, also what waits', async () => {
    const uart = new Serial16550()
    const source = Readable.from([Buffer.alloc(100), Buffer.alloc(100_000)])
    const done = pipeline(source, uart.input)
    await nextTurn()
    uart.close()
    await done
    expect(takeAll(uart)).toHaveLength(1)
  })

  it('can be destroyed while the guest still reads', async () => {
    const uart = new Serial16550()
    uart.input.write(Buffer.from('abc'), () => {})
    uart.input.destroy()
    await once(uart.input, 'close')
    expect(takeAll(uart)).toEqual([0x61])
  })
})

describe('duplex', () => {
  it('pipes both ways', async () => {
    const uart = new Serial16550()
    const terminal = new PassThrough()
    uart.duplex.pipe(terminal)
    uart.duplex.write('in')
    transmit(uart, 'out')
    const [shown] = await once(terminal, 'data')
    expect(shown.toString()).toBe('out')
    expect(Buffer.from(takeAll(uart)).toString()).toBe('in')
    uart.close()
    await once(terminal, 'end')
  })

  it('is one stream', () => {
    const uart = new Serial16550()
    expect(uart.duplex).toBe(uart.duplex)
  })

  it('keeps showing output after its input has ended', async () => {
    const uart = new Serial16550()
    const shown: Buffer[] = []
    uart.duplex.on('data', (chunk) => shown.push(chunk))
    uart.duplex.end('x')
    await nextTurn()
    expect(takeAll(uart)).toEqual([0x78])
    await nextTurn()
    transmit(uart, 'late')
    await nextTurn()
    await nextTurn()
    expect(Buffer.concat(shown).toString()).toBe('late')
  })
})

describe('echo', () => {
  it('gives any bytes back in order, however slowly the guest takes them', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 10 }),
        fc.boolean(),
        fc.integer({ min: 1, max: 40 }),
        async (chunks, fifo, pace) => {
          const uart = new Serial16550()
          if (fifo) uart.write(2, 1, 0x81)
          const echoed = collect(uart.output)
          let open = true
          const fed = pipeline(Readable.from(chunks.map(Buffer.from)), uart.input).then(() => {
            open = false
          })
          const echo = (): void => {
            for (let i = 0; i < pace && uart.read(5) & 1; i++) uart.write(0, 1, uart.read(0))
          }
          while (open || uart.read(5) & 1) {
            echo()
            await nextTurn()
          }
          await fed
          uart.close()
          expect((await echoed).equals(Buffer.concat(chunks))).toBe(true)
        },
      ),
      { numRuns: 30 },
    )
  })
})
