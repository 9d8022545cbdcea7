// Where a device answers, JavaScript or the vCPU's thread: the guest sees no difference, the exit
// statistics do.

import { text } from 'node:stream/consumers'
import { expect, test } from 'vitest'
import { type DevicePlaces, Machine, type MachineOptions } from '../../src/index.js'
import { assemble } from '../../src/testing/index.js'

const gpa = 0x10_0000

/** Does it with EDI at a buffer, prints what it put there, and powers off. */
const printing = (code: string) => `
        mov edi, buffer
        ${code}
        mov esi, buffer
        mov ecx, edi
        sub ecx, esi
        mov dx, 0x3f8
        rep outsb
        mov dx, 0x604
        mov ax, 0x2000
        out dx, ax
        hlt
        align 4
buffer: space 64`

/** Reads each register once. */
const READING = printing(`
        mov dx, 0x3fd;  in al, dx;  stosb        // line status
        mov dx, 0x3fa;  in al, dx;  stosb        // interrupt identification
        mov dx, 0xcf8
        mov eax, 0x80000000; out dx, eax;  in eax, dx;  stosd
        mov dx, 0xcfc;  in eax, dx;  stosd       // the bridge's ids
        mov dx, 0xcfe;  in ax, dx;  stosw
        mov dx, 0xcf8
        mov eax, 0x80000800; out dx, eax
        mov dx, 0xcfc;  in eax, dx;  stosd       // an empty slot
        mov dx, 0x402;  in al, dx;  stosb
        mov al, 0x41;   out dx, al
        out 0x80, al
        mov al, 13
        out 0x70, al;   in al, 0x70;  stosb      // the clock's index, which reads as all ones
        mov dx, 0x608;  in eax, dx;  mov ebx, eax
  wait: in eax, dx
        cmp eax, ebx
        je wait`)

/** Writes what need not be seen at once, and reads what came of it. */
const WRITING = printing(`
        mov al, 0x8d                             // no NMI is wanted
        out 0x70, al;   in al, 0x71;  stosb      // its power is good
        mov dx, 0x602
        mov ax, 0x100;  out dx, ax;  in ax, dx;  stosw  // the power button, enabled
        mov dx, 0x604;  in ax, dx;  stosw        // ACPI mode
        mov dx, 0x3fb
        mov al, 0x83;   out dx, al               // the serial port's divisor
        mov dx, 0x3f8
        mov al, 3;      out dx, al;  in al, dx;  stosb
        mov dx, 0x3fb
        mov al, 3;      out dx, al;  in al, dx;  stosb
        mov dx, 0x3f9
        mov al, 2;      out dx, al               // and its interrupt: the transmitter is empty, as reading tells once
        mov dx, 0x3fa;  in al, dx;  stosb
        in al, dx;      stosb
        mov dx, 0x3f9
        xor eax, eax;   out dx, al;  in al, dx;  stosb`)

async function probe(program: string, devicePlaces?: DevicePlaces) {
  const flat = assemble(program, { bits: 32, origin: BigInt(gpa) }).bytes
  const boot = { flat, gpa, mode: 'protected' } as const
  const options: MachineOptions = { memory: '16M', boot }
  await using machine = await Machine.create(devicePlaces ? { ...options, devicePlaces } : options)
  const chunks: Buffer[] = []
  machine.serial.on('data', (chunk) => chunks.push(chunk))
  const debug = text(machine.debug)
  const { types } = machine.vcpus[0]!.statistics
  const { statistics } = machine.vcpus[0]!
  expect(types).toEqual([])
  await machine.run()
  const io = statistics.types.find(({ type }) => type === 'io')!
  await machine.close()
  return {
    registers: Buffer.concat(chunks).toString('hex'),
    debug: await debug,
    reachedJavaScript: io.count - io.answered,
  }
}

const REGISTERS = [
  ...['60', '01'], // transmitter empty; no interrupt
  ...['00000080', '361b0800', '0800'], // the address; vendor and device; device
  ...['ffffffff', 'e9', 'ff'],
].join('')

test('by default only the power-off reaches JavaScript', async () => {
  expect(await probe(READING)).toEqual({ registers: REGISTERS, debug: 'A', reachedJavaScript: 1 })
})

const inJs = (program: string, devices: readonly string[]) =>
  probe(program, Object.fromEntries(devices.map((name) => [name, 'js'])))

test('a place can be chosen for each device', async () => {
  const all = ['serial', 'debugConsole', 'pmTimer', 'pciConfig', 'rtc', 'postCode'] as const
  const exits: Record<string, number> = {}
  for (const device of all) {
    const { registers, debug, reachedJavaScript } = await inJs(READING, [device])
    expect({ registers, debug }).toEqual({ registers: REGISTERS, debug: 'A' })
    exits[device] = reachedJavaScript - 1
  }
  expect(exits).toMatchObject({ debugConsole: 2, pciConfig: 6, rtc: 2, postCode: 1 })
  // Two status reads and one string of 20 bytes or more, which KVM may cut.
  expect(exits.serial).toBeGreaterThanOrEqual(3)
  expect(exits.pmTimer).toBeGreaterThanOrEqual(2)
})

test('a place that there is not is refused', async () => {
  const boot = { flat: Buffer.of(0xf4), gpa, mode: 'protected' } as const
  const devicePlaces = { serial: 'kernel' as 'js' }
  await expect(Machine.create({ memory: '16M', boot, devicePlaces })).rejects.toMatchObject({
    code: 'ERR_INVALID_ARG_TYPE',
    message: expect.stringContaining('devicePlaces.serial'),
  })
})

test('what is written may be late, and is there for what is read then', async () => {
  const devices = ['serial', 'acpiPm', 'rtc'] as const
  const seen = await inJs(WRITING, devices)
  expect(seen.registers).toBe(['80', '0001', '0100', '03', '03', '02', '01', '00'].join(''))
  for (let round = 0; round < 20; round++) {
    const { registers, reachedJavaScript } = await probe(WRITING)
    expect(registers).toBe(seen.registers)
    // Each read that follows a write, at most, and what was never asked for before.
    expect(reachedJavaScript).toBeLessThan(seen.reachedJavaScript)
  }
})

test('the clock is read without JavaScript until its second is over, and never stands still', async () => {
  // Seconds until they have changed twice, each time as often as they are the same.
  const program = printing(`
        xor ebx, ebx
        mov ah, 0xff
  look: mov al, 0;      out 0x70, al;  in al, 0x71
        inc ebx
        cmp al, ah
        je look
        mov ah, al
        stosb
        mov ecx, edi
        sub ecx, buffer
        cmp ecx, 3
        jne look
        mov eax, ebx
        stosd`)
  const { registers, reachedJavaScript } = await probe(program)
  const [first, second, third] = [...Buffer.from(registers, 'hex')].map(
    (bcd) => (bcd >> 4) * 10 + (bcd & 15),
  )
  expect(second).toBe((first! + 1) % 60)
  expect(third).toBe((second! + 1) % 60)
  const reads = Buffer.from(registers, 'hex').readUInt32LE(3)
  expect(reachedJavaScript).toBeLessThan(reads / 2)
})
