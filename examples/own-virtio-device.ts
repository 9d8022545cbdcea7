// A virtio device of one's own: it gets texts and gives them back reversed, after a while. The guest is
// a driver of a few lines (guests/reverse.S); a Linux driver would find the device in just the same way.
//
//   npx tsx examples/own-virtio-device.ts

import { text } from 'node:stream/consumers'
import { setTimeout } from 'node:timers/promises'
import { Machine } from 'node-kvm'
import { type DescriptorChain, VirtioDevice } from 'node-kvm/devices'
import { image, layout } from './guests/reverse.js'

const MOST_BYTES = 4096

class Reverser extends VirtioDevice {
  readonly name = 'reverser'
  // Of no device in the specification.
  readonly deviceType = 63
  readonly queueSizes = [16]
  // What the driver reads in configuration space: here the most bytes of a request.
  override readonly config = new Uint8Array(Uint32Array.of(MOST_BYTES).buffer)

  // Requests may be served later; the queue bounds how many there are at once.
  protected override async handle(chain: DescriptorChain): Promise<number> {
    // The guest chooses how long a request is: never read without a limit.
    const request = chain.readAll(MOST_BYTES)
    await setTimeout(10)
    const answer = request.reverse().subarray(0, chain.writableLength)
    chain.write(answer)
    return answer.length
  }
}

const machine = await Machine.create({
  memory: '16M',
  boot: { flat: image, gpa: layout.gpa, entry: layout.start, mode: 'protected' },
  devices: [{ device: new Reverser(), transport: 'mmio' }],
})
const output = text(machine.serial)
await machine.run()
await machine.close()
console.log(await output)
