// Two machines on one switch of this process: the left one sends a frame, the right one answers it. What
// passed is in a capture that Wireshark reads.
//
//   npx tsx examples/switch.ts [CAPTURE.pcap]

import { createWriteStream } from 'node:fs'
import { EthernetSwitch } from 'node-kvm/devices'
import { ethernet, frameGuest } from './frame-guest.js'

/** For experiments, says IEEE 802. */
const TYPE = 0x88b5
const HEADER = 14
const LEFT = '52:54:00:00:00:01'
const RIGHT = '52:54:00:00:00:02'

const text = (content: string) => Buffer.alloc(46).fill(content, 0, content.length)
const bridge = new EthernetSwitch()
const { 2: path } = process.argv
if (path !== undefined) bridge.capture().pipe(createWriteStream(path))

const left = await frameGuest(bridge.port(), {
  mac: LEFT,
  frame: ethernet(RIGHT, LEFT, TYPE, text('ping')),
  sends: 'first',
})
const right = await frameGuest(bridge.port(), {
  mac: RIGHT,
  frame: ethernet(LEFT, RIGHT, TYPE, text('pong')),
  sends: 'asAnswer',
})

async function show(name: string, frames: AsyncIterator<Uint8Array, never>): Promise<void> {
  const { value } = await frames.next()
  const content = Buffer.from(value.subarray(HEADER)).toString()
  console.log(`${name} gets ${content.replaceAll('\0', '')}`)
}

// A guest that nobody listens to yet misses what is sent: the one that answers is first.
const runs = [right.machine.run(), left.machine.run()]
await show('right', right.frames)
await show('left', left.frames)
await Promise.all([left.machine.close(), right.machine.close()])
await Promise.all(runs)
