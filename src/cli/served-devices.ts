// Devices whose streams are UNIX sockets of the host, for as long as the devices are there.

import { once } from 'node:events'
import type { Server } from 'node:net'
import { VirtioConsole, VirtioVsock } from '../devices/index.js'
import { serveConsolePort } from './unix-port.js'
import { callHost, serveVsock } from './unix-vsock.js'

/** A port, and the path of its socket. */
export interface ServedPort {
  readonly name?: string
  readonly path: string
}

/** A console device; a port without a name is a console. */
export async function serveConsole(ports: readonly ServedPort[]): Promise<VirtioConsole> {
  const servers: Server[] = []
  class ServedConsole extends VirtioConsole {
    override close(): void {
      super.close()
      closeAll(servers)
    }
  }
  const device = new ServedConsole({
    ports: ports.map(({ name }) => (name === undefined ? { console: true } : { name })),
  })
  await listen(servers, () => ports.map(({ path }, i) => serveConsolePort(device.ports[i]!, path)))
  return device
}

/** A socket device; without a path it only has its address. */
export async function serveSockets(
  cid: number | undefined,
  path: string | undefined,
): Promise<VirtioVsock> {
  const servers: Server[] = []
  class ServedVsock extends VirtioVsock {
    override close(): void {
      super.close()
      closeAll(servers)
    }
  }
  const device = new ServedVsock({
    ...(cid === undefined ? {} : { cid }),
    ...(path === undefined ? {} : { onUnclaimed: (socket) => callHost(socket, path) }),
  })
  await listen(servers, () => (path === undefined ? [] : [serveVsock(device, path)]))
  return device
}

/** All of them, or none. */
async function listen(servers: Server[], open: () => readonly Server[]): Promise<void> {
  servers.push(...open())
  try {
    await Promise.all(servers.map((server) => once(server, 'listening')))
  } catch (error) {
    closeAll(servers)
    throw error
  }
}

function closeAll(servers: readonly Server[]): void {
  for (const server of servers) server.close()
}
