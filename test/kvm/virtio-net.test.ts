// A guest's driver and the network device whose frames go through JavaScript.

import { setTimeout } from 'node:timers/promises'
import { expect, test, vi } from 'vitest'
import {
  EthernetSwitch,
  FrameChannel,
  type NetworkDeviceOptions,
  VIRTIO_F,
  VIRTIO_NET_CTRL,
  VIRTIO_NET_F,
  VirtioNet,
} from '../../src/devices/index.js'
import { frameOf, macOf } from '../helpers/frames.js'
import { NetDriver, type NetDriverOptions, RING_FEATURES } from '../helpers/net-driver.js'
import { Puppet } from '../helpers/puppet.js'

// Each step of the driver is a step of a guest that may be interpreted.
vi.setConfig({ testTimeout: 90_000 })

const { MRG_RXBUF, CTRL_VQ, CTRL_RX, MQ, STATUS, GUEST_ANNOUNCE, CTRL_MAC_ADDR } = VIRTIO_NET_F
const PACKED = RING_FEATURES | VIRTIO_F.ringPacked

async function machineOn(
  device: VirtioNet,
  options: NetDriverOptions = {},
): Promise<AsyncDisposable & { puppet: Puppet; net: NetDriver }> {
  const puppet = await Puppet.start({ devices: [{ device, packed: true }] })
  const net = await NetDriver.start(puppet, options)
  return { puppet, net, [Symbol.asyncDispose]: () => puppet[Symbol.asyncDispose]() }
}

const deviceOn = (channel: FrameChannel, options: NetworkDeviceOptions = {}) =>
  new VirtioNet(channel, { mac: '52:54:00:00:00:01', ...options })

test.each([
  ['split', RING_FEATURES],
  ['packed', PACKED],
  ['split, merged buffers', RING_FEATURES | MRG_RXBUF],
  ['packed, merged buffers', PACKED | MRG_RXBUF],
])('frames both ways, %s', async (_, features) => {
  const channel = new FrameChannel()
  const device = deviceOn(channel)
  await using machine = await machineOn(device, { features, queueSize: 16, buffers: 7 })
  const { net } = machine
  const reader = channel[Symbol.asyncIterator]()
  for (let i = 0; i < 40; i++) {
    const sent = frameOf({ to: 2, from: 1, size: 60 + i * 36 })
    await net.send(sent)
    expect((await reader.next()).value).toEqual(sent)
    const answer = frameOf({ to: 1, from: 2, size: 1500 - i * 36 })
    const arrival = channel.send(answer)
    const { frame, header } = await net.receive()
    await arrival
    expect(frame).toEqual(answer)
    expect(header).toEqual(new Uint8Array([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]))
  }
  expect(net.interrupts(0)).toBeGreaterThan(0)
  expect(net.interrupts(1)).toBeGreaterThan(0)
  expect(device.transmitted).toMatchObject({ frames: 40, dropped: 0 })
  expect(device.received).toMatchObject({ frames: 40, dropped: 0 })
})

test.each([
  ['split', RING_FEATURES | MRG_RXBUF],
  ['packed', PACKED | MRG_RXBUF],
])('a frame over many buffers, which the driver sees at once, %s', async (_, features) => {
  const channel = new FrameChannel()
  await using machine = await machineOn(deviceOn(channel), { features, bufferSize: 200 })
  for (let i = 0; i < 30; i++) {
    const sent = frameOf({ to: 1, from: 2, size: 1000 + 60 * i })
    const arrival = channel.send(sent)
    const { frame, header } = await machine.net.receive()
    expect(frame).toEqual(sent)
    expect(header[10]).toBe(Math.ceil((sent.length + 12) / 200))
    await arrival
  }
})

test('frames that no buffer can hold are dropped, and those behind them come', async () => {
  const channel = new FrameChannel()
  const device = deviceOn(channel)
  await using machine = await machineOn(device, { buffers: 4, bufferSize: 200 })
  const small = frameOf({ to: 1, from: 2 })
  const sends = [channel.send(frameOf({ to: 1, from: 2, size: 500 })), channel.send(small)]
  expect((await machine.net.receive()).frame).toEqual(small)
  await Promise.all(sends)
  expect(device.received).toEqual({ frames: 1, bytes: small.length, dropped: 1 })
})

test('a guest without buffers gets its frames when it has some', async () => {
  const channel = new FrameChannel()
  await using machine = await machineOn(deviceOn(channel), { buffers: 2 })
  const { net } = machine
  const sends = [1, 2, 3, 4, 5].map((n) => channel.send(frameOf({ to: 1, from: n })))
  for (const n of [1, 2, 3, 4, 5]) expect((await net.receive()).frame[11]).toBe(n)
  await Promise.all(sends)
})

test('a back end that is slow stops the guest, and no queue grows', async () => {
  const channel = new FrameChannel({ capacity: 3 })
  await using machine = await machineOn(deviceOn(channel), { queueSize: 16 })
  const { net } = machine
  let posted = 0
  while (await net.post(frameOf({ to: 2, from: posted }))) posted++
  await setTimeout(50)
  expect(net.sent()).toBe(3)
  const reader = channel[Symbol.asyncIterator]()
  for (let n = 0; n < posted; n++) expect((await reader.next()).value?.[11]).toBe(n)
  let sent = 3
  await machine.puppet.until('the rest', () => {
    sent += net.sent()
    return sent === posted
  })
})

test('two machines on a switch', async () => {
  const bridge = new EthernetSwitch()
  await using a = await machineOn(new VirtioNet(bridge.port(), { mac: '52:54:00:00:00:01' }))
  await using b = await machineOn(new VirtioNet(bridge.port(), { mac: '52:54:00:00:00:02' }), {
    features: PACKED | MRG_RXBUF,
  })
  for (let i = 0; i < 20; i++) {
    const there = frameOf({ to: i === 0 ? 'broadcast' : 2, from: 1, size: 100 + i })
    await a.net.send(there)
    expect((await b.net.receive()).frame).toEqual(there)
    const back = frameOf({ to: 1, from: 2, size: 1000 + i })
    await b.net.send(back)
    expect((await a.net.receive()).frame).toEqual(back)
  }
})

test('what the configuration says, and its changes', async () => {
  const channel = new FrameChannel()
  const device = deviceOn(channel, { mtu: 9000, queuePairs: 3, link: false })
  const features = RING_FEATURES | CTRL_VQ | STATUS | GUEST_ANNOUNCE | MQ | CTRL_MAC_ADDR
  await using machine = await machineOn(device, { features, pairs: 3 })
  const { net } = machine
  const read = (offset: number) => net.driver.readConfig(offset, 2)
  expect([await read(0), await read(2), await read(4)]).toEqual([0x5452, 0, 0x100])
  expect([await read(6), await read(8), await read(10)]).toEqual([0, 3, 9000])
  expect(net.features).toBe(features | VIRTIO_F.version1)
  const generation = await net.driver.configGeneration()
  device.link = true
  await machine.puppet.until('an interrupt', () => net.interrupts(7) > 0)
  expect(await read(6)).toBe(1)
  expect(await net.driver.configGeneration()).not.toBe(generation)
  device.announce()
  expect(await read(6)).toBe(3)
  expect(await net.control(VIRTIO_NET_CTRL.ANNOUNCE, 0)).toBe(0)
  expect(await read(6)).toBe(1)
  expect(await net.control(VIRTIO_NET_CTRL.MAC, 1, ...macOf(9))).toBe(0)
  expect(device.mac).toBe('52:54:00:00:00:09')
  expect(await net.control(VIRTIO_NET_CTRL.MQ, 0, 4, 0)).toBe(1)
  await net.driver.writeStatus(0)
  expect(device.mac).toBe('52:54:00:00:00:01')
})

test('without a link nothing passes', async () => {
  const channel = new FrameChannel()
  const device = deviceOn(channel)
  await using machine = await machineOn(device)
  device.link = false
  await machine.net.send(frameOf({ to: 2, from: 1 }))
  await channel.send(frameOf({ to: 1, from: 2 }))
  expect(machine.net.take()).toBeUndefined()
  expect(device.transmitted).toEqual({ frames: 0, bytes: 0, dropped: 1 })
  expect(device.received).toEqual({ frames: 0, bytes: 0, dropped: 1 })
})

test('the guest filters what it receives', async () => {
  const channel = new FrameChannel()
  const features = RING_FEATURES | CTRL_VQ | CTRL_RX
  await using machine = await machineOn(deviceOn(channel), { features })
  expect(await machine.net.control(VIRTIO_NET_CTRL.RX, 0, 0)).toBe(0)
  await channel.send(frameOf({ to: 3, from: 2 }))
  await channel.send(frameOf({ to: 1, from: 2 }))
  expect((await machine.net.receive()).frame).toEqual(frameOf({ to: 1, from: 2 }))
})

test('answers come on the queue pair that asked', async () => {
  const channel = new FrameChannel()
  const features = RING_FEATURES | CTRL_VQ | MQ
  await using machine = await machineOn(deviceOn(channel, { queuePairs: 2 }), {
    features,
    pairs: 2,
  })
  const { net } = machine
  expect(await net.control(VIRTIO_NET_CTRL.MQ, 0, 2, 0)).toBe(0)
  const udp = (from: number, to: number, ports: readonly [number, number]) => {
    const frame = frameOf({ from, to })
    frame.set([0x08, 0, 0x45], 12)
    frame[23] = 17
    frame.set([10, 0, 0, from, 10, 0, 0, to, 0, ports[0], 0, ports[1]], 26)
    return frame
  }
  const reader = channel[Symbol.asyncIterator]()
  await net.send(udp(1, 2, [7, 9]), {}, 1)
  await net.send(udp(1, 2, [7, 8]), {}, 0)
  await reader.next()
  await channel.send(udp(2, 1, [9, 7]))
  await channel.send(udp(2, 1, [8, 7]))
  expect((await net.receive(undefined, 1)).frame).toEqual(udp(2, 1, [9, 7]))
  expect((await net.receive(undefined, 0)).frame).toEqual(udp(2, 1, [8, 7]))
})

test('rate limits hold both ways', async () => {
  const channel = new FrameChannel({ capacity: 1000 })
  const limits = { frames: { perSecond: 200, burst: 1 } }
  const device = deviceOn(channel, { transmitLimits: limits, receiveLimits: limits })
  await using machine = await machineOn(device)
  const began = performance.now()
  for (let i = 0; i < 20; i++) await machine.net.send(frameOf({ to: 2, from: 1 }))
  const middle = performance.now()
  for (let i = 0; i < 20; i++) {
    await channel.send(frameOf({ to: 1, from: 2 }))
    await machine.net.receive()
  }
  // 20 frames at 200 a second, the first at once.
  expect(middle - began).toBeGreaterThan(85)
  expect(performance.now() - middle).toBeGreaterThan(85)
})

test('a driver that breaks the rules needs a reset, and can go on after it', async () => {
  const channel = new FrameChannel()
  await using machine = await machineOn(deviceOn(channel))
  const { net, puppet } = machine
  const failures: unknown[] = []
  puppet.machine.on('deviceFailed', (_, error) => failures.push(error))
  await net.post(new Uint8Array(0))
  await puppet.until('a failure', () => failures.length > 0)
  expect(failures[0]).toMatchObject({ code: 'ERR_KVM_VIRTQUEUE' })
  expect((await net.driver.readStatus()) & 64).toBe(64)
  await net.restart()
  await net.send(frameOf({ to: 2, from: 1 }))
  expect((await channel[Symbol.asyncIterator]().next()).value).toEqual(frameOf({ to: 2, from: 1 }))
})
