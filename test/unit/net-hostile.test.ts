// A driver that writes anything into the rings of a network device served natively, while frames come
// from a TAP: the thread breaks off or goes on, ends when it is told to, and the TAP serves the next.
// HOSTILE_SEED picks the first round, HOSTILE_SECONDS how long.

import { setImmediate } from 'node:timers/promises'
import { beforeEach, expect, test } from 'vitest'
import { EventFd, GuestMemory } from '../../src/index.js'
import { Tap } from '../../src/io/index.js'
import { NetWorker } from '../../src/io/net-worker.js'
import { Dice } from '../helpers/dice.js'
import { noTapReason, TapInterface } from '../helpers/tap-interface.js'
import { driverRing, ringLayout } from '../helpers/virtio-rings.js'

const ROUNDS = 12
const STEPS = 1500
const RANGES = [
  { gpa: 0, size: 0x10_0000 },
  { gpa: 0x1_0000_0000, size: 0x10_0000 },
]
const RINGS = [0x1_0000, 0x2_0000]

const missing = noTapReason()
beforeEach((context) => {
  if (missing !== undefined) context.skip(missing)
})

/** A worker on fresh rings. */
function startWorker(memory: GuestMemory, tap: Tap, random: () => number) {
  const kicks = [EventFd.create(), EventFd.create()] as const
  const call = EventFd.create()
  const options = {
    packed: random() < 0.5,
    eventIdx: random() < 0.5,
    indirect: random() < 0.7,
    inOrder: random() < 0.3,
  }
  const size = 2 ** Math.floor(random() * 9)
  const layouts = RINGS.map((gpa, index) => ringLayout(gpa, size, { ...options, index }))
  let broken = false
  const setups = layouts.map((layout, i) => ({ ...layout, kick: kicks[i]!.id, call: call.id }))
  const worker = new NetWorker({
    memory,
    tap: tap.queue(0),
    receive: setups[0]!,
    transmit: setups[1]!,
    receiveLimits: {},
    transmitLimits: {},
    mergeable: random() < 0.6,
    link: random() < 0.9,
    onBroken: () => {
      broken = true
    },
    onGone: () => {
      throw new Error('the TAP is gone')
    },
  })
  const stop = async () => {
    await worker.stop()
    for (const each of [...kicks, call]) each.close()
  }
  return { worker, kicks, layouts, options, stop, isBroken: () => broken }
}

/** Something near what a driver would write, or not. */
function scribble(
  memory: GuestMemory,
  size: number,
  gpa: number,
  packed: boolean,
  r: () => number,
) {
  const at = gpa + 16 * Math.floor(r() * size)
  const address = r() < 0.9 ? Math.floor(r() * 0x11_0000) : 0x1_0000_0000 + r() * 0x12_0000
  const length = r() < 0.9 ? Math.floor(r() * 2000) : Math.floor(r() * 2 ** 32)
  const flags = r() < 0.9 ? Math.floor(r() * 8) : Math.floor(r() * 0x1_0000)
  memory.writeU64(at, r() < 0.99 ? BigInt(Math.floor(address)) : 2n ** 64n - 5n)
  memory.writeU32(at + 8, length)
  const whose = packed ? (r() < 0.5 ? 1 << 7 : 1 << 15) : 0
  const last = Math.floor(r() * (r() < 0.95 ? size : 0x1_0000))
  memory.writeU16(at + (packed ? 12 : 14), last)
  memory.writeU16(at + (packed ? 14 : 12), (flags | whose) & 0xffff)
}

async function hostileRound(
  memory: GuestMemory,
  tap: Tap,
  random: () => number,
  noise: () => void,
) {
  memory.fill(0, 0x10_0000)
  const { kicks, layouts, options, stop, isBroken } = startWorker(memory, tap, random)
  for (let i = 0; i < STEPS; i++) {
    const which = random() < 0.5 ? 0 : 1
    const { size, descGpa, driverGpa } = layouts[which]!
    scribble(memory, size, descGpa, options.packed, random)
    if (!options.packed && random() < 0.5) {
      const index = memory.readU16(driverGpa + 2)
      memory.writeU16(driverGpa + 4 + 2 * (index % size), Math.floor(random() * size))
      const ahead = random() < 0.98 ? 1 : Math.floor(random() * 0x1_0000)
      memory.writeU16(driverGpa + 2, (index + ahead) & 0xffff)
    }
    if (random() < 0.02) memory.writeU32(driverGpa, Math.floor(random() * 2 ** 32))
    if (random() < 0.3) kicks[which]!.signal()
    if (random() < 0.1) noise()
    if (i % 100 === 0) await setImmediate()
  }
  await setImmediate()
  await stop()
  return isBroken()
}

/** A driver that keeps to the rules gets its frames to the host after all that. */
async function goodRound(memory: GuestMemory, tap: Tap, host: TapInterface) {
  const socket = await host.socket()
  const got: Uint8Array[] = []
  socket.on('message', (message) => got.push(message))
  // The thread looks into the rings at once.
  memory.fill(0, 0x10_0000)
  const { kicks, layouts, stop } = startWorker(memory, tap, () => 0.45)
  const ring = driverRing(memory, layouts[1]!)
  driverRing(memory, layouts[0]!)
  const frame = host.datagram(new Uint8Array([1, 2, 3]), socket.address().port)
  memory.write(0x5_0000, new Uint8Array(12))
  memory.write(0x5_0000 + 12, frame)
  ring.add({ readable: [{ gpa: 0x5_0000, length: 12 + frame.length }] })
  kicks[1].signal()
  while (got.length === 0) await setImmediate()
  expect(Array.from(got[0]!)).toEqual([1, 2, 3])
  await stop()
  socket.close()
}

test(
  'rings of a hostile driver',
  async () => {
    const seconds = Number(process.env.HOSTILE_SECONDS ?? 0)
    const first = Number(process.env.HOSTILE_SEED ?? 1)
    using host = new TapInterface()
    using tap = Tap.open(host.name)
    using memory = GuestMemory.create(RANGES)
    const noise = await host.socket()
    const began = performance.now()
    let broken = 0
    let round = 0
    for (; round < ROUNDS || performance.now() - began < seconds * 1000; round++) {
      const dice = new Dice(first + round)
      const random = () => dice.below(2 ** 30) / 2 ** 30
      const send = () => noise.send(new Uint8Array(Math.floor(random() * 1400)), 9, host.guest)
      if (await hostileRound(memory, tap, random, send)) broken++
      await goodRound(memory, tap, host)
    }
    noise.close()
    if (seconds > 0) console.log(`${round} rounds, ${broken} broken`)
    expect(broken).toBeGreaterThan(0)
  },
  60_000 + Number(process.env.HOSTILE_SECONDS ?? 0) * 1000,
)
