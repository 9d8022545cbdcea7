// Rings that change while they are looked at: another thread writes what looks like descriptors and
// indices as fast as it can, and whatever the queue makes of it must be within RAM and its own limits.

import { Worker } from 'node:worker_threads'
import { expect, test } from 'vitest'
import { PackedVirtqueue, SplitVirtqueue, VirtqueueError } from '../../src/devices/index.js'
import { TestMemory } from '../helpers/device-memory.js'
import { ringLayout } from '../helpers/virtio-rings.js'

const SIZE = 8
const RING_GPA = 0x1000
const MEMORY = 0x1_0000
const ROUNDS = Number(process.env.NODE_KVM_ROUNDS ?? 60) * 100

/** Writes descriptors, some good, some bad, and moves the index on; runs until it is terminated. */
const WRITER = `
const { workerData } = require('node:worker_threads')
const { buffer, desc, avail } = workerData
const u16 = new Uint16Array(buffer), u32 = new Uint32Array(buffer)
const addresses = [0x8000, 0x9000, 0x4000, 0x5000, 0xfff8, 0xffffff00]
const lengths = [8, 16, 16, 64, 0x1000, 0x80000000]
let state = 12345
const any = (n) => { state ^= state << 13; state ^= state >>> 17; state ^= state << 5; return (state >>> 0) % n }
const flags = () => [0, 0, 2, 2, 2, 1, 4, any(8)][any(8)]
for (;;) {
  const at = desc / 4 + any(${SIZE}) * 4
  u32[at] = addresses[any(6)]
  u32[at + 1] = any(8) === 0 ? any(3) : 0
  u32[at + 2] = lengths[any(6)]
  u16[at * 2 + 6] = flags()
  u16[at * 2 + 7] = any(3) ? flags() | (any(4) ? 0x80 : 0x8000) : any(${SIZE})
  u16[avail / 2 + 2 + any(${SIZE})] = any(${SIZE} + 1)
  u16[avail / 2 + 1] = any(${SIZE} + 1)
}`

test.each([
  ['split', SplitVirtqueue, false],
  ['packed', PackedVirtqueue, true],
] as const)(
  'a %s queue under a writer',
  async (_, Queue, packed) => {
    const buffer = new SharedArrayBuffer(MEMORY)
    const memory = new TestMemory(new Uint8Array(buffer))
    const layout = ringLayout(RING_GPA, SIZE, { packed, eventIdx: true })
    const worker = new Worker(WRITER, {
      eval: true,
      workerData: { buffer, desc: layout.descGpa, avail: layout.driverGpa },
    })
    await new Promise((resolve) => worker.once('online', resolve))
    let [chains, errors] = [0, 0]
    let queue = new Queue(memory, layout)
    const deadline = Date.now() + 30_000
    const isEnough = () => chains + errors > ROUNDS && Math.min(chains, errors) > ROUNDS / 100
    while (!isEnough() && Date.now() < deadline) {
      try {
        const chain = queue.pop()
        queue.enableNotifications()
        if (chain === undefined) continue
        chains++
        for (const { gpa, length } of [...chain.readable, ...chain.writable]) {
          if (gpa + length > MEMORY) throw new Error(`${gpa}+${length} is no RAM`)
        }
        expect(queue.inFlight).toBeLessThanOrEqual(SIZE)
        // What it writes to goes to the ring itself at times.
        chain.write(chain.read(0, Math.min(64, chain.readableLength, chain.writableLength)))
        queue.push(chain, Math.min(16, chain.writableLength))
        queue.needsInterrupt()
      } catch (error) {
        if (!(error instanceof VirtqueueError)) throw error
        errors++
        // As after a reset.
        queue = new Queue(memory, layout)
      }
    }
    await worker.terminate()
    expect(chains).toBeGreaterThan(ROUNDS / 100)
    expect(errors).toBeGreaterThan(ROUNDS / 100)
  },
  60_000,
)
