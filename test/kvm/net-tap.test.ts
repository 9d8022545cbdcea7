// A guest's driver and the network device on a TAP: native threads move the frames, and the other end
// is the host's own network stack.

import type { Socket } from 'node:dgram'
import { once } from 'node:events'
import { openSync } from 'node:fs'
import { beforeEach, expect, test, vi } from 'vitest'
import { VIRTIO_F, VIRTIO_NET_CTRL, VIRTIO_NET_F } from '../../src/devices/index.js'
import { Tap, TapNet, type TapNetOptions } from '../../src/io/index.js'
import { udpPayload } from '../helpers/frames.js'
import { NetDriver, type NetDriverOptions, RING_FEATURES } from '../helpers/net-driver.js'
import { Puppet } from '../helpers/puppet.js'
import { noTapReason, TapInterface } from '../helpers/tap-interface.js'

// Each step of the driver is a step of a guest that may be interpreted.
vi.setConfig({ testTimeout: 90_000 })

const { MRG_RXBUF, CTRL_VQ, CSUM, GUEST_CSUM, GUEST_TSO4, HOST_USO, MQ, MTU, STATUS } = VIRTIO_NET_F
const PACKED = RING_FEATURES | VIRTIO_F.ringPacked

const missing = noTapReason()
beforeEach((context) => {
  if (missing !== undefined) context.skip(missing)
})

/** Everything between a guest's driver and a socket of the host. */
async function setUp({
  net: netOptions = {},
  device: deviceOptions = {},
  ...tapOptions
}: {
  net?: NetDriverOptions
  device?: TapNetOptions
  multiQueue?: boolean
  mtu?: number
  queues?: number
  macvtap?: boolean
} = {}) {
  const undo: (() => unknown)[] = []
  const dispose = async () => {
    for (const each of undo.splice(0).reverse()) await each()
  }
  try {
    const tap = new TapInterface(tapOptions)
    undo.push(() => tap.remove())
    const socket = await tap.socket()
    undo.push(() => socket.close())
    const mac = tapOptions.macvtap ? {} : { mac: '52:54:00:00:00:01' }
    const opened = Tap.open(tap.name, { queues: tapOptions.queues ?? 1 })
    undo.push(() => opened.close())
    const device = new TapNet(opened, { ...mac, ...deviceOptions })
    const puppet = await Puppet.start({ devices: [{ device, packed: true, inOrder: true }] })
    undo.push(() => puppet.machine.close())
    const net = await NetDriver.start(puppet, netOptions)
    return { tap, socket, device, puppet, net, [Symbol.asyncDispose]: dispose }
  } catch (error) {
    await dispose()
    throw error
  }
}

const bytesOf = (length: number, seed: number) =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff)

async function messageOf(socket: Socket): Promise<Uint8Array> {
  const [message] = await once(socket, 'message')
  return new Uint8Array(message as Buffer)
}

const hasPayload = (payload: Uint8Array) => (frame: Uint8Array) =>
  Buffer.compare(udpPayload(frame) ?? new Uint8Array(0), payload) === 0

test.each([
  ['split', RING_FEATURES],
  ['packed', PACKED],
  ['split, in order', RING_FEATURES | VIRTIO_F.inOrder],
  ['packed, merged buffers', PACKED | MRG_RXBUF],
])('datagrams both ways, %s', async (_, features) => {
  await using all = await setUp({ net: { features } })
  const { tap, socket, net, device } = all
  const { port } = socket.address()
  const exits = () => all.puppet.machine.vcpus[0]!.statistics.types.map((each) => each.count)
  for (let i = 0; i < 30; i++) {
    const there = bytesOf(18 + i * 48, i)
    const arrival = messageOf(socket)
    const before = exits()
    await net.send(tap.datagram(there, port))
    expect(await arrival).toEqual(there)
    const back = bytesOf(1472 - i * 48, i)
    socket.send(back, 7777, tap.guest)
    await net.receive(hasPayload(back))
    // Neither the notifications nor the interrupts leave the kernel.
    expect(exits()).toEqual(before)
  }
  expect(net.interrupts(0)).toBeGreaterThan(0)
  expect(net.interrupts(1)).toBeGreaterThan(0)
  expect(device.transmitted).toMatchObject({ frames: 30, dropped: 0 })
  expect(device.received.frames).toBeGreaterThanOrEqual(30)
})

test.each([
  ['split', RING_FEATURES | MRG_RXBUF],
  ['packed', PACKED | MRG_RXBUF],
])('a frame over many buffers, %s', async (_, features) => {
  await using all = await setUp({ mtu: 9000, net: { features, bufferSize: 700 } })
  for (let i = 0; i < 20; i++) {
    const payload = bytesOf(8900 - 300 * i, i)
    all.socket.send(payload, 7777, all.tap.guest)
    const { header, frame } = await all.net.receive(hasPayload(payload))
    expect(header[10]).toBe(Math.ceil((frame.length + 12) / 700))
  }
})

test('a macvtap, whose address is the guest’s', async (context) => {
  const reason = noTapReason({ macvtap: true })
  if (reason !== undefined) context.skip(reason)
  await using all = await setUp({ macvtap: true, net: { features: PACKED | MRG_RXBUF | CSUM } })
  const { tap, socket, net, device } = all
  expect(device.mac).toBe('52:54:00:00:00:01')
  for (let i = 0; i < 10; i++) {
    const there = bytesOf(50 + i, i)
    const arrival = messageOf(socket)
    await net.send(tap.datagram(there, socket.address().port))
    expect(await arrival).toEqual(there)
    const back = bytesOf(1000 + i, i)
    socket.send(back, 7777, tap.guest)
    await net.receive(hasPayload(back))
  }
})

test('the MTU is the TAP’s', async () => {
  await using all = await setUp({ mtu: 4000, net: { features: RING_FEATURES | MTU } })
  expect(await all.net.driver.readConfig(10, 2)).toBe(4000)
})

test('checksums are left to whoever is last', async () => {
  const features = RING_FEATURES | CSUM | GUEST_CSUM
  await using all = await setUp({ net: { features } })
  const { tap, socket, net } = all
  const there = bytesOf(100, 1)
  const arrival = messageOf(socket)
  const frame = tap.datagram(there, socket.address().port, 'partial')
  await net.send(frame, { flags: 1, csumStart: 34, csumOffset: 6 })
  expect(await arrival).toEqual(there)
  const back = bytesOf(200, 2)
  socket.send(back, 7777, tap.guest)
  const { header } = await net.receive(hasPayload(back))
  expect(header[0]! & 1).toBe(1)
})

test('segmentation is left to the host', async (context) => {
  const features = RING_FEATURES | CSUM | HOST_USO
  await using all = await setUp({ net: { features } })
  const { tap, socket, net } = all
  if (!(net.features & HOST_USO)) context.skip('the kernel has no UDP segmentation for TAPs')
  const got: number[] = []
  socket.on('message', (message) => got.push(message.length))
  const frame = tap.datagram(bytesOf(8192, 1), socket.address().port, 'partial')
  await net.send(frame, {
    flags: 1,
    gsoType: 5,
    headerLength: 42,
    gsoSize: 1024,
    csumStart: 34,
    csumOffset: 6,
  })
  await all.puppet.until('eight datagrams', () => got.length === 8)
  expect(got).toEqual(Array(8).fill(1024))
})

test('the guest switches its offloads', async () => {
  const features = RING_FEATURES | CTRL_VQ | GUEST_CSUM | GUEST_TSO4 | (1n << 2n)
  await using all = await setUp({ net: { features } })
  const offloads = (bits: number) =>
    all.net.control(VIRTIO_NET_CTRL.GUEST_OFFLOADS, 0, bits & 0xff, ...Array(7).fill(0))
  expect(await offloads(0)).toBe(0)
  const payload = bytesOf(200, 2)
  all.socket.send(payload, 7777, all.tap.guest)
  const { header } = await all.net.receive(hasPayload(payload))
  expect(header[0]! & 1).toBe(0)
  expect(await offloads(2 | (1 << 7))).toBe(0)
})

test('several queue pairs', async () => {
  const features = RING_FEATURES | MRG_RXBUF | CTRL_VQ | MQ
  await using all = await setUp({ multiQueue: true, queues: 2, net: { features, pairs: 2 } })
  const { net, socket, tap } = all
  expect(await net.control(VIRTIO_NET_CTRL.MQ, 0, 2, 0)).toBe(0)
  for (const pair of [0, 1]) {
    const there = bytesOf(50, pair)
    const arrival = messageOf(socket)
    await net.send(tap.datagram(there, socket.address().port), {}, pair)
    expect(await arrival).toEqual(there)
    // The kernel answers on the queue that asked.
    const back = bytesOf(60, pair)
    socket.send(back, 7777, tap.guest)
    await net.receive(hasPayload(back), pair)
  }
})

test.for([
  ['a TAP', false],
  ['a macvtap', true],
] as const)(
  '%s that vanishes takes the link down, and the machine goes on',
  async (test, context) => {
    const [, macvtap] = test
    const reason = noTapReason({ macvtap })
    if (reason !== undefined) context.skip(reason)
    await using all = await setUp({ macvtap, net: { features: RING_FEATURES | STATUS } })
    const { net, tap, device, puppet } = all
    expect(await net.driver.readConfig(6, 2)).toBe(1)
    tap.remove()
    await puppet.until('the loss to be seen', () => device.isGone)
    expect(await net.driver.readConfig(6, 2)).toBe(0)
    for (let i = 0; i < 40; i++) await net.send(new Uint8Array(60))
    expect(device.transmitted.dropped).toBe(40)
    await net.restart()
    await net.send(new Uint8Array(60))
    expect(await net.driver.readConfig(6, 2)).toBe(0)
  },
)

test('without a link nothing passes, and what came meanwhile is lost', async () => {
  await using all = await setUp()
  const { net, tap, socket, device } = all
  device.link = false
  const got: Uint8Array[] = []
  socket.on('message', (message) => got.push(message))
  await net.send(tap.datagram(bytesOf(10, 1), socket.address().port))
  const dropped = device.received.dropped
  socket.send(bytesOf(20, 2), 7777, tap.guest)
  await all.puppet.until('a drop', () => device.received.dropped > dropped)
  device.link = true
  const payload = bytesOf(30, 3)
  await net.send(tap.datagram(payload, socket.address().port))
  await all.puppet.until('a datagram', () => got.length > 0)
  expect(new Uint8Array(got[0]!)).toEqual(payload)
})

test('a machine that is paused touches no memory', async () => {
  await using all = await setUp()
  const { net, tap, socket, puppet } = all
  await puppet.machine.pause()
  // The host itself sends some frames at first.
  while (net.take() !== undefined);
  const payload = bytesOf(100, 1)
  socket.send(payload, 7777, tap.guest)
  await new Promise((resolve) => setTimeout(resolve, 50))
  expect(net.take()).toBeUndefined()
  puppet.machine.resume()
  await net.receive(hasPayload(payload))
})

test('rate limits hold both ways', async () => {
  const limits = { frames: { perSecond: 200, burst: 1 }, bytes: { perSecond: 1e9 } }
  await using all = await setUp({ device: { transmitLimits: limits, receiveLimits: limits } })
  const { net, tap, socket } = all
  const frame = tap.datagram(bytesOf(10, 1), 9)
  const began = performance.now()
  for (let i = 0; i < 20; i++) await net.send(frame)
  const middle = performance.now()
  for (let i = 0; i < 20; i++) {
    socket.send(bytesOf(50, i), 7777, tap.guest)
    await net.receive(hasPayload(bytesOf(50, i)))
  }
  expect(middle - began).toBeGreaterThan(85)
  expect(performance.now() - middle).toBeGreaterThan(85)
})

test('a driver that breaks the rules needs a reset, and can go on after it', async () => {
  await using all = await setUp()
  const { net, tap, socket, puppet } = all
  const failures: unknown[] = []
  puppet.machine.on('deviceFailed', (_, error) => failures.push(error))
  await net.post(new Uint8Array(0))
  await puppet.until('a failure', () => failures.length > 0)
  expect(failures[0]).toMatchObject({ code: 'ERR_KVM_VIRTQUEUE' })
  expect((await net.driver.readStatus()) & 64).toBe(64)
  await net.restart()
  const payload = bytesOf(30, 3)
  const arrival = messageOf(socket)
  await net.send(tap.datagram(payload, socket.address().port))
  expect(await arrival).toEqual(payload)
})

test('what cannot be opened is refused', () => {
  expect(() => Tap.open('lo')).toThrow(expect.objectContaining({ code: 'EINVAL' }))
  expect(() => Tap.open('a-name-that-is-too-long')).toThrow('ENAMETOOLONG')
  expect(() => Tap.fromFds([openSync('/dev/null', 'r')])).toThrow('TUNGETIFF')
  using single = new TapInterface()
  expect(() => Tap.open(single.name, { queues: 2 })).toThrow('one queue')
  using first = Tap.open(single.name)
  expect(() => Tap.open(single.name)).toThrow('EBUSY')
  expect(first.mtu).toBe(1500)
  expect(() => new TapNet(first, { queuePairs: 2 })).toThrow('1 queues')
})
