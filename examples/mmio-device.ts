// A device of one's own in memory, with an interrupt: an alarm clock. The guest writes to it how many
// milliseconds it wants to sleep, halts, and is woken by interrupt 5, whose handler asks what it was.

import { Machine } from 'node-kvm'
import type { BusDevice, InterruptLine } from 'node-kvm/devices'
import { assemble } from 'node-kvm/testing'

const ALARM_GPA = 0xd000_0000
const ALARM_IRQ = 5

/** One register: written, it sets the alarm; read, it tells how often that rang and lowers the line. */
class AlarmClock implements BusDevice {
  readonly name = 'alarm clock'
  readonly #line: InterruptLine
  #rung = 0

  constructor(line: InterruptLine) {
    this.#line = line
  }

  read(): number {
    this.#line.set(false)
    return this.#rung
  }

  write(_offset: number, _size: number, value: number): void {
    setTimeout(() => {
      this.#rung++
      this.#line.set(true)
    }, value)
  }
}

const gpa = 0x10_0000
const flat = assemble(
  `
  alarm = ${ALARM_GPA}
  vector = 0x20 + ${ALARM_IRQ}

          // The gate of the one interrupt there is takes its handler's address in parts.
          mov eax, handler
          mov word ptr [gate], ax
          shr eax, 16
          mov word ptr [gate + 6], ax
          lidt [pointer]

          // The first 8259: edge-triggered, cascaded, vectors from 0x20, all masked but one.
          mov al, 0x11;   out 0x20, al
          mov al, 0x20;   out 0x21, al
          mov al, 4;      out 0x21, al
          mov al, 1;      out 0x21, al
          mov al, ${0xff & ~(1 << ALARM_IRQ)}; out 0x21, al

          mov rbx, alarm
  again:  cli                         // an alarm that rings before the halt waits for it
          mov dword ptr [rbx], 10     // milliseconds
          sti
          hlt
          cmp dword ptr [count], 3
          jne again
          mov dx, 0xf4
          mov eax, dword ptr [count]
          out dx, al
          hlt

  handler:
          push rax
          mov eax, dword ptr [rbx]
          mov dword ptr [count], eax
          mov al, 0x20
          out 0x20, al
          pop rax
          iretq

          align 8
  count:  dq 0
  pointer: dw vector * 16 + 15
          dq table
          align 16
  table:  space vector * 16
  gate:   dw 0, 0x10, 0x8e00, 0
          dq 0`,
  { bits: 64, origin: BigInt(gpa) },
).bytes

await using machine = await Machine.create({
  boot: { flat, gpa, mode: 'long', stackPointer: 0x9_0000 },
})
machine.mmio.add(ALARM_GPA, 4, new AlarmClock(machine.interruptLine(ALARM_IRQ)))
const { status } = await machine.run()
console.log(`the guest was woken ${status} times`)
