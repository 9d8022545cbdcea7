// Disks in several ways, with a file system that is looked at afterwards.
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { VirtioBlock } from '../../../lib/devices/index.js'
import { VirtioDisk } from '../../../lib/index.js'

const MIB = 2 ** 20
const folder = mkdtempSync(join(tmpdir(), 'disks-'))
const ext4 = ['pci', 'mmio'].map((name) => join(folder, `${name}.img`))
const aligned = join(folder, 'aligned.img')
const run = (/** @type {string} */ line) =>
  execFileSync('/bin/sh', ['-ec', line], { encoding: 'utf8', stdio: 'pipe' }).trim()
const sparse = (/** @type {string} */ path, /** @type {number} */ size) => {
  writeFileSync(path, '')
  truncateSync(path, size)
  return path
}
const blocks = (/** @type {string} */ path) => Math.round((statSync(path).blocks * 512) / MIB)
let growing

/** A disk in memory. */
const bytes = Buffer.alloc(4 * MIB, 'JavaScript\n')
const backend = {
  size: bytes.length,
  read: async (offset, length) => bytes.subarray(offset, offset + length),
  write: async (offset, data) => {
    bytes.set(data, offset)
  },
  flush: async () => {},
}

/** A block device of 8 MiB of which 4 KiB in the middle can neither be read nor written. */
function withBadBlock() {
  const loop = run(`/sbin/losetup --find --show ${sparse(join(folder, 'bad.img'), 8 * MIB)}`)
  const table = [`0 8192 linear ${loop} 0`, '8192 8 error', `8200 8184 linear ${loop} 8200`]
  run(`printf '${table.join('\\n')}\\n' | /sbin/dmsetup create bad --noudevsync`)
  return '/dev/dm-0'
}

/** An image of 8 MiB on a file system of 2 MiB. */
function withoutRoom() {
  const small = join(folder, 'small')
  mkdirSync(small)
  run(`mount -t tmpfs -o size=2M tmpfs ${small}`)
  return sparse(join(small, 'full.img'), 8 * MIB)
}

export function machineOptions() {
  for (const path of ext4) sparse(path, 96 * MIB)
  writeFileSync(aligned, Buffer.alloc(8 * MIB))
  growing = VirtioDisk.open(aligned, {
    logicalBlock: 4096,
    physicalBlock: 16384,
    alignmentOffset: 8192,
    minimumIo: 65536,
    optimalIo: MIB,
  })
  return {
    devices: [
      VirtioDisk.open(ext4[0], { queues: 2, serial: 'first-disk' }),
      growing,
      new VirtioBlock(backend),
      {
        device: VirtioDisk.open(ext4[1], { writeCache: 'writethrough' }),
        transport: 'mmio',
        packed: true,
      },
      { device: VirtioDisk.open(withBadBlock(), { direct: true }), transport: 'mmio' },
      { device: VirtioDisk.open(withoutRoom()), transport: 'mmio' },
    ],
  }
}

/** When the guest says so. */
export async function whileRunning(machine, say) {
  let text = ''
  machine.serial.on('data', (chunk) => {
    text += chunk
  })
  const until = async (isSo) => {
    while (!isSo()) await sleep(100)
  }
  await until(() => text.includes('files are gone soon'))
  const before = ext4.map(blocks)
  say(`before the discard ${before.join(' ')} MiB`)
  await until(() => text.includes('grow now'))
  say(`after the discard ${ext4.map(blocks).join(' ')} MiB`)
  truncateSync(aligned, 16 * MIB)
  growing.refreshSize()
}

export function afterwards(say) {
  for (const path of ext4) {
    execFileSync('/sbin/e2fsck', ['-fn', path], { stdio: 'pipe' })
    const left = execFileSync('/sbin/debugfs', ['-R', 'cat /left', path], {
      encoding: 'utf8',
      stdio: 'pipe',
    })
    say(`clean, with ${left.trim()}`)
  }
  say(`memory has ${bytes.subarray(0, 5)}`)
}
