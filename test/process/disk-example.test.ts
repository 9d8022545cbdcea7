// The example of a disk, run as a reader would run it: firmware that is not ours boots from it, twice.

import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { image as bootSector } from '../../examples/guests/boot-sector.js'

/** Debian's package `seabios`, which comes with the lab's QEMU. */
const firmware = '/usr/share/seabios/bios-256k.bin'

const root = join(import.meta.dirname, '..', '..')

test('SeaBIOS boots from a disk, and what the guest writes is in the image', (context) => {
  if (!existsSync(firmware)) context.skip('the package seabios is not installed')
  const example = join(root, 'examples', 'disk.ts')
  const output = execFileSync(process.execPath, ['--import', 'tsx', example], { encoding: 'utf8' })
  expect(output).toBe(
    'boot 1: Hello from the disk!\nboot 2: Hello from the disk!\nthe image was booted 2 times\n',
  )
}, 180_000)

test.for([
  { options: 'cache=none,queues=2', status: 1, boots: 1 },
  // The boot sector says 255 when the disk refuses its write.
  { options: 'readOnly', status: 255, boots: 0 },
])(
  'node-kvm run --device disk,FILE,$options',
  { timeout: 180_000 },
  ({ options, status, boots }, context) => {
    if (!existsSync(firmware)) context.skip('the package seabios is not installed')
    const folder = mkdtempSync(join(tmpdir(), 'node-kvm-disk-cli-'))
    try {
      const path = join(folder, 'disk.img')
      const disk = Buffer.alloc(2 ** 20)
      disk.set(bootSector)
      disk.writeUInt16LE(0xaa55, 510)
      writeFileSync(path, disk)
      const command = ['lib/cli/main.cjs', 'run', '--firmware', firmware, '--memory', '64M']
      const device = ['--device', `disk,${path},${options}`, '--timeout', '150']
      const ended = spawnSync(process.execPath, [...command, ...device], { cwd: root })
      expect({ status: ended.status, boots: readFileSync(path)[512] }).toEqual({ status, boots })
    } finally {
      rmSync(folder, { recursive: true })
    }
  },
)
