// The serial port's interrupts, where a driver sends by them: each says that there is room for 16 bytes.

import { expect, test } from 'vitest'
import { Machine } from '../../src/index.js'
import { assemble } from '../../src/testing/index.js'

const gpa = 0x10_0000
const BYTES = 50_000

/** Sends `BYTES` bytes, 16 for each interrupt, as Linux does; then powers off. */
const DRIVER = `
  vector = 0x24

        mov eax, handler
        mov word ptr [gate], ax
        shr eax, 16
        mov word ptr [gate + 6], ax
        lidt [pointer]
        mov al, 0x11;   out 0x20, al
        mov al, 0x20;   out 0x21, al
        mov al, 4;      out 0x21, al
        mov al, 1;      out 0x21, al
        mov al, 0xef;   out 0x21, al         // all masked but the port's
        mov dx, 0x3fa
        mov al, 0x81;   out dx, al           // FIFOs
        xor ebx, ebx
        mov dx, 0x3f9
        mov al, 2;      out dx, al           // the transmitter's interrupt
wait:   cli
        cmp ebx, ${BYTES}
        je end
        sti
        hlt
        jmp wait
end:    mov dx, 0x604
        mov ax, 0x2000; out dx, ax
        hlt

handler:
        push rax
        push rcx
        push rdx
again:  mov dx, 0x3fa
        in al, dx
        test al, 1
        jnz leave
        mov dx, 0x3fd
        in al, dx
        mov ecx, 16
        mov dx, 0x3f8
send:   cmp ebx, ${BYTES}
        je last
        mov eax, ebx
        out dx, al
        inc ebx
        dec ecx
        jnz send
        jmp again
last:   mov dx, 0x3f9
        xor eax, eax
        out dx, al
leave:  mov al, 0x20
        out 0x20, al
        pop rdx
        pop rcx
        pop rax
        iretq

        align 8
pointer: dw vector * 16 + 15
        dq table
        align 16
table:  space vector * 16
gate:   dw 0, 0x10, 0x8e00, 0
        dq 0`

test.each(['vcpu', 'js'] as const)('on the %s side no interrupt is lost', async (serial) => {
  const flat = assemble(DRIVER, { bits: 64, origin: BigInt(gpa) }).bytes
  const boot = { flat, gpa, mode: 'long', stackPointer: 0x9_0000 } as const
  await using machine = await Machine.create({ memory: '16M', boot, devicePlaces: { serial } })
  const chunks: Buffer[] = []
  machine.serial.on('data', (chunk) => chunks.push(chunk))
  await machine.run({ signal: AbortSignal.timeout(20_000) })
  expect(
    Buffer.concat(chunks).equals(Buffer.from(Array.from({ length: BYTES }, (_, i) => i))),
  ).toBe(true)
})
