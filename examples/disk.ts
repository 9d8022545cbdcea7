// A disk for a guest: an image is made, firmware boots from it, and the guest's writes are in the image
// afterwards. The firmware has a virtio driver of its own, as Linux does.
//
//   npx tsx examples/disk.ts [FIRMWARE]        Debian: package seabios

import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { Machine, VirtioDisk } from 'node-kvm'
import { image as bootSector } from './guests/boot-sector.js'

const { 2: firmware = '/usr/share/seabios/bios-256k.bin' } = process.argv
const SECTOR = 512
const TEXT = 16

/** A disk of 1 MiB that can be booted. */
function makeDisk(path: string): void {
  const disk = Buffer.alloc(2 ** 20)
  disk.set(bootSector)
  disk.writeUInt16LE(0xaa55, SECTOR - 2)
  disk.write('Hello from the disk!', SECTOR + TEXT)
  writeFileSync(path, disk)
}

async function boot(path: string): Promise<void> {
  await using machine = await Machine.create({
    memory: '64M',
    boot: { firmware },
    devices: [VirtioDisk.open(path, { serial: 'example' })],
  })
  // The firmware's messages go the same way, but to another port.
  const output = text(machine.debug)
  const { status } = await machine.run({ signal: AbortSignal.timeout(120_000) })
  await machine.close()
  const last = (await output).trimEnd().split('\n').at(-1)
  console.log(`boot ${status}: ${last}`)
}

if (!existsSync(firmware)) throw new Error(`there is no firmware ${firmware}`)
const folder = mkdtempSync(join(tmpdir(), 'node-kvm-disk-'))
try {
  const path = join(folder, 'disk.img')
  makeDisk(path)
  await boot(path)
  await boot(path)
  const file = openSync(path, 'r')
  const sector = Buffer.alloc(SECTOR)
  readSync(file, sector, 0, SECTOR, SECTOR)
  closeSync(file)
  console.log(`the image was booted ${sector[0]} times`)
} finally {
  rmSync(folder, { recursive: true })
}
