// A guest that knows the machine only by its ACPI tables: processors, PCI, MSI-X, power.

import { text } from 'node:stream/consumers'
import { expect, test } from 'vitest'
import { Machine } from '../../src/index.js'
import { makeElf, makeNote } from '../helpers/boot-images.js'
import { addDoorbell } from '../helpers/doorbell-function.js'
import { image, layout } from '../helpers/guests/platform.js'

const entry = Buffer.alloc(4)
entry.writeUInt32LE(layout.start)
const paddr = BigInt(layout.gpa)
const pvh = makeElf({
  entry: paddr,
  segments: [
    { vaddr: paddr, paddr, data: image, memorySize: 0x4000n },
    { type: 4, paddr: 0x20_0000n, data: makeNote('Xen', 18, entry) },
  ],
})

// The last vCPU's id is one less than their number: from 256 on some are only in x2APIC entries.
test.each([
  ['multiboot', image, 1, 3],
  ['pvh', pvh, 4, 31],
  ['multiboot', image, 255, 7],
  ['pvh', pvh, 288, 1],
])(
  'entered by %s',
  async (protocol, kernel, cpus, slot) => {
    const machine = await Machine.create({ cpus, memory: '16M', boot: { kernel } })
    addDoorbell(machine, slot)
    const output = text(machine.serial)
    try {
      const end = await machine.run({ signal: AbortSignal.timeout(60_000) })
      expect(end).toEqual({ reason: 'powerOff' })
    } finally {
      await machine.close()
    }
    expect(await output).toBe(
      `${protocol}: processors ${cpus}, highest id ${cpus - 1}; slot ${slot}, interrupts 100 and 1\n`,
    )
  },
  70_000,
)
