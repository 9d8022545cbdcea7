// The guest's sockets as UNIX sockets of the host, in the way that Firecracker has them: whoever connects to
// PATH says `CONNECT 22` and a line feed, and is connected with port 22 of the guest; a program of the guest
// that connects to port 22 of the host finds what listens on PATH_22.

import { connect, createServer, type Server, type Socket } from 'node:net'
import type { VirtioVsock, VsockSocket } from '../devices/index.js'

/** The longest line that can be right, with its end. */
const LONGEST_LINE = 'CONNECT 4294967295\r\n'.length

/** Serves the socket of PATH, to any number of clients. */
export function serveVsock(vsock: VirtioVsock, path: string): Server {
  const server = createServer({ allowHalfOpen: true }, (client) => {
    client.on('error', () => {})
    void takeRequest(client).then((port) => {
      if (port === undefined) client.destroy()
      else callGuest(vsock, port, client)
    })
  })
  return server.listen(path)
}

/** Connects a program of the guest with what listens for it. */
export function callHost(socket: VsockSocket, path: string): void {
  const client = connect({ path: `${path}_${socket.localPort}`, allowHalfOpen: true })
  endTogether(socket, client)
  join(socket, client)
}

function callGuest(vsock: VirtioVsock, port: number, client: Socket): void {
  const socket = vsock.connect(port, { allowHalfOpen: true })
  endTogether(socket, client)
  socket.once('connect', () => {
    client.write(`OK ${socket.localPort}\n`)
    join(socket, client)
  })
}

/** The port that the client asks for; undefined when it says something else. */
function takeRequest(client: Socket): Promise<number | undefined> {
  return new Promise((resolve) => {
    let line = ''
    const onReadable = () => {
      for (let byte = client.read(1); byte !== null; byte = client.read(1)) {
        line += byte.toString('latin1')
        if (!line.endsWith('\n') && line.length < LONGEST_LINE) continue
        client.off('readable', onReadable)
        const [, port] = /^CONNECT (\d+)\r?\n$/.exec(line) ?? []
        resolve(Number(port) < 2 ** 32 - 1 ? Number(port) : undefined)
        return
      }
    }
    client.on('readable', onReadable)
    client.on('close', () => resolve(undefined))
  })
}

const join = (socket: VsockSocket, client: Socket) => socket.pipe(client).pipe(socket)

/** What fails, or ends before it has said all, ends the other. */
function endTogether(socket: VsockSocket, client: Socket): void {
  for (const [one, other] of [
    [socket, client],
    [client, socket],
  ] as const) {
    one.on('error', () => other.destroy())
    one.on('close', () => one.readableEnded || other.destroy())
  }
}
