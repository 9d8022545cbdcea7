// A disk whose image stays on a web server: what the guest reads is fetched by ranges, what it writes is kept
// in this process. Firmware boots from it; the server is here, but could be any that knows ranges.
//
//   npx tsx examples/http-disk.ts [FIRMWARE]   Debian: package seabios

import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { Machine } from 'node-kvm'
import { type BlockBackend, VirtioBlock } from 'node-kvm/devices'
import { image as bootSector } from './guests/boot-sector.js'

const { 2: firmware = '/usr/share/seabios/bios-256k.bin' } = process.argv
const SECTOR = 512
const TEXT = 16

/** An image at a URL, under the sectors that were written here. */
class HttpDisk implements BlockBackend {
  /** Requests to the server. */
  fetched = 0
  readonly size: number
  readonly #url: string
  readonly #written = new Map<number, Uint8Array>()

  private constructor(url: string, size: number) {
    this.#url = url
    this.size = size
  }

  static async open(url: string): Promise<HttpDisk> {
    const { headers } = await fetch(url, { method: 'HEAD' })
    return new HttpDisk(url, Number(headers.get('content-length')))
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const bytes = await this.#fetch(offset, length)
    for (let at = 0; at < length; at += SECTOR) {
      const own = this.#written.get(offset + at)
      if (own !== undefined) bytes.set(own, at)
    }
    return bytes
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; at += SECTOR) {
      this.#written.set(offset + at, bytes.slice(at, at + SECTOR))
    }
  }

  async #fetch(offset: number, length: number): Promise<Uint8Array> {
    this.fetched++
    const range = `bytes=${offset}-${offset + length - 1}`
    const answer = await fetch(this.#url, { headers: { range } })
    // What a back end throws, the guest sees as an I/O error. A server without ranges sends everything.
    if (answer.status !== 206) throw new Error(`${this.#url}: status ${answer.status}`)
    return new Uint8Array(await answer.arrayBuffer())
  }
}

function makeDisk(): Buffer {
  const disk = Buffer.alloc(2 ** 20)
  disk.set(bootSector)
  disk.writeUInt16LE(0xaa55, SECTOR - 2)
  disk.write('Hello from the server!', SECTOR + TEXT)
  return disk
}

const image = makeDisk()
const server = createServer((request, response) => {
  const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? []
  const part = from === undefined ? image : image.subarray(Number(from), Number(to) + 1)
  response.writeHead(from === undefined ? 200 : 206, { 'content-length': part.length })
  response.end(request.method === 'HEAD' ? undefined : part)
}).listen(0, '127.0.0.1')
try {
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const disk = await HttpDisk.open(`http://127.0.0.1:${port}/disk.img`)
  await using machine = await Machine.create({
    memory: '64M',
    boot: { firmware },
    devices: [new VirtioBlock(disk)],
  })
  const output = text(machine.debug)
  const { status } = await machine.run({ signal: AbortSignal.timeout(120_000) })
  await machine.close()
  console.log(`boot ${status}: ${(await output).trimEnd().split('\n').at(-1)}`)
  console.log(`ranges were fetched: ${disk.fetched > 0}; the image changed: ${image[SECTOR] !== 0}`)
} finally {
  server.closeAllConnections()
  server.close()
}
