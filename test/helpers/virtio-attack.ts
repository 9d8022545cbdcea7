// A driver that does its worst: registers in any order, rings full of nonsense that is nearly right.

import { setImmediate } from 'node:timers/promises'
import {
  type DescriptorChain,
  type DeviceMemory,
  VIRTIO_F,
  VIRTIO_STATUS,
  VirtioDevice,
} from '../../src/devices/index.js'
import type { Dice } from './dice.js'
import type { GuestAccess } from './puppet.js'
import { type DriverTransport, initialize } from './virtio-driver.js'
import { driverRing, ringLayout } from './virtio-rings.js'

const QUEUES = 2
const SIZE = 8
const AREA = 0x1_0000
const { version1, ringPacked, eventIdx, indirectDesc, inOrder } = VIRTIO_F

/** A device that answers late and out of order, and whose configuration is written, too. */
export class LateEcho extends VirtioDevice {
  readonly name = 'late echo'
  readonly deviceType = 63
  readonly queueSizes = [SIZE, 64]
  override readonly config = new Uint8Array(16)
  #turn = 0

  override writeConfig(offset: number, size: number, value: number): void {
    for (let i = 0; i < size && offset + i < this.config.length; i++) {
      this.config[offset + i] = value >>> (8 * i)
    }
    this.context?.configChanged()
  }

  protected override handle(chain: DescriptorChain, queueIndex: number): number | Promise<number> {
    const request = chain.readAll(4096)
    const answer = request.subarray(0, chain.writableLength)
    if (queueIndex === 1) {
      chain.write(answer)
      return answer.length
    }
    return this.#later(chain, answer)
  }

  async #later(chain: DescriptorChain, answer: Uint8Array): Promise<number> {
    for (let i = this.#turn++ % 5; i > 0; i--) await setImmediate()
    chain.write(answer)
    return answer.length
  }
}

/** Who is attacked, and from where. */
export interface HostileTarget {
  readonly access: GuestAccess
  readonly memory: DeviceMemory
  readonly driver: DriverTransport
  /** Registers to write at random. */
  readonly registers: readonly { readonly gpa: number; readonly size: number }[]
  /** 64 KiB of RAM for rings and buffers. */
  readonly gpa: number
}

function anyValue(dice: Dice, { gpa }: HostileTarget): number {
  switch (dice.below(6)) {
    case 0:
      return dice.of([0, 1, 2, 3, 4, 7, 0xf, 0x80, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff])
    case 1:
      return gpa + dice.below(AREA)
    case 2:
      return gpa + dice.below(16) * 0x1000
    case 3:
      return dice.below(SIZE + 1)
    case 4:
      return 2 ** dice.below(32)
    default:
      return dice.any()
  }
}

/** An address that a descriptor may have. */
function bufferGpa(dice: Dice, { gpa, memory }: HostileTarget): bigint {
  const end = memory.ranges.at(-1)!
  const last = end.gpa + end.size
  switch (dice.below(8)) {
    case 0:
      return BigInt(last - dice.below(64))
    case 1:
      return dice.of([0n, 0xfee0_0000n, 0xea00_0000n, 2n ** 52n, 2n ** 63n, 2n ** 64n - 8n])
    default:
      return BigInt(gpa + dice.below(AREA))
  }
}

function writeDescriptor(dice: Dice, target: HostileTarget, at: number): void {
  const { memory } = target
  const length = dice.of([0, 1, 16, 32, 64, 64, 64, 128, 4096, 4097, 0x1_0000, 0xffff_ffff])
  memory.writeU64(at, bufferGpa(dice, target))
  memory.writeU32(at + 8, length)
  memory.writeU16(at + 12, dice.below(4) > 0 ? dice.below(8) : dice.any() & 0xffff)
  memory.writeU16(at + 14, dice.below(4) > 0 ? dice.below(SIZE) : dice.any() & 0xffff)
  // The flags of a packed descriptor are where a split one has the next one's number.
  if (dice.below(2) === 0) {
    memory.writeU16(at + 14, dice.below(8) | dice.of([0, 0x80, 0x80, 0x8000, 0x8080]))
  }
}

/** Descriptors as a driver writes them, a few of them wrong, then the index that makes them available. */
function writeRing(dice: Dice, target: HostileTarget, queue: number): void {
  const { memory } = target
  const { descGpa, driverGpa } = layoutOf(target, queue, 0n)
  for (let i = 1 + dice.below(4); i > 0; i--) {
    writeDescriptor(dice, target, descGpa + dice.below(SIZE) * 16)
  }
  memory.writeU16(driverGpa + 4 + 2 * dice.below(SIZE), dice.below(SIZE + 1))
  const index = memory.readU16(driverGpa + 2)
  const step = dice.below(20) === 0 ? dice.any() : dice.below(3)
  memory.writeU16(driverGpa + 2, (index + step) & 0xffff)
}

function layoutOf({ gpa }: HostileTarget, queue: number, features: bigint) {
  const has = (bit: bigint) => (features & bit) !== 0n
  return ringLayout(gpa + queue * 0x4000, SIZE, {
    index: queue,
    packed: has(ringPacked),
    eventIdx: has(eventIdx),
    inOrder: has(inOrder),
  })
}

async function initializeSomehow(dice: Dice, target: HostileTarget): Promise<void> {
  const { driver, memory } = target
  const optional = [ringPacked, eventIdx, indirectDesc, inOrder].filter(() => dice.below(2) === 0)
  const wanted = optional.reduce((all, bit) => all | bit, version1)
  await initialize(driver, wanted, (features) =>
    Array.from({ length: QUEUES }, (_, i) => {
      const layout = layoutOf(target, i, features)
      driverRing(memory, layout)
      return dice.below(10) > 0 ? layout : { ...layout, descGpa: anyValue(dice, target) }
    }),
  )
}

const { acknowledge, driver: driverBit, featuresOk, driverOk, failed } = VIRTIO_STATUS
const STATUSES = [
  0,
  acknowledge,
  acknowledge | driverBit,
  11,
  15,
  failed,
  featuresOk,
  driverOk,
  255,
]

/** Attacks a device with so many steps. Whatever it does, it is the driver's fault only. */
export async function attack(dice: Dice, target: HostileTarget, steps: number): Promise<void> {
  const { access, memory, driver, registers, gpa } = target
  for (let i = 0; i < steps; i++) {
    switch (dice.below(24)) {
      case 0:
        await initializeSomehow(dice, target)
        break
      case 1: {
        const { gpa: base, size } = dice.of(registers)
        const width = dice.of([1, 2, 4] as const)
        const at = base + dice.below(size / width) * width
        if (dice.below(2) === 0) await access.read(at, width)
        else await access.write(at, width, anyValue(dice, target))
        break
      }
      case 2:
        if (dice.below(4) === 0) await driver.writeStatus(dice.of(STATUSES))
        break
      case 3:
        memory.writeU32(gpa + dice.below(AREA / 4) * 4, anyValue(dice, target))
        break
      case 4:
        await setImmediate()
        break
      case 5:
      case 6:
      case 7:
        await driver.notify(dice.below(QUEUES))
        break
      default:
        writeRing(dice, target, dice.below(QUEUES))
    }
  }
}

/** Sets the device up as it should be and has one request answered, on each kind of ring. */
export async function provesHealthy(
  { memory, driver, gpa }: HostileTarget,
  until: (what: string, isSo: () => boolean) => Promise<void>,
): Promise<void> {
  for (const features of [version1, version1 | ringPacked | eventIdx]) {
    const layout = ringLayout(gpa, SIZE, {
      packed: (features & ringPacked) !== 0n,
      eventIdx: (features & eventIdx) !== 0n,
    })
    const ring = driverRing(memory, layout)
    await initialize(driver, features, () => [layout])
    memory.write(gpa + 0x8000, Buffer.from('are you well?'))
    memory.fill(gpa + 0x9000, 64)
    const id = ring.add({
      readable: [{ gpa: gpa + 0x8000, length: 13 }],
      writable: [{ gpa: gpa + 0x9000, length: 64 }],
    })
    await driver.notify(0)
    let used = ring.takeUsed()
    await until('an answer', () => {
      used ??= ring.takeUsed()
      return used !== undefined
    })
    const answer = Buffer.from(memory.read(gpa + 0x9000, 13)).toString()
    if (used?.id !== id || used?.length !== 13 || answer !== 'are you well?') {
      throw new Error(`a wrong answer: ${JSON.stringify(used)} ${answer}`)
    }
  }
}
