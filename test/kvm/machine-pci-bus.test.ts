// A kernel's tables tell of the PCI bus when something is on it; ports and memory show it in any case.

import { expect, test } from 'vitest'
import { PciFunction } from '../../src/devices/index.js'
import { Machine } from '../../src/index.js'
import { assemble } from '../../src/testing/index.js'
import { readAcpi } from '../helpers/acpi-reader.js'
import { ELF_LOAD_GPA, makeElf } from '../helpers/boot-images.js'

/** Prints the address port after a write to it, the bridge's ids by port and by ECAM, then resets by 0xcf9. */
const LOOK = `
        mov esp, 0x200000
        mov dx, 0xcf8
        mov eax, 0x80000000
        out dx, eax
        in eax, dx
        call print
        mov dx, 0xcfc
        in eax, dx
        call print
        mov ebx, 0xe8000000
        mov eax, [rbx]
        call print
        mov dx, 0xcf9
        mov al, 6
        out dx, al
        hlt
print:  mov dx, 0xe9
        mov ecx, 4
  next: out dx, al
        shr eax, 8
        loop next
        ret`

async function look(add: (machine: Machine) => void, onReset: 'end' | 'restart' = 'end') {
  const gpa = BigInt(ELF_LOAD_GPA)
  const data = Buffer.from(assemble(LOOK, { bits: 64, origin: gpa }).bytes)
  const kernel = makeElf({
    entry: gpa,
    segments: [{ type: 1, flags: 5, vaddr: gpa, paddr: gpa, data }],
  })
  await using machine = await Machine.create({ memory: '16M', boot: { kernel }, onReset })
  add(machine)
  const printed: Buffer[] = []
  machine.debug.on('data', (chunk) => printed.push(chunk))
  let resets = 0
  machine.on('reset', () => {
    if (++resets === 2) machine.stop()
  })
  await machine.run()
  const tables = [...readAcpi(machine.memory).tables.keys()]
  await machine.close()
  return { printed: Buffer.concat(printed).toString('hex'), hasMcfg: tables.includes('MCFG') }
}

const bridge = '361b0800'

test('with a function on it', async () => {
  const options = { name: 'one', vendorId: 0x1234, deviceId: 1, classCode: 0xff_0000 }
  const found = await look((machine) => machine.pci.add(5, new PciFunction(options)))
  expect(found).toEqual({ printed: `00000080${bridge}${bridge}`, hasMcfg: true })
})

test('without one, and after a reset', async () => {
  const printed = `00000080${bridge}${bridge}`
  expect(await look(() => {})).toEqual({ printed, hasMcfg: false })
  const again = await look(() => {}, 'restart')
  expect(again.hasMcfg).toBe(false)
  expect(again.printed.startsWith(printed + printed)).toBe(true)
})
