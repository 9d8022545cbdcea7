// The example of a disk, run as a reader would run it: firmware that is not ours boots from it, twice.

import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'

/** Debian's package `seabios`, which comes with the lab's QEMU. */
const firmware = '/usr/share/seabios/bios-256k.bin'

test('SeaBIOS boots from a disk, and what the guest writes is in the image', (context) => {
  if (!existsSync(firmware)) context.skip('the package seabios is not installed')
  const example = join(import.meta.dirname, '..', '..', 'examples', 'disk.ts')
  const output = execFileSync(process.execPath, ['--import', 'tsx', example], { encoding: 'utf8' })
  expect(output).toBe(
    'boot 1: Hello from the disk!\nboot 2: Hello from the disk!\nthe image was booted 2 times\n',
  )
}, 180_000)
