// Ports and sockets of a guest as UNIX sockets of the host.

import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { serveConsolePort } from '../../src/cli/unix-port.js'
import { callHost, serveVsock } from '../../src/cli/unix-vsock.js'
import { VirtioConsole, VirtioVsock, type VsockSocket } from '../../src/devices/index.js'
import {
  decodeVsock,
  encodeVsock,
  VSOCK_OP,
  VSOCK_TYPE,
} from '../../src/devices/vsock/vsock-packet.js'
import { DeviceDriver } from '../helpers/device-driver.js'

let folder: string
let path: string
let driver: DeviceDriver
const open: { close?: () => unknown; destroy?: () => unknown }[] = []
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'node-kvm-unix-'))
  path = join(folder, 'socket')
})
afterEach(() => {
  for (const each of open.splice(0)) (each.destroy ?? each.close)?.call(each)
  unread.length = 0
  driver[Symbol.dispose]()
  rmSync(folder, { recursive: true })
})

async function client(): Promise<Socket> {
  const socket = connect(path)
  open.push(socket)
  await once(socket, 'connect')
  return socket
}

const unread: string[] = []

/** What the device has written to its first queue, one buffer after the other. */
async function used(): Promise<string> {
  for (;;) {
    unread.push(...driver.used(0).map(({ bytes }) => bytes.toString('latin1')))
    const first = unread.shift()
    if (first !== undefined) return first
    await sleep(1)
  }
}

describe('a console port', () => {
  it('has one client at a time, and keeps what comes meanwhile', async () => {
    const device = new VirtioConsole()
    driver = new DeviceDriver(device, { features: 0n, queues: [0, 1] })
    driver.fill(0, 8, 64)
    const server = serveConsolePort(device.ports[0]!, path)
    open.push(server)
    await once(server, 'listening')
    driver.send(1, [Buffer.from('early')])
    const first = await client()
    expect(`${(await once(first, 'data'))[0]}`).toBe('early')
    first.write('to the guest')
    expect(await used()).toBe('to the guest')
    const second = await client()
    await once(second, 'close')
    first.destroy()
    await sleep(20)
    driver.send(1, [Buffer.from('later')])
    const third = await client()
    expect(`${(await once(third, 'data'))[0]}`).toBe('later')
  })
})

describe("the guest's sockets", () => {
  /** Answers the device's packet; gives its ports. */
  async function answer(op: number, payload = '') {
    const packet = decodeVsock(Buffer.from(await used(), 'latin1'))
    driver.send(1, [
      encodeVsock({
        ...packet,
        srcCid: 3n,
        dstCid: 2n,
        srcPort: packet.dstPort,
        dstPort: packet.srcPort,
        op,
        length: payload.length,
        bufAlloc: 0x1_0000,
        fwdCnt: 0,
        flags: 0,
      }),
      Buffer.from(payload),
    ])
    return packet
  }

  async function start(vsock: VirtioVsock): Promise<void> {
    driver = new DeviceDriver(vsock)
    driver.fill(0, 16, 4096)
    const server = serveVsock(vsock, path)
    open.push(server)
    await once(server, 'listening')
  }

  it('are reached by CONNECT', async () => {
    await start(new VirtioVsock())
    const caller = await client()
    caller.write('CONNECT 22\nhello')
    expect(await answer(VSOCK_OP.RESPONSE)).toMatchObject({ op: VSOCK_OP.REQUEST, dstPort: 22 })
    const [line] = await once(caller, 'data')
    expect(`${line}`).toMatch(/^OK \d+\n$/)
    expect(await used()).toContain('hello')
    await driver.reset()
    await once(caller, 'close')
  })

  it('are refused by hanging up', async () => {
    await start(new VirtioVsock())
    const caller = await client()
    caller.write('CONNECT 22\n')
    await answer(VSOCK_OP.RST)
    await once(caller, 'close')
    for (const nonsense of ['CONNECT x\n', 'CONNECT 4294967295\n', 'x'.repeat(100)]) {
      const other = await client()
      other.write(nonsense)
      await once(other, 'close')
    }
  })

  it('reach who listens on PATH_PORT', async () => {
    const server = createServer((socket) => socket.end('served'))
    open.push(server)
    server.listen(`${path}_80`)
    await once(server, 'listening')
    const sockets: VsockSocket[] = []
    const vsock = new VirtioVsock({
      onUnclaimed: (socket) => {
        sockets.push(socket)
        callHost(socket, path)
      },
    })
    await start(vsock)
    const request = {
      srcCid: 3n,
      dstCid: 2n,
      srcPort: 1000,
      length: 0,
      type: VSOCK_TYPE.STREAM,
      op: VSOCK_OP.REQUEST,
      flags: 0,
      bufAlloc: 0x1_0000,
      fwdCnt: 0,
    }
    driver.send(1, [encodeVsock({ ...request, dstPort: 80 })])
    await used()
    expect(await used()).toContain('served')
    driver.send(1, [encodeVsock({ ...request, dstPort: 81 })])
    while (!sockets[1]?.destroyed) await sleep(1)
  })
})
