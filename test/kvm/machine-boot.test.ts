// Every way into a machine but Linux's: multiboot, raw code in each mode, firmware at the reset vector.

import { text } from 'node:stream/consumers'
import { expect, test } from 'vitest'
import { Machine, type MachineBoot } from '../../src/index.js'
import { makeElf } from '../helpers/boot-images.js'
import * as multiboot from '../helpers/guests/multiboot.js'

/** What a machine prints on its serial port until it powers off. */
async function outputOf(boot: MachineBoot): Promise<string> {
  const machine = await Machine.create({ memory: '16M', boot })
  const output = text(machine.serial)
  try {
    const end = await machine.run({ signal: AbortSignal.timeout(15_000) })
    expect(end).toEqual({ reason: 'powerOff' })
  } finally {
    await machine.close()
  }
  return output
}

const base = BigInt(multiboot.layout.gpa)
const multibootElf = makeElf({
  bits: 32,
  entry: BigInt(multiboot.layout.start) + 0xc000_0000n,
  segments: [
    {
      vaddr: base + 0xc000_0000n,
      paddr: base,
      data: multiboot.image,
      memorySize: 0x2000n,
    },
  ],
})

test.each([
  ['a flat image', multiboot.image],
  ['ELF32, linked high', multibootElf],
])('multiboot: %s gets command line, modules and memory sizes', async (_, kernel) => {
  const boot = {
    kernel,
    cmdline: 'console=com1 quiet',
    initrd: Buffer.from('first'),
    modules: [{ image: Buffer.from('second'), cmdline: '/etc/motd' }, { image: Buffer.alloc(0) }],
  }
  const lines = ['console=com1 quiet', 'initrd', 'first', '/etc/motd', 'second', '', '', '15360']
  expect(await outputOf(boot)).toBe(lines.map((line) => `${line}\n`).join(''))
})

// mov dx, 0x3f8; mov al, 'R'; out dx, al; mov dx, 0x604; mov ax, 0x2000; out dx, ax; jmp $
const real = Buffer.from('baf803b052eeba0406b80020efebfe', 'hex')
// The same with the letter P and operand-size prefixes.
const wide = Buffer.from('66baf803b050ee66ba040666b8002066efebfe', 'hex')

test.each([
  ['real', 0x7c00, real, 'R'],
  ['real', 0x1_0000, real, 'R'],
  ['protected', 0x10_0000, wide, 'P'],
  ['long', 0x10_0000, wide, 'P'],
] as const)('raw code in %s mode at %d', async (mode, gpa, flat, letter) => {
  expect(await outputOf({ flat, gpa, mode })).toBe(letter)
})

test('firmware starts at the reset vector, and its last 256 KiB are below 1 MiB too', async () => {
  const firmware = Buffer.alloc(0x4_0000, 0xf4)
  // mov ax, cs; cmp ax, 0xe000; jne $ ahead of the code that prints
  firmware.set(Buffer.from('8cc83d00e075fe', 'hex'), 0x2_0100)
  firmware.set(real, 0x2_0107)
  firmware.set(Buffer.from('ea000100e0', 'hex'), 0x3_fff0) // jmp 0xe000:0x0100
  expect(await outputOf({ firmware })).toBe('R')
})

test('the guest cannot write firmware', async () => {
  const firmware = Buffer.alloc(0x1_0000, 0xf4)
  // At the reset vector CS's base is high, so this writes to the ROM:
  // mov al, 'Z'; mov cs:[0x200], al; mov al, cs:[0x200]; then print al and power off
  firmware.set(Buffer.from('eb8e', 'hex'), 0xfff0) // jmp 0xff80
  const code = 'b05a2ea20002' + '2ea00002' + 'baf803ee' + 'ba0406b80020efebfe'
  firmware.set(Buffer.from(code, 'hex'), 0xff80)
  firmware[0x200] = 0x52
  expect(await outputOf({ firmware })).toBe('R')
})

test.each([
  ['an empty firmware', { firmware: Buffer.alloc(0) }, 'ERR_OUT_OF_RANGE'],
  ['17 MiB of firmware', { firmware: Buffer.alloc(17 << 20) }, 'ERR_OUT_OF_RANGE'],
  [
    'modules of a Linux kernel',
    { kernel: makeElf(), modules: [{ image: real }] },
    'ERR_BOOT_UNSUPPORTED',
  ],
  ['a module that is none', { kernel: multibootElf, modules: [{}] }, 'ERR_INVALID_ARG_TYPE'],
  ['a mode that is none', { flat: real, gpa: 0x7c00, mode: 'smm' }, 'ERR_OUT_OF_RANGE'],
])('%s is refused', async (_, boot, code) => {
  await expect(Machine.create({ memory: '16M', boot: boot as never })).rejects.toMatchObject({
    code,
  })
})
