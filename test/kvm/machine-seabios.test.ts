// A firmware that is not ours: SeaBIOS, from reset to its boot menu.

import { once } from 'node:events'
import { existsSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { expect, test } from 'vitest'
import { FW_CFG_ITEM } from '../../src/devices/index.js'
import { Machine } from '../../src/index.js'
import { readAcpi } from '../helpers/acpi-reader.js'

/** Debian's package `seabios`, which comes with the lab's QEMU. */
const firmware = '/usr/share/seabios/bios-256k.bin'

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}

/** Gathers a stream; waits for a text in it. */
class Reader {
  text = ''
  readonly #stream: Readable

  constructor(stream: Readable) {
    this.#stream = stream.on('data', (chunk) => {
      this.text += chunk
    })
  }

  async sees(text: string): Promise<void> {
    while (!this.text.includes(text)) await once(this.#stream, 'data')
  }
}

test('SeaBIOS takes our ACPI tables and shows its boot menu on the debug port and the serial port', async (context) => {
  if (!existsSync(firmware)) return context.skip(`the package seabios is not installed`)
  await using machine = await Machine.create({ memory: '64M', cpus: 2, boot: { firmware } })
  machine.fwCfg.setNumber(FW_CFG_ITEM.bootMenu, 1, 2)
  machine.fwCfg.setFile('etc/sercon-port', u64(0x3f8))
  machine.fwCfg.setFile('etc/boot-menu-wait', u64(60_000))
  const debug = new Reader(machine.debug)
  const serial = new Reader(machine.serial)
  const end = machine.run({ signal: AbortSignal.timeout(100_000) })
  const failed = end.then(() => {
    throw new Error(`it ended: ${debug.text}`)
  })
  await Promise.race([serial.sees('Press ESC for boot menu'), failed])
  machine.serial.write('\x1b')
  const menu = 'Select boot device:'
  await Promise.race([Promise.all([serial.sees(menu), debug.sees(menu)]), failed])
  expect(debug.text).toContain('Running on KVM')
  expect(debug.text).toContain('Found 2 cpu(s) max supported 2 cpu(s)')
  await machine.stop()
  // It placed, linked and summed our tables by the script in fw_cfg.
  const acpi = readAcpi(machine.memory)
  expect([...acpi.tables.keys()].sort()).toEqual(['APIC', 'DSDT', 'FACP', 'MCFG', 'XSDT'])
  expect(acpi.facs.gpa).toBeGreaterThan(0x10_0000)
  await failed.catch(() => {})
}, 120_000)
