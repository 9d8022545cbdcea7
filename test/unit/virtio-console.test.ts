import { once } from 'node:events'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { CONSOLE_EVENT } from '../../src/devices/console/console-control.js'
import { VirtioConsole } from '../../src/devices/console/virtio-console.js'
import { DeviceDriver, SLOT } from '../helpers/device-driver.js'

const CONTROL_IN = 2
const CONTROL_OUT = 3
const IN = 4
const OUT = 5

let driver: DeviceDriver
afterEach(() => driver[Symbol.dispose]())

const message = (id: number, event: number, value: number): Buffer => {
  const bytes = Buffer.alloc(8)
  bytes.writeUInt32LE(id)
  bytes.writeUInt16LE(event, 4)
  bytes.writeUInt16LE(value, 6)
  return bytes
}

/** What the device says on the control queue, as text. */
function heard(): string[] {
  const names = Object.keys(CONSOLE_EVENT)
  return driver.used(CONTROL_IN).map(({ bytes }) => {
    const words = [bytes.readUInt32LE(), names[bytes.readUInt16LE(4)], bytes.readUInt16LE(6)]
    return [...words, bytes.subarray(8).toString('latin1')].join(' ').trimEnd()
  })
}

const tell = (id: number, event: number, value: number) =>
  driver.send(CONTROL_OUT, [message(id, event, value)])

/** A console, and a port `data` that the guest has opened. */
function start(device = new VirtioConsole({ ports: [{ console: true }, { name: 'data' }] })) {
  driver = new DeviceDriver(device)
  driver.fill(CONTROL_IN, 32, 256)
  tell(0, CONSOLE_EVENT.DEVICE_READY, 1)
  for (const { id } of device.ports) tell(id, CONSOLE_EVENT.PORT_READY, 1)
  return device
}

function openData(device: VirtioConsole) {
  tell(1, CONSOLE_EVENT.PORT_OPEN, 1)
  return device.port('data')!
}

describe('control messages', () => {
  it('introduce each port when its driver is ready', () => {
    start()
    expect(heard()).toEqual([
      '0 PORT_ADD 1',
      '1 PORT_ADD 1',
      '0 CONSOLE_PORT 1',
      '0 RESIZE 0 P\0\x18\0',
      '0 PORT_OPEN 1',
      '1 PORT_NAME 1 data',
      '1 PORT_OPEN 1',
    ])
  })

  it('tell of a new size, in configuration space as well', () => {
    const device = start()
    heard()
    device.resize({ columns: 132, rows: 43 })
    expect(heard()).toEqual(['0 RESIZE 0 \x84\0+\0'])
    expect([device.readConfig(0, 2), device.readConfig(2, 2)]).toEqual([132, 43])
    expect(driver.configChanges).toBe(1)
  })

  it('add and remove ports while the guest runs', () => {
    const device = start()
    heard()
    const port = device.addPort({ name: 'late' })
    expect(heard()).toEqual(['2 PORT_ADD 1'])
    tell(2, CONSOLE_EVENT.PORT_READY, 1)
    expect(heard()).toEqual(['2 PORT_NAME 1 late', '2 PORT_OPEN 1'])
    device.removePort(port)
    expect(heard()).toEqual(['2 PORT_OPEN 0', '2 PORT_REMOVE 1'])
    expect(port.destroyed).toBe(true)
    expect(device.addPort().id).toBe(2)
  })

  it('wait for buffers, and only what is true now is said then', () => {
    const device = new VirtioConsole({ ports: [{ console: true }] })
    driver = new DeviceDriver(device)
    tell(0, CONSOLE_EVENT.DEVICE_READY, 1)
    for (let i = 0; i < 1000; i++) {
      tell(0, CONSOLE_EVENT.PORT_READY, 1)
      driver.used(CONTROL_OUT)
      device.resize({ columns: i, rows: 1 })
    }
    const port = device.addPort({ name: 'brief' })
    device.removePort(port)
    driver.fill(CONTROL_IN, 32, 256)
    expect(heard()).toEqual([
      '0 PORT_ADD 1',
      '0 CONSOLE_PORT 1',
      '0 RESIZE 0 \xe7\x03\x01\0',
      '0 PORT_OPEN 1',
    ])
  })

  it('refuse names twice, and more ports than there can be', () => {
    const device = new VirtioConsole({ ports: [{ name: 'a' }], maxPorts: 2 })
    driver = new DeviceDriver(device)
    const code = expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' })
    expect(() => device.addPort({ name: 'a' })).toThrow(code)
    device.addPort()
    expect(() => device.addPort()).toThrow(code)
    expect(() => new VirtioConsole({ maxPorts: 32 })).toThrow(code)
    expect(() => device.resize({ columns: 0x1_0000, rows: 1 })).toThrow(code)
  })
})

describe('a port', () => {
  it('gives the guest what is written, in as many buffers as it takes', async () => {
    const port = openData(start())
    driver.fill(IN, 3, 4)
    await new Promise((resolve) => port.write('hello, guest', resolve))
    expect(Buffer.concat(driver.used(IN).map(({ bytes }) => bytes)).toString()).toBe('hello, guest')
  })

  it('holds what is written until the guest opens the port', async () => {
    const device = start()
    const port = device.port('data')!
    driver.fill(IN, 3, 64)
    let isWritten = false
    port.write('early', () => {
      isWritten = true
    })
    await nextTurn()
    expect(driver.used(IN)).toEqual([])
    expect(isWritten).toBe(false)
    const opened = once(port, 'guestOpen')
    openData(device)
    await opened
    expect(driver.used(IN).map(({ bytes }) => `${bytes}`)).toEqual(['early'])
    await nextTurn()
    expect(isWritten).toBe(true)
  })

  it('gives what the guest writes, across descriptors', async () => {
    const port = openData(start())
    driver.send(OUT, [Buffer.from('from '), Buffer.from('the guest')])
    const [bytes] = (await once(port, 'data')) as [Buffer]
    expect(bytes.toString()).toBe('from the guest')
    expect(driver.used(OUT)).toHaveLength(1)
    expect(driver.interrupts[OUT]).toBe(1)
  })

  it('makes the guest wait for a slow reader', async () => {
    const port = openData(start())
    const chunk = Buffer.alloc(0x1_0000, 7)
    for (let i = 0; i < 20; i++) driver.send(OUT, [chunk])
    await nextTurn()
    const taken = driver.used(OUT).length
    expect(taken).toBeLessThanOrEqual(2)
    expect(port.readableLength).toBeLessThanOrEqual(2 * chunk.length)
    let total = 0
    port.on('data', (bytes: Buffer) => {
      total += bytes.length
    })
    while (driver.out(OUT) > 0) {
      await nextTurn()
      driver.used(OUT)
    }
    expect(total).toBe(20 * chunk.length)
  })

  it('waits for a slow guest', async () => {
    const port = openData(start())
    let drained = false
    port.once('drain', () => {
      drained = true
    })
    expect(port.write(Buffer.alloc(0x10_0000, 9))).toBe(false)
    driver.fill(IN, 4, SLOT)
    await nextTurn()
    expect(drained).toBe(false)
    let total = 0
    while (!drained) {
      for (const { bytes } of driver.used(IN)) total += bytes.length
      driver.fill(IN, 1, SLOT)
      await nextTurn()
    }
    for (const { bytes } of driver.used(IN)) total += bytes.length
    expect(total).toBe(0x10_0000)
  })

  it('that is a console never makes the guest wait, and counts what it drops', async () => {
    const port = start().ports[0]!
    tell(0, CONSOLE_EVENT.PORT_OPEN, 1)
    const lines = 200
    for (let i = 0; i < lines; i++) {
      driver.send(1, [Buffer.alloc(0x4000, i)])
      await nextTurn()
      expect(driver.used(1)).toHaveLength(1)
    }
    expect(port.dropped).toBeGreaterThan(0)
    port.end()
    const kept: Buffer[] = []
    port.on('data', (bytes: Buffer) => kept.push(bytes))
    await nextTurn()
    expect(Buffer.concat(kept).length + port.dropped).toBe(lines * 0x4000)
    expect(Buffer.concat(kept).at(-1)).toBe(lines - 1)
  })

  it('tells the guest of its end, and swallows what comes after destroy()', async () => {
    const device = start()
    const port = openData(device)
    heard()
    port.end('the last')
    await nextTurn()
    expect(heard()).toEqual([])
    driver.fill(IN, 1, 64)
    await nextTurn()
    expect(heard()).toEqual(['1 PORT_OPEN 0'])
    port.destroy()
    expect(heard()).toEqual([])
    driver.send(OUT, [Buffer.alloc(1000)])
    expect(driver.used(OUT)).toHaveLength(1)
  })

  it('tells that the guest has closed it behind what it wrote', async () => {
    const port = openData(start())
    for (let i = 0; i < 9; i++) driver.send(OUT, [Buffer.alloc(0x8000, i)])
    tell(1, CONSOLE_EVENT.PORT_OPEN, 0)
    expect(port.guestOpen).toBe(false)
    let total = 0
    port.on('data', (bytes: Buffer) => {
      total += bytes.length
    })
    await once(port, 'guestClose')
    expect(total).toBe(9 * 0x8000)
  })

  it('gives back what it holds when it is taken away by its own reader', async () => {
    const device = start()
    const port = openData(device)
    port.once('data', () => device.removePort(port))
    driver.send(
      OUT,
      [SLOT, SLOT, SLOT].map((size) => Buffer.alloc(size, 1)),
    )
    await nextTurn()
    expect(port.destroyed).toBe(true)
    expect(driver.used(OUT)).toHaveLength(1)
    expect(driver.failures).toEqual([])
  })

  it('outlives a reset of the device', async () => {
    const device = start()
    const port = openData(device)
    driver.send(OUT, [Buffer.from('before ')])
    port.write('kept')
    const closed = once(port, 'guestClose')
    await driver.reset()
    await closed
    driver[Symbol.dispose]()
    start(device)
    openData(device)
    driver.fill(IN, 1, 64)
    driver.send(OUT, [Buffer.from('after')])
    expect(driver.used(IN).map(({ bytes }) => `${bytes}`)).toEqual(['kept'])
    expect(`${port.read()}`).toBe('before after')
  })

  it('ends with the machine, behind what the guest wrote', async () => {
    const device = start()
    const port = openData(device)
    driver.send(OUT, [Buffer.from('last words')])
    await driver.reset()
    device.close()
    port.write('to nobody')
    const chunks: Buffer[] = []
    for await (const bytes of port) chunks.push(bytes as Buffer)
    expect(Buffer.concat(chunks).toString()).toBe('last words')
  })

  it('rests while the machine is paused', async () => {
    const device = start()
    const port = openData(device)
    await device.pause()
    driver.fill(IN, 1, 64)
    port.write('x')
    driver.send(OUT, [Buffer.from('y')])
    expect([driver.used(IN), driver.used(OUT)]).toEqual([[], []])
    device.resume()
    expect(driver.used(IN).map(({ bytes }) => `${bytes}`)).toEqual(['x'])
    expect(`${port.read()}`).toBe('y')
  })
})

it('is one console for a driver without VIRTIO_CONSOLE_F_MULTIPORT', async () => {
  const device = new VirtioConsole()
  driver = new DeviceDriver(device, { features: 0n, queues: [0, 1] })
  driver.fill(0, 1, 64)
  device.ports[0]!.write('in')
  expect(driver.used(0).map(({ bytes }) => `${bytes}`)).toEqual(['in'])
  driver.send(1, [Buffer.from('out')])
  expect(`${device.ports[0]!.read()}`).toBe('out')
})

it('takes emergency writes', async () => {
  const device = start()
  for (const byte of Buffer.from('help')) device.writeConfig(8, 4, byte)
  const [bytes] = (await once(device.emergency, 'data')) as [Buffer]
  expect(bytes.toString()).toBe('help')
})

describe('a driver that breaks the rules', () => {
  it.each([
    [
      'a control message too short',
      (_device: VirtioConsole) => driver.send(CONTROL_OUT, [Buffer.alloc(4)]),
    ],
    [
      'no room for a control message',
      (device: VirtioConsole) => {
        while (driver.out(CONTROL_IN) > 1) {
          tell(0, CONSOLE_EVENT.PORT_READY, 1)
          driver.used(CONTROL_IN)
          driver.used(CONTROL_OUT)
        }
        driver.fill(CONTROL_IN, 1, 7)
        device.resize({ columns: 1, rows: 1 })
        device.resize({ columns: 1, rows: 1 })
      },
    ],
    [
      'a receive buffer without room',
      (device: VirtioConsole) => {
        openData(device).write('x')
        driver.fill(IN, 1, 0)
      },
    ],
  ] as const)('fails the device: %s', (_what, act: (device: VirtioConsole) => void) => {
    act(start())
    expect(driver.failures).toHaveLength(1)
    expect(driver.failures[0]).toMatchObject({ code: 'ERR_KVM_VIRTQUEUE' })
  })
})
