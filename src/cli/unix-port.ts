// A console port of the guest as a UNIX socket of the host.

import { createServer, type Server } from 'node:net'
import type { ConsolePort } from '../devices/index.js'

/**
 * Serves a port on a socket, to one client at a time; others are hung up on. What the guest writes while
 * nobody is there waits.
 */
export function serveConsolePort(port: ConsolePort, path: string): Server {
  let isTaken = false
  const server = createServer((client) => {
    client.on('error', () => {})
    if (isTaken || port.destroyed) {
      client.destroy()
      return
    }
    isTaken = true
    client.on('close', () => {
      port.unpipe(client)
      isTaken = false
    })
    client.pipe(port, { end: false })
    port.pipe(client)
  })
  return server.listen(path)
}
