// Machines with virtio devices in them: reset, pause, close, at any time, and what is left afterwards.

import { setTimeout } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import {
  type DescriptorChain,
  VIRTIO_F,
  VIRTIO_STATUS,
  VirtioDevice,
  VirtioRng,
  VirtqueueError,
} from '../../src/devices/index.js'
import { Machine } from '../../src/index.js'
import { eventFdCount, openKvmFiles } from '../helpers/process-state.js'
import { EDGE_VECTOR, PUPPET_FREE_GPA, Puppet } from '../helpers/puppet.js'
import { initialize, MmioDriver, PciDriver } from '../helpers/virtio-driver.js'
import { driverRing, ringLayout } from '../helpers/virtio-rings.js'

const ECAM_GPA = 0xe800_0000
const MMIO_GPA = 0xea00_0000
const layout = ringLayout(PUPPET_FREE_GPA, 16)
const BUFFER_GPA = PUPPET_FREE_GPA + 0x10_0000
const { version1 } = VIRTIO_F

/** Answers when it is told to; counts what happens to it. */
class Patient extends VirtioDevice {
  readonly name = 'patient'
  readonly deviceType = 62
  readonly queueSizes = [16]
  readonly asked: DescriptorChain[] = []
  resets = 0
  closes = 0
  releaseReset: Promise<void> | undefined
  #answers: (() => void)[] = []

  protected override async handle(chain: DescriptorChain): Promise<number> {
    this.asked.push(chain)
    await new Promise<void>((resolve) => this.#answers.push(resolve))
    chain.write(Uint8Array.of(1, 2, 3))
    return 3
  }

  answer(): void {
    for (const each of this.#answers.splice(0)) each()
  }

  override reset(): void | Promise<void> {
    this.resets++
    return this.releaseReset
  }

  override close(): void {
    this.closes++
  }
}

const request = { writable: [{ gpa: BUFFER_GPA, length: 8 }] }

async function startPatient() {
  const device = new Patient()
  const puppet = await Puppet.start({ devices: [{ device, transport: 'mmio' }, new VirtioRng()] })
  const driver = new MmioDriver(puppet, MMIO_GPA)
  const { memory } = puppet.machine
  const setUp = async () => {
    const ring = driverRing(memory, layout)
    await initialize(driver, version1, () => [layout])
    return ring
  }
  const ring = await setUp()
  ring.add(request)
  await driver.notify(0)
  await puppet.until('the request', () => device.asked.length === 1)
  return { device, puppet, driver, memory, ring, setUp }
}

describe('a device with a request under way', () => {
  test('is reset by its driver: the late answer reaches nobody, the next one its driver', async () => {
    const { device, puppet, driver, memory, setUp } = await startPatient()
    await using _ = puppet
    const resets = device.resets
    const ring = await setUp()
    expect(device.resets).toBe(resets + 1)
    memory.fill(BUFFER_GPA, 8, 0xee)
    device.answer()
    await setTimeout(5)
    expect(ring.takeUsed()).toBeUndefined()
    expect(memory.readU8(BUFFER_GPA)).toBe(0xee)
    ring.add(request)
    await driver.notify(0)
    await puppet.until('the next request', () => device.asked.length === 2)
    device.answer()
    await setTimeout(5)
    expect(ring.takeUsed()?.length).toBe(3)
  })

  test('holds up the access that resets it until it has let go', async () => {
    const { device, puppet, driver } = await startPatient()
    await using _ = puppet
    let release!: () => void
    device.releaseReset = new Promise((resolve) => {
      release = resolve
    })
    let done = false
    const reset = driver.writeStatus(0).then(() => {
      done = true
    })
    await setTimeout(20)
    expect(done).toBe(false)
    release()
    await reset
    expect(await driver.readStatus()).toBe(0)
  })

  test('is waited for by a pause, and works on after it', async () => {
    const { device, puppet, driver, memory, ring } = await startPatient()
    await using _ = puppet
    let paused = false
    const pause = puppet.machine.pause().then(() => {
      paused = true
    })
    await setTimeout(20)
    expect(paused).toBe(false)
    device.answer()
    await pause
    expect(memory.readU8(BUFFER_GPA)).toBe(1)
    ring.takeUsed()
    // What comes meanwhile waits.
    ring.add(request)
    await setTimeout(20)
    expect(device.asked).toHaveLength(1)
    puppet.machine.resume()
    await puppet.until('the request', () => device.asked.length === 2)
    device.answer()
    await driver.readStatus()
  })

  test('is closed with its machine, once, and nothing is left', async () => {
    const before = eventFdCount()
    const { device, puppet } = await startPatient()
    await puppet.machine.close()
    await puppet.machine.close()
    expect(device.closes).toBe(1)
    device.answer()
    await setTimeout(5)
    expect(eventFdCount()).toBe(before)
  })
})

test('a machine that is reset resets its devices, and their drivers find them again', async () => {
  const { device, puppet, memory, ring } = await startPatient()
  await using _ = puppet
  device.answer()
  await puppet.until('an answer', () => ring.takeUsed() !== undefined)
  const resets = device.resets
  const isBack = new Promise((resolve) => puppet.machine.once('reset', () => resolve(undefined)))
  puppet.machine.reset()
  await isBack
  expect(device.resets).toBe(resets + 1)
  const rng = await PciDriver.find(puppet, ECAM_GPA, 1)
  await rng.useMsix(EDGE_VECTOR, 1)
  await rng.writeStatus(0)
  await rng.chooseVectors(1)
  const again = driverRing(memory, layout)
  const bits = VIRTIO_STATUS.acknowledge | VIRTIO_STATUS.driver
  await rng.writeStatus(bits)
  await rng.acceptFeatures(version1)
  await rng.writeStatus(bits | VIRTIO_STATUS.featuresOk)
  await rng.setUpQueue(0, layout)
  await rng.writeStatus(bits | VIRTIO_STATUS.featuresOk | VIRTIO_STATUS.driverOk)
  again.add(request)
  await rng.notify(0)
  await puppet.until('an interrupt', () => puppet.interrupts(EDGE_VECTOR) === 1)
  expect(again.takeUsed()?.length).toBe(8)
})

/** Fails as a device's author may let it fail. */
class Faulty extends Patient {
  protected override async handle(): Promise<number> {
    throw new TypeError('my own fault')
  }
}

describe('a device that cannot go on', () => {
  test.each([
    ['by its own fault', request, 'my own fault'],
    ['by its driver', { writable: [{ gpa: 2 ** 40, length: 8 }] }, 'is not RAM'],
  ])('%s says so, and works again after a reset', async (_, wrong, message) => {
    const device = message.includes('own') ? new Faulty() : new Patient()
    await using puppet = await Puppet.start({ devices: [{ device, transport: 'mmio' }] })
    const failures: [VirtioDevice, unknown][] = []
    puppet.machine.on('deviceFailed', (...failure) => failures.push(failure))
    const driver = new MmioDriver(puppet, MMIO_GPA)
    const ring = driverRing(puppet.machine.memory, layout)
    await initialize(driver, version1, () => [layout])
    ring.add(wrong)
    await driver.notify(0)
    await puppet.until('the failure', () => failures.length === 1)
    expect(failures[0]?.[0]).toBe(device)
    expect(String(failures[0]?.[1])).toContain(message)
    expect(failures[0]?.[1] instanceof VirtqueueError).toBe(!message.includes('own'))
    expect((await driver.readStatus()) & VIRTIO_STATUS.needsReset).toBe(VIRTIO_STATUS.needsReset)
    // The configuration interrupt tells of it.
    expect(await driver.read(0x60)).toBe(2)
    ring.add(request)
    await driver.notify(0)
    await setTimeout(5)
    expect(device.asked).toHaveLength(0)
    await driver.writeStatus(0)
    expect(await driver.readStatus()).toBe(0)
  })
})

test('a machine that cannot be created closes the devices it was given', async () => {
  const devices = [new Patient(), new Patient()]
  const boot = { kernel: '/nonexistent' }
  await expect(Machine.create({ boot, devices })).rejects.toThrow('ENOENT')
  const twice = devices.map((device) => ({ device, slot: 3 }))
  const flat = { flat: Uint8Array.of(0xf4), gpa: 0x1000, mode: 'real' } as const
  // Memory goes when the last view of it is collected.
  const files = () => openKvmFiles().filter((name) => !name.includes('memfd'))
  const before = files()
  await expect(Machine.create({ boot: flat, devices: twice })).rejects.toThrow('slot 3.0 is taken')
  await expect(Machine.create({ boot: flat, cpus: 0, devices })).rejects.toThrow('cpus')
  expect(devices.map(({ closes }) => closes)).toEqual([3, 3])
  expect(files()).toEqual(before)
})
