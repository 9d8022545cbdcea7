// A machine with a network that needs no rights: passt (https://passt.top) answers its guest as a router
// would, and takes its connections to the host's network. The guest asks it for an address by DHCP.
//
//   npx tsx examples/passt.ts                  Debian: package passt

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { StreamBackend } from 'node-kvm'
import { ethernet, frameGuest } from './frame-guest.js'

const MAC = '52:54:00:00:00:01'
const IPV4 = 0x0800
const UDP = 17
/** Where the parts of a frame with a DHCP message begin. */
const AT = { protocol: 14 + 9, port: 14 + 20 + 2, address: 14 + 20 + 8 + 16 } as const
const CLIENT = 68

/** A frame that asks every DHCP server for an address (RFC 2131). */
function discover(): Uint8Array {
  const message = Buffer.alloc(300)
  // A request, by Ethernet, whose addresses have 6 bytes.
  message.set([1, 1, 6])
  message.writeUInt32BE(0x1234_5678, 4)
  message.set(Buffer.from(MAC.replaceAll(':', ''), 'hex'), 28)
  message.writeUInt32BE(0x6382_5363, 236)
  // DHCPDISCOVER, and the end of the options.
  message.set([53, 1, 1, 255], 240)
  const udp = Buffer.alloc(8)
  udp.writeUInt16BE(CLIENT, 0)
  udp.writeUInt16BE(67, 2)
  udp.writeUInt16BE(udp.length + message.length, 4)
  const ip = Buffer.alloc(20)
  ip.writeUInt16BE(0x4500)
  ip.writeUInt16BE(ip.length + udp.length + message.length, 2)
  ip.set([64, UDP], 8)
  ip.writeUInt32BE(0xffff_ffff, 16)
  ip.writeUInt16BE(checksum(ip), 10)
  return ethernet('ff:ff:ff:ff:ff:ff', MAC, IPV4, Buffer.concat([ip, udp, message]))
}

function checksum(header: Buffer): number {
  let sum = 0
  for (let at = 0; at < header.length; at += 2) sum += header.readUInt16BE(at)
  return ~((sum & 0xffff) + (sum >>> 16)) & 0xffff
}

// Started by root, passt becomes somebody else, who has no way into a private folder.
const path = join(tmpdir(), `node-kvm-passt-${process.pid}`)
const addresses = ['--address', '10.77.0.2', '--netmask', '24', '--gateway', '10.77.0.1']
const passt = spawn('passt', ['--foreground', '--socket', path, ...addresses], { stdio: 'ignore' })
try {
  await once(passt, 'spawn')
  while (!existsSync(path) && passt.exitCode === null) await setTimeout(20)
  const backend = await StreamBackend.connect({ path })
  const guest = await frameGuest(backend, { mac: MAC, frame: discover(), sends: 'first' })
  const run = guest.machine.run()
  for await (const bytes of guest.frames) {
    const frame = Buffer.from(bytes)
    if (frame[AT.protocol] !== UDP || frame.readUInt16BE(AT.port) !== CLIENT) continue
    console.log(`passt offers ${frame.subarray(AT.address, AT.address + 4).join('.')}`)
    break
  }
  await guest.machine.close()
  await run
} finally {
  passt.kill()
  rmSync(path, { force: true })
}
