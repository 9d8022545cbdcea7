import { once } from 'node:events'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { VirtioVsock } from '../../src/devices/vsock/virtio-vsock.js'
import {
  decodeVsock,
  encodeVsock,
  VSOCK_HEADER_SIZE,
  VSOCK_OP,
  VSOCK_SEQ,
  VSOCK_TYPE,
  type VsockHeader,
} from '../../src/devices/vsock/vsock-packet.js'
import type { VsockSocket } from '../../src/devices/vsock/vsock-socket.js'
import { DeviceDriver } from '../helpers/device-driver.js'

const [IN, OUT] = [0, 1] as const
const { REQUEST, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST } = VSOCK_OP
const OP_NAMES = Object.fromEntries(Object.entries(VSOCK_OP).map(([name, op]) => [op, name]))
const RECEIVE_BUFFER = 0x4_0000
const GUEST_PORT = 5000
const HOST_PORT = 1024

let driver: DeviceDriver
afterEach(() => driver[Symbol.dispose]())

function start(vsock = new VirtioVsock()): VirtioVsock {
  driver = new DeviceDriver(vsock)
  driver.fill(IN, 32, 4096)
  return vsock
}

interface Packet extends VsockHeader {
  readonly payload: string
}

/** What the device has sent; its buffers are given back to it. */
function heard(): Packet[] {
  const packets = driver.used(IN).map(({ bytes }) => {
    const payload = bytes.subarray(VSOCK_HEADER_SIZE).toString('latin1')
    return { ...decodeVsock(bytes), payload }
  })
  if (packets.length > 0) driver.fill(IN, packets.length, 4096)
  return packets
}

const ops = (packets = heard()) => packets.map(({ op }) => OP_NAMES[op])

/** Sends a packet of the guest. */
function say(fields: Partial<VsockHeader>, payload = Buffer.alloc(0)) {
  const header = encodeVsock({
    srcCid: 3n,
    dstCid: 2n,
    srcPort: GUEST_PORT,
    dstPort: HOST_PORT,
    length: payload.length,
    type: VSOCK_TYPE.STREAM,
    op: RW,
    flags: 0,
    bufAlloc: 0x1_0000,
    fwdCnt: 0,
    ...fields,
  })
  driver.send(OUT, [header, payload])
  driver.used(OUT)
}

/** A connection that the guest has made. */
async function accepted(vsock = start(), options = {}): Promise<VsockSocket> {
  const server = vsock.listen(HOST_PORT, undefined, options)
  const connection = once(server, 'connection')
  const seqpacket = 'type' in options && options.type === 'seqpacket'
  say({ op: REQUEST, type: seqpacket ? VSOCK_TYPE.SEQPACKET : VSOCK_TYPE.STREAM })
  const [socket] = await connection
  expect(ops()).toEqual(['RESPONSE'])
  return socket
}

describe('a connection from the guest', () => {
  it('reaches whoever listens, and carries bytes both ways', async () => {
    const socket = await accepted()
    expect([socket.localPort, socket.remotePort]).toEqual([HOST_PORT, GUEST_PORT])
    say({}, Buffer.from('to the host'))
    expect(`${(await once(socket, 'data'))[0]}`).toBe('to the host')
    await new Promise((resolve) => socket.write('to the guest', resolve))
    const [packet] = heard()
    expect(packet).toMatchObject({ srcCid: 2n, dstCid: 3n, srcPort: HOST_PORT, op: RW })
    expect(packet).toMatchObject({ dstPort: GUEST_PORT, payload: 'to the guest', fwdCnt: 11 })
  })

  it('is refused where nobody listens, of the wrong type, and beyond the limit', async () => {
    const vsock = start(new VirtioVsock({ maxConnections: 1 }))
    say({ op: REQUEST })
    expect(ops()).toEqual(['RST'])
    vsock.listen(HOST_PORT)
    say({ op: REQUEST, type: VSOCK_TYPE.SEQPACKET })
    expect(heard()).toMatchObject([{ op: RST, type: VSOCK_TYPE.SEQPACKET }])
    vsock.listen(HOST_PORT + 1, () => {})
    say({ op: REQUEST, dstPort: HOST_PORT + 1 })
    say({ op: REQUEST, dstPort: HOST_PORT + 1, srcPort: 1 })
    expect(ops()).toEqual(['RESPONSE', 'RST'])
  })

  it('is reset when nobody takes it', async () => {
    const vsock = start()
    vsock.listen(HOST_PORT)
    say({ op: REQUEST })
    await nextTurn()
    expect(ops()).toEqual(['RESPONSE', 'RST'])
    expect(vsock.connections).toBe(0)
  })

  it('ends when both sides have said so', async () => {
    const vsock = start()
    const socket = await accepted(vsock)
    say({}, Buffer.from('last'))
    say({ op: SHUTDOWN, flags: 2 })
    const chunks: Buffer[] = []
    for await (const bytes of socket) chunks.push(bytes)
    expect(Buffer.concat(chunks).toString()).toBe('last')
    await nextTurn()
    expect(ops().slice(0, 2)).toEqual(['SHUTDOWN', 'RST'])
    expect(vsock.connections).toBe(0)
  })

  it('stays open on this side if that is wanted', async () => {
    const socket = await accepted(undefined, { allowHalfOpen: true })
    say({}, Buffer.from('question'))
    say({ op: SHUTDOWN, flags: 2 })
    for await (const _bytes of socket.iterator({ destroyOnReturn: false }));
    socket.end('answer')
    await nextTurn()
    expect(heard().map(({ op, payload }) => `${OP_NAMES[op]} ${payload}`)).toEqual([
      'RW answer',
      'SHUTDOWN ',
      'RST ',
    ])
  })

  it('that the guest closes is confirmed, and what it sent is still read', async () => {
    const vsock = start()
    const socket = await accepted(vsock)
    say({}, Buffer.from('goodbye'))
    say({ op: SHUTDOWN, flags: 3 })
    expect(ops()).toEqual(['RST'])
    expect(vsock.connections).toBe(0)
    const chunks: Buffer[] = []
    socket.on('data', (bytes: Buffer) => chunks.push(bytes))
    await once(socket, 'close')
    expect(Buffer.concat(chunks).toString()).toBe('goodbye')
  })

  it('cannot be written to when the guest reads no more', async () => {
    const socket = await accepted()
    say({ op: SHUTDOWN, flags: 1 })
    socket.write('to nobody')
    expect((await once(socket, 'error'))[0]).toMatchObject({ code: 'EPIPE', syscall: 'write' })
  })

  it('is reset by the guest, by its driver, by destroy()', async () => {
    const vsock = start()
    const first = await accepted(vsock)
    say({ op: RST })
    expect((await once(first, 'error'))[0]).toMatchObject({ code: 'ECONNRESET' })
    const second = vsock.connect(7)
    say({ op: RESPONSE, srcPort: 7, dstPort: second.localPort })
    second.destroy()
    expect(ops()).toEqual(['REQUEST', 'RST'])
    say({ srcPort: 7, dstPort: second.localPort }, Buffer.from('late'))
    expect(ops()).toEqual(['RST'])
    const third = vsock.connect(7)
    say({ op: RESPONSE, srcPort: 7, dstPort: third.localPort })
    void driver.reset()
    expect((await once(third, 'error'))[0]).toMatchObject({ code: 'ECONNRESET' })
    expect(vsock.connections).toBe(0)
  })
})

describe('a connection from the host', () => {
  it('is open when the guest accepts', async () => {
    const vsock = start()
    const socket = vsock.connect(GUEST_PORT)
    socket.write('eager')
    expect(heard()).toMatchObject([{ op: REQUEST, dstPort: GUEST_PORT, bufAlloc: RECEIVE_BUFFER }])
    expect(socket.connecting).toBe(true)
    say({ op: RESPONSE, dstPort: socket.localPort })
    await once(socket, 'connect')
    expect(heard()).toMatchObject([{ op: RW, payload: 'eager' }])
  })

  it('is refused', async () => {
    const socket = start().connect(GUEST_PORT)
    say({ op: RST, dstPort: socket.localPort })
    expect((await once(socket, 'error'))[0]).toMatchObject({
      code: 'ECONNREFUSED',
      syscall: 'connect',
      port: GUEST_PORT,
    })
  })

  it('waits for a guest that boots, but not for ever', async () => {
    const vsock = new VirtioVsock()
    const waiting = vsock.connect(GUEST_PORT, { timeoutMs: 0 })
    const late = vsock.connect(GUEST_PORT, { timeoutMs: 1 })
    expect((await once(late, 'error'))[0]).toMatchObject({ code: 'ETIMEDOUT' })
    start(vsock)
    expect(heard()).toMatchObject([{ op: REQUEST, srcPort: waiting.localPort }])
    await driver.reset()
    driver[Symbol.dispose]()
    start(vsock)
    expect(ops()).toEqual(['REQUEST'])
    waiting.destroy()
  })

  it('has a port of its own', () => {
    const vsock = start()
    const ports = [1, 1, 2].map((port) => vsock.connect(port).on('error', () => {}).localPort)
    expect(new Set(ports).size).toBe(3)
    vsock.close()
    expect(vsock.connections).toBe(0)
  })
})

describe('credit', () => {
  it('holds the writer back', async () => {
    const socket = await accepted()
    let isWritten = false
    socket.write(Buffer.alloc(0x1_0000 + 100, 1), () => {
      isWritten = true
    })
    const sent = heard()
    expect(sent.reduce((sum, { length }) => sum + length, 0)).toBe(0x1_0000)
    expect(sent.at(-1)?.op).toBe(CREDIT_REQUEST)
    say({ op: CREDIT_UPDATE })
    await nextTurn()
    // Asked once, not again by each answer that brings none.
    expect(ops()).toEqual([])
    expect(isWritten).toBe(false)
    say({ op: CREDIT_UPDATE, fwdCnt: 0x1_0000 })
    expect(heard()).toMatchObject([{ op: RW, length: 100 }])
    await nextTurn()
    expect(isWritten).toBe(true)
  })

  it('is given as the reader reads', async () => {
    const socket = await accepted()
    const payload = Buffer.alloc(0x8000, 2)
    for (let sent = 0; sent < RECEIVE_BUFFER; sent += payload.length) say({}, payload)
    expect(ops()).toEqual([])
    let total = 0
    socket.on('data', (bytes: Buffer) => {
      total += bytes.length
    })
    await nextTurn()
    expect(total).toBe(RECEIVE_BUFFER)
    const updates = heard()
    expect(updates[0]).toMatchObject({ op: CREDIT_UPDATE, bufAlloc: RECEIVE_BUFFER })
    expect(updates.at(-1)?.fwdCnt).toBeGreaterThanOrEqual(RECEIVE_BUFFER / 2)
    say({ op: CREDIT_REQUEST })
    expect(heard()).toMatchObject([{ op: CREDIT_UPDATE, fwdCnt: RECEIVE_BUFFER }])
  })

  it('is not exceeded by a guest unpunished', async () => {
    const socket = await accepted()
    const payload = Buffer.alloc(0x1_0000, 2)
    const error = once(socket, 'error')
    for (let i = 0; i < 6; i++) say({}, payload)
    expect((await error)[0]).toMatchObject({ code: 'ECONNRESET' })
    expect(ops()).toContain('RST')
  })

  it('survives counters that wrap', async () => {
    const socket = await accepted()
    let fwdCnt = 0
    const chunk = Buffer.alloc(0xffff, 3)
    // As after 4 GiB: the guest says that it has handed on more than was sent.
    say({ op: CREDIT_UPDATE, fwdCnt: 0xffff_0000, bufAlloc: 0x2_0000 })
    socket.write(chunk)
    for (const { length } of heard()) fwdCnt += length
    expect(fwdCnt).toBe(0xffff)
  })

  it('keeps what comes in small pieces in few', async () => {
    const socket = await accepted()
    for (let i = 0; i < 10_000; i++) say({}, Buffer.from('x'))
    const pieces: number[] = []
    socket.on('data', (bytes: Buffer) => pieces.push(bytes.length))
    await nextTurn()
    expect(pieces.reduce((sum, length) => sum + length, 0)).toBe(10_000)
    expect(pieces.length).toBeLessThanOrEqual(3)
  })
})

describe('messages', () => {
  it('come and go whole', async () => {
    const socket = await accepted(undefined, { type: 'seqpacket' })
    const type = VSOCK_TYPE.SEQPACKET
    say({ type }, Buffer.from('one '))
    say({ type, flags: VSOCK_SEQ.EOM }, Buffer.from('message'))
    say({ type, flags: VSOCK_SEQ.EOM })
    const messages: string[] = []
    socket.on('data', (bytes: Buffer) => messages.push(`${Buffer.from(bytes)}`))
    await nextTurn()
    expect(messages).toEqual(['one message', ''])
    socket.write(Buffer.alloc(5000, 'a'))
    socket.write('')
    await nextTurn()
    expect(heard().map(({ length, flags }) => [length, flags])).toEqual([
      [4096 - VSOCK_HEADER_SIZE, 0],
      [5000 - 4096 + VSOCK_HEADER_SIZE, 1],
      [0, 1],
    ])
  })

  it('are refused when the guest could never take them', async () => {
    const socket = await accepted(undefined, { type: 'seqpacket' })
    socket.write(Buffer.alloc(0x1_0001))
    expect((await once(socket, 'error'))[0]).toMatchObject({ code: 'EMSGSIZE' })
  })

  it('without bytes are not gathered without end', async () => {
    const socket = await accepted(undefined, { type: 'seqpacket' })
    const error = once(socket, 'error')
    for (let i = 0; i < 2000; i++) {
      say({ type: VSOCK_TYPE.SEQPACKET, flags: VSOCK_SEQ.EOM })
      heard()
    }
    expect((await error)[0]).toMatchObject({ code: 'ECONNRESET' })
  })
})

describe('a guest that takes no packets', () => {
  it('is not listened to beyond what can be answered', async () => {
    driver = new DeviceDriver(new VirtioVsock())
    const packet = encodeVsock({
      srcCid: 3n,
      dstCid: 2n,
      srcPort: 1,
      dstPort: 2,
      length: 0,
      type: 1,
      op: RW,
      flags: 0,
      bufAlloc: 0,
      fwdCnt: 0,
    })
    for (let i = 0; i < 1000; i++) {
      if (driver.out(OUT) === 64) break
      driver.send(OUT, [packet])
      driver.used(OUT)
    }
    expect(driver.out(OUT)).toBe(64)
    driver.fill(IN, 64, 64)
    expect(driver.used(IN)).toHaveLength(64)
    driver.fill(IN, 64, 64)
    await nextTurn()
    await nextTurn()
    expect(driver.used(OUT)).toHaveLength(64)
  })
})

it('is deaf to packets of others', () => {
  start().listen(HOST_PORT, () => {})
  say({ op: REQUEST, srcCid: 4n })
  say({ op: REQUEST, dstCid: 1n })
  expect(ops()).toEqual([])
})

it('rests while the machine is paused', async () => {
  const vsock = start()
  const socket = await accepted(vsock)
  await vsock.pause()
  socket.write('later')
  expect(ops()).toEqual([])
  vsock.resume()
  expect(ops()).toEqual(['RW'])
})

it('refuses ports that are taken, and numbers that are none', () => {
  const vsock = start()
  const server = vsock.listen(HOST_PORT)
  expect(() => vsock.listen(HOST_PORT)).toThrow(expect.objectContaining({ code: 'EADDRINUSE' }))
  server.close()
  vsock.listen(HOST_PORT).close()
  expect(vsock.listen(0).port).toBeGreaterThan(1024)
  const code = expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' })
  for (const port of [-1, 0.5, 2 ** 32 - 1]) expect(() => vsock.connect(port)).toThrow(code)
  expect(() => new VirtioVsock({ cid: 2 })).toThrow(code)
  expect(() => new VirtioVsock({ maxConnections: Number.NaN })).toThrow(code)
})

it.each([
  ['a packet without a header', () => driver.send(OUT, [Buffer.alloc(40)])],
  ['more payload than there is', () => say({ length: 0xffff_ffff })],
  [
    'no room for a packet',
    () => {
      while (driver.out(IN) > 0) {
        say({ op: CREDIT_UPDATE })
        driver.used(IN)
      }
      driver.fill(IN, 1, 44)
      say({ op: CREDIT_UPDATE })
    },
  ],
])('a driver fails the device: %s', (_what, act) => {
  start()
  act()
  expect(driver.failures).toHaveLength(1)
  expect(driver.failures[0]).toMatchObject({ code: 'ERR_KVM_VIRTQUEUE' })
})
