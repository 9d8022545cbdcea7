// Receive buffers of more than one descriptor: a queue holds fewer of them than it has entries, and a frame
// that is too large for all of them must not wait for one that can never come.

import { setImmediate } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { ReceiveBuffers } from '../../src/devices/net/receive-buffers.js'
import { PackedVirtqueue } from '../../src/devices/virtio/packed-virtqueue.js'
import { SplitVirtqueue } from '../../src/devices/virtio/split-virtqueue.js'
import { EventFd, GuestMemory } from '../../src/index.js'
import { Tap } from '../../src/io/index.js'
import { NetWorker } from '../../src/io/net-worker.js'
import { udpPayload } from '../helpers/frames.js'
import { noTapReason, TapInterface } from '../helpers/tap-interface.js'
import { driverRing, ringLayout } from '../helpers/virtio-rings.js'

const SIZE = 8
const PARTS = 3
const PART = 100
/** Two entries stay free, which are not enough for another. */
const BUFFERS = Math.floor(SIZE / PARTS)
const BUFFER = PARTS * PART
const DATA = 0x4_0000

/** A driver that has given all the buffers it can. */
function fullQueue(memory: GuestMemory, packed: boolean) {
  const layout = ringLayout(0x1_0000, SIZE, { packed, eventIdx: true })
  const ring = driverRing(memory, layout)
  const give = () => {
    const at = DATA + 0x1000 * given++
    const writable = Array.from({ length: PARTS }, (_, i) => ({ gpa: at + i * PART, length: PART }))
    expect(ring.add({ writable })).toBeDefined()
    return at
  }
  let given = 0
  for (let i = 0; i < BUFFERS; i++) give()
  expect(ring.add({ writable: Array(PARTS).fill({ gpa: DATA, length: PART }) })).toBeUndefined()
  return { layout, ring }
}

test.each([false, true])('served in JavaScript; packed: %s', (packed) => {
  using memory = GuestMemory.create(0x10_0000)
  const { layout, ring } = fullQueue(memory, packed)
  const queue = new (packed ? PackedVirtqueue : SplitVirtqueue)(memory, layout)
  const buffers = new ReceiveBuffers(queue, true)
  expect(buffers.put(new Uint8Array(BUFFERS * BUFFER))).toBe('tooLarge')
  expect(buffers.put(new Uint8Array(BUFFER).fill(7))).toBe('done')
  expect(ring.takeUsed()?.length).toBe(BUFFER)
  expect(ring.takeUsed()?.length).toBe(12)
  expect(memory.read(DATA + 12, 5)).toEqual(new Uint8Array(5).fill(7))
  expect(buffers.put(new Uint8Array(10))).toBe('later')
})

const missing = noTapReason()

test.for([false, true])('served natively; packed: %s', async (packed, context) => {
  if (missing !== undefined) context.skip(missing)
  using memory = GuestMemory.create(0x10_0000)
  using host = new TapInterface()
  using tap = Tap.open(host.name)
  const socket = await host.socket()
  const { layout, ring } = fullQueue(memory, packed)
  const other = ringLayout(0x2_0000, SIZE, { packed, eventIdx: true })
  driverRing(memory, other)
  const [kick, otherKick, call] = [EventFd.create(), EventFd.create(), EventFd.create()]
  const worker = new NetWorker({
    ...{ memory, tap: tap.queue(0), mergeable: true, link: true },
    receive: { ...layout, kick: kick.id, call: call.id },
    transmit: { ...other, kick: otherKick.id, call: call.id },
    receiveLimits: {},
    transmitLimits: {},
    onBroken: () => expect.unreachable(),
    onGone: () => expect.unreachable(),
  })
  const small = new Uint8Array(20).fill(7)
  // Again and again: what is sent before the host has noticed that the TAP is there is lost.
  const send = () => {
    socket.send(new Uint8Array(BUFFERS * BUFFER), 7, host.guest)
    socket.send(small, 7, host.guest)
  }
  send()
  const sending = setInterval(send, 200)
  // Other frames may come in between, which the host sends by itself.
  let found: Uint8Array | undefined
  for (let at = DATA; found === undefined; ) {
    const used = ring.takeUsed()
    if (used === undefined) {
      await setImmediate()
      continue
    }
    const payload = udpPayload(memory.read(at + 12, used.length - 12))
    if (payload !== undefined && Buffer.compare(payload, small) === 0) found = payload
    at += 0x1000
    const writable = Array.from({ length: PARTS }, (_, i) => ({
      gpa: at + 0x1000 * (BUFFERS - 1) + i * PART,
      length: PART,
    }))
    ring.add({ writable })
    kick.signal()
  }
  clearInterval(sending)
  expect(found).toEqual(small)
  expect(worker.counts[2]).toBeGreaterThanOrEqual(1)
  await worker.stop()
  socket.close()
  for (const each of [kick, otherKick, call]) each.close()
})
