// @ts-check
// A machine in a Worker: its exits are answered on that thread, and this one stays free. What the guest
// prints comes over as messages.

import { isMainThread, parentPort, Worker } from 'node:worker_threads'
import { Machine } from 'node-kvm'
import { assemble } from 'node-kvm/testing'

async function runMachine() {
  const gpa = 0x10_0000
  const flat = assemble(
    `     mov esi, text;  mov ecx, 21;     mov dx, 0x3f8;  rep outsb
          mov dx, 0x604;  mov ax, 0x2000;  out dx, ax;     hlt
    text: db "Hello from a Worker!", 10`,
    { bits: 32, origin: BigInt(gpa) },
  ).bytes
  const machine = await Machine.create({ boot: { flat, gpa, mode: 'protected' } })
  machine.serial.on('data', (chunk) => parentPort?.postMessage(String(chunk)))
  await machine.run()
  await machine.close()
}

if (isMainThread) {
  const worker = new Worker(new URL(import.meta.url))
  worker.on('message', (text) => process.stdout.write(text))
  worker.on('exit', (status) => console.log(`the Worker ended with status ${status}`))
} else {
  await runMachine()
}
