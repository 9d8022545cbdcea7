// How `node-kvm run` makes the devices that are ways into a guest: consoles, sockets; and the balloon.

import { VirtioBalloon } from '../devices/index.js'
import { memorySize } from '../machine/memory-size.js'
import {
  boolean,
  checked,
  integer,
  listOf,
  path,
  shape,
  string,
  textOrNumber,
} from './config-readers.js'
import type { DeviceKind } from './device-kinds.js'
import { type ServedPort, serveConsole, serveSockets } from './served-devices.js'

/** Consoles and ports. */
export const consoleKind: DeviceKind = {
  keys: {
    name: string,
    path,
    ports: listOf(shape<ServedPort>({ name: string, path }, ['path'])),
  },
  required: [],
  main: 'path',
  usage: ['console,SOCKET', 'hvc0 on a UNIX socket; with name=NAME a port'],
  create: ({ ports = [], ...port }) => {
    const first = port.path === undefined ? [] : [port as unknown as ServedPort]
    return serveConsole([...first, ...(ports as ServedPort[])])
  },
}

/** Memory that comes back. */
export const balloonKind: DeviceKind = {
  keys: { target: checked(textOrNumber, memorySize), deflateOnOom: boolean },
  required: [],
  main: 'target',
  usage: ['balloon[,SIZE]', 'memory the guest gives up, and what it reports as free'],
  create: ({ target, ...options }) => {
    const bytes = target === undefined ? 0 : memorySize(target as string | number)
    return new VirtioBalloon({ target: bytes, ...options })
  },
}

/** Sockets. */
export const vsockKind: DeviceKind = {
  keys: { cid: integer, path },
  required: [],
  main: 'path',
  usage: ['vsock[,SOCKET]', 'sockets, reached as Firecracker has it; cid=CID'],
  create: ({ cid, path: socket }) =>
    serveSockets(cid as number | undefined, socket as string | undefined),
}
