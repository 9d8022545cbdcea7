// Drivers that break every rule, and users who do as they like at the same time. HOSTILE_SECONDS makes it
// last, from the seed HOSTILE_SEED on.

import { setImmediate as nextTurn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { VirtioBalloon } from '../../src/devices/balloon/virtio-balloon.js'
import type { ConsolePortOptions } from '../../src/devices/console/console-port.js'
import { VirtioConsole } from '../../src/devices/console/virtio-console.js'
import type { VirtioDevice } from '../../src/devices/virtio/virtio-device.js'
import { VIRTIO_F } from '../../src/devices/virtio/virtio-numbers.js'
import { VirtioVsock } from '../../src/devices/vsock/virtio-vsock.js'
import { encodeVsock } from '../../src/devices/vsock/vsock-packet.js'
import { DeviceDriver } from '../helpers/device-driver.js'
import { Dice } from '../helpers/dice.js'

const seconds = Number(process.env.HOSTILE_SECONDS ?? 0)
const firstSeed = Number(process.env.HOSTILE_SEED ?? 1)
const SHORT_ROUNDS = 4
const STEPS = 300

/** A device, requests that it would understand, and what its user may do. */
interface Subject {
  readonly device: VirtioDevice
  request(dice: Dice): Uint8Array[]
  user(dice: Dice): void
}

const ignore = () => {}

/** A driver that takes no notice of ports that are gone leaves no room for others. */
function addPort(device: VirtioConsole, options: ConsolePortOptions): void {
  try {
    device.addPort(options)
  } catch (error) {
    expect(String(error)).toMatch(/^RangeError: a console with more than .* yet to hear of/)
  }
}

function consoleSubject(): Subject {
  const device = new VirtioConsole({ ports: [{ console: true }, { name: 'a' }, { name: 'b' }] })
  return {
    device,
    request: (dice) => {
      const bytes = Buffer.alloc(8)
      bytes.writeUInt32LE(dice.below(5))
      bytes.writeUInt16LE(dice.below(9), 4)
      bytes.writeUInt16LE(dice.below(2), 6)
      return [dice.below(2) ? bytes : dice.bytes(dice.below(3000))]
    },
    user: (dice) => {
      const port = dice.of(device.ports)
      const acts = [
        () => port?.writable && port.write(dice.bytes(dice.below(9000)), ignore),
        () => port?.read(),
        () => port?.pause(),
        () => port?.resume(),
        () => device.resize({ columns: dice.below(300), rows: dice.below(90) }),
        () => port && dice.below(4) === 0 && device.removePort(port),
        () => device.ports.length < 6 && addPort(device, { console: dice.below(2) === 0 }),
        () => dice.below(4) === 0 && port?.end(),
      ]
      dice.of(acts)()
    },
  }
}

function balloonSubject(): Subject {
  const device = new VirtioBalloon()
  return {
    device,
    request: (dice) => [dice.bytes(4 * dice.below(600))],
    user: (dice) => {
      const acts = [
        () => {
          device.target = dice.any()
        },
        () => void device.statistics().catch(ignore),
        () => void device.freePages().then(({ release }) => release(), ignore),
        () => device.writeConfig(4 * dice.below(6), dice.of([1, 2, 4]), dice.any()),
      ]
      dice.of(acts)()
    },
  }
}

function vsockSubject(): Subject {
  const device = new VirtioVsock({ maxConnections: 20 })
  device.listen(1, (socket) => socket.on('error', ignore).pipe(socket))
  device.listen(2, (socket) => socket.on('error', ignore), { type: 'seqpacket' })
  return {
    device,
    request: (dice) => {
      const payload = dice.bytes(dice.of([0, 0, 1, 100, 5000]))
      const header = encodeVsock({
        srcCid: dice.below(30) ? 3n : BigInt(dice.any()),
        dstCid: 2n,
        srcPort: dice.below(8),
        dstPort: dice.of([0, 1, 1, 2, 0xc000_0000, 0xc000_0001]),
        length: dice.below(100) ? payload.length : dice.any(),
        type: dice.below(2) + 1,
        op: dice.below(9),
        flags: dice.below(4),
        bufAlloc: dice.of([0, 1, 4096, 0xffff_ffff]),
        fwdCnt: dice.of([0, 100, dice.any()]),
      })
      return [header, payload]
    },
    user: (dice) => {
      const acts = [
        () => {
          if (device.connections >= 20) return
          const type = dice.of(['stream', 'seqpacket'] as const)
          device.connect(dice.below(8), { type, timeoutMs: 50 }).on('error', ignore).write('x')
        },
        () => device.listen(0).close(),
      ]
      dice.of(acts)()
    },
  }
}

/** Writes to a ring what no driver may. */
function ruin(driver: DeviceDriver, queue: number, dice: Dice): void {
  const { memory } = driver
  const { descGpa, driverGpa } = driver.layouts[queue]!
  const at = descGpa + 16 * dice.below(64)
  const acts = [
    () => memory.writeU64(at, BigInt(dice.of([0, dice.any(), memory.size - dice.below(9000)]))),
    () => memory.writeU32(at + 8, dice.any()),
    () => memory.writeU32(at + 12, dice.any()),
    () => memory.writeU16(driverGpa + 2 * dice.below(68), dice.below(70)),
  ]
  dice.of(acts)()
}

/** Does something that a driver can do. */
function attack(driver: DeviceDriver, subject: Subject, dice: Dice): void {
  const queues = subject.device.queueSizes.length
  const queue = dice.below(queues)
  const acts = [
    () => driver.send(queue, subject.request(dice), dice.below(2) ? [dice.below(5000)] : []),
    () => driver.send(dice.below(queues), subject.request(dice)),
    () => driver.fill(queue, dice.below(4), dice.below(5000)),
    () => driver.used(queue),
    () => driver.kick(queue),
    () => dice.below(10) === 0 && ruin(driver, queue, dice),
  ]
  try {
    dice.of(acts)()
  } catch (error) {
    // The driver's own bookkeeping does not survive what it did to the rings.
    if (!/no slot is free|the ring is full|was not available/.test(`${error}`)) throw error
  }
}

async function round(subject: Subject, seed: number): Promise<number> {
  const dice = new Dice(seed)
  let failures = 0
  for (let lives = 0; lives < 4; lives++) {
    const rings = VIRTIO_F.eventIdx | (lives % 2 === 0 ? 0n : VIRTIO_F.ringPacked)
    const features = subject.device.deviceFeatures | rings
    using driver = new DeviceDriver(subject.device, { features })
    for (let step = 0; step < STEPS; step++) {
      attack(driver, subject, dice)
      if (dice.below(4) === 0) subject.user(dice)
      if (dice.below(16) === 0) await nextTurn()
    }
    for (const error of driver.failures) expect(error).toMatchObject({ code: 'ERR_KVM_VIRTQUEUE' })
    failures += driver.failures.length
    await driver.reset()
    expect(driver.memory.lostPages).toBe(0)
  }
  await subject.device.close()
  return failures
}

test.each([
  ['console', consoleSubject],
  ['balloon', balloonSubject],
  ['vsock', vsockSubject],
])(
  'a hostile driver harms nobody: %s',
  async (name, create) => {
    const until = Date.now() + seconds * 1000
    let failures = 0
    let i = 0
    for (; i < SHORT_ROUNDS || Date.now() < until; i++) {
      failures += await round(create(), firstSeed + i).catch((cause) => {
        throw new Error(`seed ${firstSeed + i}`, { cause })
      })
    }
    if (seconds > 0) console.log(`${name}: ${i} rounds, ${failures} failures`)
    expect(failures).toBeGreaterThan(0)
  },
  60_000 + seconds * 1000,
)
