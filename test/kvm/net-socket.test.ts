// Network devices on sockets, whose other end behaves as QEMU's does.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { VIRTIO_NET_F, VirtioNet } from '../../src/devices/index.js'
import { DatagramBackend, StreamBackend } from '../../src/io/index.js'
import { arpRequest, frameOf, macOf, udpFrame, udpPayload } from '../helpers/frames.js'
import { NetDriver, RING_FEATURES } from '../helpers/net-driver.js'
import { Puppet } from '../helpers/puppet.js'

// Each step of the driver is a step of a guest that may be interpreted.
vi.setConfig({ testTimeout: 90_000 })

let folder: string
let server: Server
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'node-kvm-'))
})
afterEach(() => {
  server?.close()
  rmSync(folder, { recursive: true })
})

/** A machine whose device is connected to the socket that is given back. */
async function connected(features = RING_FEATURES) {
  const path = join(folder, 'socket')
  server = createServer().listen(path)
  await once(server, 'listening')
  const accepted = once(server, 'connection')
  const backend = await StreamBackend.connect({ path })
  const [peer] = (await accepted) as [Socket]
  const device = new VirtioNet(backend, { mac: '52:54:00:00:00:01' })
  const puppet = await Puppet.start({ devices: [device] })
  const net = await NetDriver.start(puppet, { features })
  const dispose = async () => {
    await puppet.machine.close()
    peer.destroy()
  }
  return { backend, peer, device, puppet, net, [Symbol.asyncDispose]: dispose }
}

/** Reads so many bytes. */
async function readExactly(socket: Socket, length: number): Promise<Buffer> {
  for (;;) {
    const bytes = socket.read(length) as Buffer | null
    if (bytes !== null) return bytes
    await once(socket, 'readable')
  }
}

/** Length and frame as they stand in the stream (QEMU's net/stream.c). */
function framed(...frames: Uint8Array[]): Buffer {
  return Buffer.concat(
    frames.flatMap((frame) => {
      const length = Buffer.alloc(4)
      length.writeUInt32BE(frame.length)
      return [length, frame]
    }),
  )
}

test('frames in a stream, in pieces and many at once', async () => {
  await using all = await connected()
  for (let i = 0; i < 10; i++) {
    const there = frameOf({ to: 2, from: 1, size: 60 + 100 * i })
    await all.net.send(there)
    expect(await readExactly(all.peer, 4 + there.length)).toEqual(framed(there))
    const back = [1, 2, 3].map((n) => frameOf({ to: 1, from: n, size: 1400 - 100 * i }))
    const bytes = framed(...back)
    all.peer.write(bytes.subarray(0, 2))
    await setTimeout(2)
    all.peer.write(bytes.subarray(2, 1000))
    await setTimeout(2)
    all.peer.write(bytes.subarray(1000))
    for (const frame of back) expect((await all.net.receive()).frame).toEqual(frame)
  }
})

test('large frames', async () => {
  await using all = await connected(RING_FEATURES | VIRTIO_NET_F.MRG_RXBUF)
  const frame = frameOf({ to: 1, from: 2, size: 20_000 })
  all.peer.write(framed(frame))
  expect((await all.net.receive()).frame).toEqual(frame)
  await all.net.send(frame)
  expect(await readExactly(all.peer, 20_004)).toEqual(framed(frame))
})

test('a guest that is slow is waited for, and so is the other end', async () => {
  await using all = await connected()
  const { net, peer, puppet } = all
  const frames = Array.from({ length: 3000 }, (_, i) =>
    frameOf({ to: 1, from: i & 0xff, size: 1000 }),
  )
  let isWritten = false
  peer.write(framed(...frames), () => {
    isWritten = true
  })
  await setTimeout(100)
  // Three megabytes find no room in 16 buffers and two sockets.
  expect(isWritten).toBe(false)
  for (const [i] of frames.entries()) expect((await net.receive()).frame[11]).toBe(i & 0xff)
  let posted = 0
  let sent = 0
  for (let quiet = 0; quiet < 20; quiet++) {
    const taken = net.sent()
    sent += taken
    const isPosted = await net.post(frameOf({ to: 2, from: 1, size: 30_000 }))
    if (isPosted) posted++
    if (isPosted || taken > 0) quiet = 0
    await setTimeout(2)
  }
  // The transmit queue stays full.
  expect(posted - sent).toBe(16)
  peer.resume()
  await puppet.until('the rest', () => {
    sent += net.sent()
    return sent === posted
  })
})

test('when the other end goes, the link goes down and the guest goes on', async () => {
  await using all = await connected()
  all.peer.destroy()
  expect(await all.backend.closed).toBeUndefined()
  expect(all.device.link).toBe(false)
  for (let i = 0; i < 40; i++) await all.net.send(frameOf({ to: 2, from: 1 }))
})

test('what is no stream of frames ends it', async () => {
  await using all = await connected()
  all.peer.write('HTTP/1.1 400 Bad Request\r\n')
  expect(await all.backend.closed).toBeInstanceOf(RangeError)
  expect(all.device.link).toBe(false)
})

test('nobody listens', async () => {
  const path = join(folder, 'none')
  await expect(StreamBackend.connect({ path })).rejects.toMatchObject({ code: 'ENOENT' })
})

test('a frame in each datagram', async () => {
  const peer = createSocket('udp4')
  peer.bind(0, '127.0.0.1')
  await once(peer, 'listening')
  const probe = createSocket('udp4')
  probe.bind(0, '127.0.0.1')
  await once(probe, 'listening')
  const local = { host: '127.0.0.1', port: probe.address().port }
  probe.close()
  const backend = await DatagramBackend.open(local, { ...local, port: peer.address().port })
  await using puppet = await Puppet.start({ devices: [new VirtioNet(backend)] })
  const net = await NetDriver.start(puppet)
  const there = frameOf({ to: 2, from: 1 })
  const arrival = once(peer, 'message')
  await net.send(there)
  expect(new Uint8Array((await arrival)[0] as Buffer)).toEqual(there)
  const back = frameOf({ to: 1, from: 2 })
  peer.send(back, local.port)
  expect((await net.receive()).frame).toEqual(back)
  for (let i = 0; i < 400; i++) peer.send(frameOf({ to: 1, from: i & 0xff }), local.port)
  await setTimeout(200)
  let count = 0
  while (net.take() !== undefined) count++
  expect(count).toBeGreaterThan(0)
  expect(count).toBeLessThan(400)
  peer.close()
})

/** A passt for a guest at 10.77.0.2, whose gateway is this host. */
async function startPasst(path: string): Promise<ChildProcess> {
  const addresses = ['-a', '10.77.0.2', '-n', '24', '-g', '10.77.0.1']
  const passt = spawn('passt', ['-f', '-s', path, ...addresses], { stdio: 'ignore' })
  while (!existsSync(path) && passt.exitCode === null) await setTimeout(20)
  return passt
}

test('passt answers the guest, and takes its datagrams to the host and back', async (context) => {
  if (spawnSync('passt', ['--version']).error) context.skip('passt is not installed')
  const path = join(tmpdir(), `node-kvm-passt-${process.pid}`)
  const passt = await startPasst(path)
  if (passt.exitCode !== null) context.skip('passt finds no network here')
  const host = createSocket('udp4').bind(0, '127.0.0.1')
  await once(host, 'listening')
  try {
    const device = new VirtioNet(await StreamBackend.connect({ path }))
    await using puppet = await Puppet.start({ devices: [device] })
    const net = await NetDriver.start(puppet)
    const guest = { mac: macOf(1), ip: '10.77.0.2', port: 7777 }
    await net.send(arpRequest(guest, '10.77.0.1'))
    const { frame: reply } = await net.receive((frame) => frame[13] === 0x06)
    const gateway = { mac: reply.slice(6, 12), ip: '10.77.0.1', port: host.address().port }
    const arrival = once(host, 'message')
    const ends = { source: guest, target: gateway }
    await net.send(udpFrame(ends, Buffer.from('from the guest')))
    const [message, { port }] = (await arrival) as [Buffer, { port: number }]
    expect(message.toString()).toBe('from the guest')
    host.send('from the host', port, '127.0.0.1')
    const { frame } = await net.receive((each) => udpPayload(each) !== undefined)
    expect(Buffer.from(udpPayload(frame)!).toString()).toBe('from the host')
  } finally {
    host.close()
    passt.kill()
    rmSync(path, { force: true })
  }
})
