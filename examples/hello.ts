// The smallest machine: 32-bit code prints a line on the serial port and powers off through ACPI.

import { Machine } from 'node-kvm'
import { assemble } from 'node-kvm/testing'

const gpa = 0x10_0000
const source = `  mov esi, text;   mov ecx, 13;     mov dx, 0x3f8;  rep outsb
                  mov dx, 0x604;   mov ax, 0x2000;  out dx, ax;     hlt
           text:  db "Hello, world", 10`
const flat = assemble(source, { bits: 32, origin: BigInt(gpa) }).bytes
await using machine = await Machine.create({ boot: { flat, gpa, mode: 'protected' } })
machine.serial.pipe(process.stdout)
await machine.run()
