// The keyboard controller by what boot code and Linux do with it, and the small ports around it.

import { describe, expect, it } from 'vitest'
import {
  type A20Gate,
  DebugConsole,
  DebugExit,
  I8042,
  PortBus,
  PostCodePort,
  SystemControlPort,
} from '../../src/devices/index.js'

const OUTPUT_FULL = 0x01
const INPUT_FULL = 0x02
const AUX_DATA = 0x20

const createMachine = () => {
  const bus = new PortBus()
  const levels: boolean[] = []
  const a20: A20Gate = { enabled: true }
  const counts = { resets: 0 }
  const onReset = (): void => {
    counts.resets++
  }
  const controller = new I8042({ irq: { set: (level) => levels.push(level) }, onReset, a20 })
  controller.attach(bus)
  bus.add(0x92, 1, new SystemControlPort({ onReset, a20 }))
  const inb = (port: number): number => bus.read(port, 1)
  const outb = (port: number, value: number): void => bus.write(port, 1, value)
  const status = (): number => inb(0x64)

  /** Linux's i8042_command(): -1 for an error. A wait that is not over at once fails the test. */
  const command = (code: number, sent: number[], answers: number): number[] | -1 => {
    expect(status() & INPUT_FULL).toBe(0)
    outb(0x64, code)
    for (const byte of sent) {
      expect(status() & INPUT_FULL).toBe(0)
      outb(0x60, byte)
    }
    const received: number[] = []
    for (let i = 0; i < answers; i++) {
      expect(status() & OUTPUT_FULL).toBe(OUTPUT_FULL)
      if (code === 0xd3 && (status() & AUX_DATA) === 0) return -1
      received.push(inb(0x60))
    }
    return received
  }
  return { bus, controller, levels, a20, counts, inb, outb, status, command }
}

describe('Linux’s i8042 driver', () => {
  it('finds a sound controller with nothing at it, without waiting once', () => {
    const { inb, outb, status, command, levels } = createMachine()
    let flushed = 0
    while (status() & OUTPUT_FULL && flushed < 16) {
      inb(0x60)
      flushed++
    }
    expect(flushed).toBe(0)
    expect(command(0xaa, [], 1)).toEqual([0x55])

    const [first] = command(0x20, [], 1) as number[]
    expect(command(0x20, [], 1)).toEqual([first])
    expect(status() & 0x10).toBe(0x10)
    const quiet = (first! | 0x10) & ~0x01
    command(0x60, [quiet], 0)
    expect(command(0x20, [], 1)).toEqual([quiet])

    // No mouse port: its loop test fails and its interface test reports a stuck clock.
    if (command(0xd3, [0x5a], 1) === -1) inb(0x60)
    const [auxTest] = command(0xa9, [], 1) as number[]
    expect([0x00, 0xfa, 0xff]).not.toContain(auxTest)

    // The keyboard answers at once that it is not there, with an interrupt.
    command(0x60, [(quiet & ~0x10) | 0x01], 0)
    levels.length = 0
    outb(0x60, 0xf2)
    expect(levels).toEqual([true])
    expect(status() & 0xc1).toBe(0x41)
    expect(inb(0x60)).toBe(0xfe)
    expect(levels).toEqual([true, false])
    expect(status() & 0x41).toBe(0)
  })

  it('reboots through the pulse command', () => {
    const { outb, counts } = createMachine()
    outb(0x64, 0xff)
    expect(counts.resets).toBe(0)
    outb(0x64, 0xfe)
    expect(counts.resets).toBe(1)
  })
})

describe('controller commands', () => {
  it('keep 32 bytes of RAM, the first of which is the command byte', () => {
    const { command } = createMachine()
    for (let i = 0; i < 32; i++) command(0x60 + i, [i ^ 0x44], 0)
    for (let i = 0; i < 32; i++) expect(command(0x20 + i, [], 1)).toEqual([i ^ 0x44])
  })

  it('switch the two interfaces in the command byte', () => {
    const { command, outb } = createMachine()
    const after = (code: number): unknown => {
      outb(0x64, code)
      return command(0x20, [], 1)
    }
    expect([0xad, 0xa8, 0xae, 0xa7].map(after)).toEqual([[0x75], [0x55], [0x45], [0x65]])
  })

  it('test the keyboard port and read the input port', () => {
    const { command } = createMachine()
    expect(command(0xab, [], 1)).toEqual([0x00])
    expect(command(0xc0, [], 1)).toEqual([0x80])
  })

  it('tell in the status what was written last, and the system flag', () => {
    const { outb, status } = createMachine()
    expect(status()).toBe(0x14)
    outb(0x64, 0xae)
    expect(status()).toBe(0x1c)
    outb(0x64, 0x60)
    outb(0x60, 0x00)
    expect(status()).toBe(0x10)
  })

  it('put a byte into the output buffer, with an interrupt only when enabled', () => {
    const { command, levels, inb, outb } = createMachine()
    expect(command(0xd2, [0x1c], 1)).toEqual([0x1c])
    expect(levels).toEqual([true, false])
    command(0x60, [0x64], 0)
    expect(command(0xd2, [0x9c], 1)).toEqual([0x9c])
    expect(levels).toEqual([true, false])
    outb(0x64, 0xd2)
    outb(0x60, 0x11)
    outb(0x64, 0x60)
    outb(0x60, 0x65)
    expect(levels).toEqual([true, false, true])
    expect(inb(0x60)).toBe(0x11)
  })

  it('answer for a missing mouse with the AUX bit and no keyboard interrupt', () => {
    const { outb, status, inb, levels } = createMachine()
    outb(0x64, 0xd4)
    outb(0x60, 0xf2)
    expect(status() & 0x61).toBe(0x61)
    expect(inb(0x60)).toBe(0xfe)
    expect(levels).toEqual([])
    outb(0x64, 0xd4)
    outb(0x60, 0xf2)
    outb(0x64, 0xaa)
    expect(status() & 0x61).toBe(0x01)
    expect(inb(0x60)).toBe(0x55)
  })

  it('forget a parameter they wait for when another command comes', () => {
    const { outb, inb, a20 } = createMachine()
    outb(0x64, 0xd1)
    outb(0x64, 0xae)
    outb(0x60, 0x00)
    expect(inb(0x60)).toBe(0xfe)
    expect(a20.enabled).toBe(true)
  })
})

describe('A20 and reset', () => {
  it('go through the output port, the two short commands and port 0x92 alike', () => {
    const { outb, inb, command, a20, counts } = createMachine()
    command(0xd1, [0xdd], 0)
    expect(a20.enabled).toBe(false)
    expect(command(0xd0, [], 1)).toEqual([0x01])
    expect(inb(0x92)).toBe(0x00)
    outb(0x92, 0x02)
    expect(command(0xd0, [], 1)).toEqual([0x03])
    outb(0x64, 0xdd)
    expect(inb(0x92)).toBe(0x00)
    outb(0x64, 0xdf)
    expect(inb(0x92)).toBe(0x02)
    expect(counts.resets).toBe(0)
    command(0xd1, [0xde], 0)
    expect(counts.resets).toBe(1)
  })

  it('port 0x92 resets when bit 0 rises, once', () => {
    const { outb, inb, counts } = createMachine()
    outb(0x92, 0x03)
    outb(0x92, 0x03)
    expect(counts.resets).toBe(1)
    outb(0x92, 0x02)
    outb(0x92, 0xff)
    expect(counts.resets).toBe(2)
    expect(inb(0x92)).toBe(0xff)
  })

  it('a bus reset puts everything back', () => {
    const { bus, outb, inb, a20, status, command } = createMachine()
    outb(0x92, 0x10)
    outb(0x60, 0xff)
    outb(0x64, 0x60)
    bus.reset()
    expect(a20.enabled).toBe(true)
    expect(inb(0x92)).toBe(0x02)
    expect(status()).toBe(0x14)
    expect(command(0x20, [], 1)).toEqual([0x65])
  })
})

describe('small ports', () => {
  it('port 0x80 keeps the last code', () => {
    const port = new PostCodePort()
    const bus = new PortBus()
    bus.add(0x80, 1, port)
    bus.write(0x80, 1, 0xa7)
    expect(port.lastCode).toBe(0xa7)
    expect(bus.read(0x80, 1)).toBe(0xa7)
    expect(bus.unclaimedWrites).toBe(0)
    bus.reset()
    expect(port.lastCode).toBe(0)
  })

  it('the exit port hands over the whole value', () => {
    const statuses: number[] = []
    const bus = new PortBus()
    bus.add(0xf4, 4, new DebugExit((status) => statuses.push(status)))
    bus.write(0xf4, 1, 0)
    bus.write(0xf4, 4, 0xdead_beef)
    expect(statuses).toEqual([0, 0xdead_beef])
    expect(bus.read(0xf4, 4)).toBe(0)
  })

  it('the debug console shows its signature and streams what it gets', async () => {
    const seen: number[] = []
    const console = new DebugConsole({ onByte: (byte) => seen.push(byte) })
    const bus = new PortBus()
    bus.add(0xe9, 1, console)
    expect(bus.read(0xe9, 1)).toBe(0xe9)
    for (const byte of Buffer.from('bios\n')) bus.write(0xe9, 1, byte)
    console.close()
    const chunks: Buffer[] = []
    for await (const chunk of console.output) chunks.push(chunk)
    expect(Buffer.concat(chunks).toString()).toBe('bios\n')
    expect(seen).toHaveLength(5)
  })

  it('absent PCI configuration ports read as ones, which Linux takes for no PCI', () => {
    const { bus } = createMachine()
    bus.write(0xcf8, 4, 0x8000_0000)
    expect(bus.read(0xcf8, 4)).toBe(0xffff_ffff)
    expect(bus.read(0xcfc, 4)).toBe(0xffff_ffff)
  })
})
