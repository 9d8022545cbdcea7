// A device of one's own at I/O ports: it adds up what the guest writes. The guest gives it the numbers
// from 1 to 10 and ends with their sum as the status.

import { Machine } from 'node-kvm'
import type { BusDevice } from 'node-kvm/devices'
import { assemble } from 'node-kvm/testing'

class Adder implements BusDevice {
  readonly name = 'adder'
  #sum = 0

  read(): number {
    return this.#sum
  }

  write(_offset: number, _size: number, value: number): void {
    this.#sum += value
  }

  reset(): void {
    this.#sum = 0
  }
}

const gpa = 0x10_0000
const flat = assemble(
  `
        mov dx, 0x500       // the adder
        mov ecx, 10
  next: mov eax, ecx
        out dx, eax
        loop next
        in eax, dx
        mov dx, 0xf4        // the debug exit
        out dx, al
        hlt`,
  { bits: 32, origin: BigInt(gpa) },
).bytes

await using machine = await Machine.create({ boot: { flat, gpa, mode: 'protected' } })
machine.ports.add(0x500, 4, new Adder())
const { status } = await machine.run()
console.log(`1 + 2 + … + 10 = ${status}`)
