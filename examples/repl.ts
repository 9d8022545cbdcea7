// A REPL on a running machine. `machine` is there, and a few short names:
//
//   > counter()            what the guest has counted to, read from its RAM while it runs
//   > await registers()    pauses the machine, reads the registers, lets it go on
//   > await machine.stop()

import { start } from 'node:repl'
import { Machine } from 'node-kvm'
import { assemble } from 'node-kvm/testing'

const gpa = 0x10_0000
const COUNTER_GPA = 0x20_0000
const flat = assemble(`next: inc dword ptr [${COUNTER_GPA}]; jmp next`, {
  bits: 32,
  origin: BigInt(gpa),
}).bytes

const machine = await Machine.create({ boot: { flat, gpa, mode: 'protected' } })
const ended = machine.run()

async function registers(id = 0): Promise<object> {
  await machine.pause()
  try {
    return machine.vcpus[id]!.getRegs()
  } finally {
    machine.resume()
  }
}

const repl = start({ prompt: 'machine> ' })
Object.assign(repl.context, {
  machine,
  registers,
  counter: () => machine.memory.readU32(COUNTER_GPA),
})
repl.on('exit', () => machine.stop())
const { reason } = await ended
await machine.close()
console.log(`the machine has ${reason}`)
