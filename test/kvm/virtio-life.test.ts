// Machines with virtio devices in them: reset, pause, close, at any time, and what is left afterwards.

import { setTimeout } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import {
  type DescriptorChain,
  PciFunction,
  type QueueSetup,
  VIRTIO_F,
  VIRTIO_STATUS,
  VirtioBalloon,
  type VirtioContext,
  VirtioDevice,
  VirtioRng,
  VirtqueueError,
} from '../../src/devices/index.js'
import { EventFd, Machine } from '../../src/index.js'
import { openKvmFiles } from '../helpers/process-state.js'
import { EDGE_VECTOR, PUPPET_FREE_GPA, Puppet } from '../helpers/puppet.js'
import {
  type DriverTransport,
  initialize,
  MmioDriver,
  PciDriver,
} from '../helpers/virtio-driver.js'
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

  test('is closed with its machine, once', async () => {
    const { device, puppet } = await startPatient()
    await Promise.all([puppet.machine.close(), puppet.machine.close()])
    await puppet.machine.close()
    expect(device.closes).toBe(1)
    device.answer()
    await setTimeout(5)
  })
})

/** Never lets go. */
class Stuck extends Patient {
  override reset(): Promise<void> {
    return new Promise(() => {})
  }
}

/** Lets go, but never gives back what it has. */
class Unclosing extends Patient {
  override close(): Promise<void> {
    return new Promise(() => {})
  }
}

describe('a device that never lets go', () => {
  test('does not keep its machine from being closed, and is told of', async () => {
    const devices = [new Stuck(), new Unclosing(), new Patient()]
    const puppet = await Puppet.start({ devices })
    const failed: [VirtioDevice, unknown][] = []
    puppet.machine.on('deviceFailed', (...failure) => failed.push(failure))
    await puppet.machine.close()
    expect(puppet.machine.state).toBe('closed')
    expect(failed.map(([device]) => device)).toEqual(devices.slice(0, 2))
    for (const [, error] of failed) expect(error).toMatchObject({ code: 'ERR_KVM_DEVICE_STUCK' })
    expect(devices[2]!.closes).toBe(1)
  })

  test.each(['the driver', 'the machine'])(
    'does not keep a run from ending, reset by %s',
    async (who) => {
      const puppet = await Puppet.start({ devices: [{ device: new Stuck(), transport: 'mmio' }] })
      if (who === 'the machine') puppet.machine.reset()
      else new MmioDriver(puppet, MMIO_GPA).writeStatus(0).catch(() => {})
      await setTimeout(50)
      await puppet.machine.stop()
      expect(await puppet.ended).toEqual({ reason: 'stopped' })
      puppet.machine.on('deviceFailed', () => {})
      await puppet.machine.close()
    },
  )

  test('may do so when its machine is gone', async () => {
    const { device, puppet, driver } = await startPatient()
    let release!: () => void
    device.releaseReset = new Promise((resolve) => {
      release = resolve
    })
    driver.writeStatus(0).catch(() => {})
    puppet.machine.on('deviceFailed', () => {})
    await puppet.machine.close()
    release()
    await setTimeout(20)
    expect(device.closes).toBe(1)
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
  await initializeWithoutReset(rng)
  again.add(request)
  await rng.notify(0)
  await puppet.until('an interrupt', () => puppet.interrupts(EDGE_VECTOR) === 1)
  expect(again.takeUsed()?.length).toBe(8)
})

/** Gives its queue away. */
class Elsewhere extends Patient {
  setup: QueueSetup | undefined

  override activate(context: VirtioContext): void {
    this.setup = context.handOver(0)
    expect(context.queues[0]).toBeUndefined()
  }
}

describe('a queue that was handed over', () => {
  test.each(['pci', 'mmio'] as const)(
    'is rung and interrupts by eventfds, %s',
    async (transport) => {
      const device = new Elsewhere()
      await using puppet = await Puppet.start({ devices: [{ device, transport }] })
      const driver =
        transport === 'pci'
          ? await PciDriver.find(puppet, ECAM_GPA, 1)
          : new MmioDriver(puppet, MMIO_GPA)
      if (driver instanceof PciDriver) await driver.useMsix(EDGE_VECTOR, 1)
      await driver.writeStatus(0)
      if (driver instanceof PciDriver) await driver.chooseVectors(1)
      await initializeWithoutReset(driver)
      const { kick, call, ...rest } = device.setup!
      expect(rest).toEqual({ ...layout, indirect: false })
      using bell = EventFd.fromId(kick)
      await driver.notify(0)
      expect(bell.consume()).toBe(1)
      EventFd.fromId(call).signal()
      if (driver instanceof MmioDriver) {
        await setTimeout(20)
        expect(await driver.read(0x60)).toBe(1)
      } else {
        await puppet.until('an interrupt', () => puppet.interrupts(EDGE_VECTOR) === 1)
      }
      await driver.writeStatus(0)
      // No bell outlives the set-up.
      expect(() => bell.consume()).toThrow('closed')
      expect(device.asked).toHaveLength(0)
    },
  )
})

async function initializeWithoutReset(driver: DriverTransport): Promise<void> {
  const bits = VIRTIO_STATUS.acknowledge | VIRTIO_STATUS.driver
  await driver.writeStatus(bits)
  await driver.acceptFeatures(version1)
  await driver.writeStatus(bits | VIRTIO_STATUS.featuresOk)
  await driver.setUpQueue(0, layout)
  await driver.writeStatus(bits | VIRTIO_STATUS.featuresOk | VIRTIO_STATUS.driverOk)
}

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
  // Memory goes when the last view of it is collected.
  const files = () => openKvmFiles().filter((name) => !name.includes('memfd'))
  const before = files()
  const flat = { flat: Uint8Array.of(0xf4), gpa: 0x1000, mode: 'real' } as const
  const two = () => [new Patient(), new Patient()]
  const refused = async (devices: Patient[], message: string, options: object) => {
    const create = Machine.create({ boot: flat, devices, ...options })
    await expect(create).rejects.toThrow(message)
    expect(devices.map(({ closes }) => closes)).toEqual([1, 1])
  }
  await refused(two(), 'ENOENT', { boot: { kernel: '/nonexistent' } })
  await refused(two(), 'cpus', { cpus: 0 })
  const same = two()
  const devices = same.map((device) => ({ device, slot: 3 }))
  await refused(same, 'slot 3.0 is taken', { devices })
  expect(files()).toEqual(before)
})

test('a machine that was run takes no more devices, and says so', async () => {
  const options = { vendorId: 0x1234, deviceId: 1, classCode: 0xff0000 } as const
  const late = () => new PciFunction({ ...options, name: 'late' })
  const balloon = new VirtioBalloon()
  await using puppet = await Puppet.start({ devices: [balloon] })
  const { machine } = puppet
  expect(machine.balloon).toBe(balloon)
  const refusal = {
    name: 'HotPlugError',
    code: 'ERR_KVM_NO_HOTPLUG',
    message: expect.stringMatching(/^late: /),
  }
  expect(() => machine.pci.add(9, late())).toThrow(expect.objectContaining(refusal))
  await machine.close()
  expect(() => machine.pci.add(9, late())).toThrow(expect.objectContaining(refusal))
  await using other = await Machine.create({
    boot: { flat: Uint8Array.of(0xf4), gpa: 0x1000, mode: 'real' },
  })
  other.pci.add(9, late())
  expect(other.balloon).toBeUndefined()
})

test('a device belongs to one machine', async () => {
  const boot = { flat: Uint8Array.of(0xf4), gpa: 0x1000, mode: 'real' } as const
  const device = new Patient()
  await using machine = await Machine.create({ boot, devices: [device] })
  await expect(Machine.create({ boot, devices: [device] })).rejects.toThrow('is in use already')
  const other = new Patient()
  const twice = Machine.create({ boot, devices: [other, other] })
  await expect(twice).rejects.toThrow('is in use already')
  expect([device.closes, other.closes]).toEqual([0, 0])
  expect(machine.state).toBe('created')
})
