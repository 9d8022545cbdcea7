// The registers of both transports, and what becomes of a driver that does not go by the book.

import { describe, expect, test } from 'vitest'
import {
  VIRTIO_F,
  VIRTIO_STATUS,
  VirtioDevice,
  type VirtioOptions,
} from '../../src/devices/index.js'
import { TestMemory } from '../helpers/device-memory.js'
import {
  type DriverTransport,
  initialize,
  MmioDriver,
  PciDriver,
} from '../helpers/virtio-driver.js'
import { HOST_ECAM_GPA, HOST_MMIO_GPA, TestHost } from '../helpers/virtio-host.js'
import { driverRing, ringLayout } from '../helpers/virtio-rings.js'

const FEATURE = 1n << 5n
const { acknowledge, driver: driverBit, featuresOk, driverOk } = VIRTIO_STATUS
const { version1 } = VIRTIO_F

class Plain extends VirtioDevice {
  readonly name = 'plain'
  readonly deviceType = 4
  readonly queueSizes = [64, 8]
  override readonly deviceFeatures = FEATURE
  override readonly config = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)
  activations = 0
  served = 0

  override activate(): void {
    this.activations++
  }

  protected override handle(): number {
    this.served++
    return 0
  }

  change(): void {
    this.config[0] = 99
    this.context?.configChanged()
  }
}

interface Bench {
  host: TestHost
  device: Plain
  driver: DriverTransport
}

async function onPci(options?: VirtioOptions): Promise<Bench & { driver: PciDriver }> {
  const host = new TestHost(new TestMemory(0x10_0000))
  const device = new Plain()
  host.addPci(1, device, options)
  host.pci.assignBars()
  return { host, device, driver: await PciDriver.find(host, HOST_ECAM_GPA, 1) }
}

async function onMmio(options?: VirtioOptions): Promise<Bench & { driver: MmioDriver }> {
  const host = new TestHost(new TestMemory(0x10_0000))
  const device = new Plain()
  host.addMmio(device, options)
  return { host, device, driver: new MmioDriver(host, HOST_MMIO_GPA) }
}

const layouts = (host: TestHost) => () => {
  const layout = ringLayout(0x1_0000, 8)
  driverRing(host.memory, layout)
  return [layout]
}

describe.each([
  ['pci', onPci],
  ['mmio', onMmio],
] as const)('%s', (_, create) => {
  test('offers what device and options say', async () => {
    const { driver } = await create()
    const usual = FEATURE | version1 | VIRTIO_F.indirectDesc | VIRTIO_F.eventIdx
    expect(await driver.features()).toBe(usual)
    const other = await create({ packed: true, inOrder: true, indirect: false, eventIdx: false })
    const rings = VIRTIO_F.ringPacked | VIRTIO_F.inOrder
    expect(await other.driver.features()).toBe(FEATURE | version1 | rings)
  })

  test('has the queues of the device and no more', async () => {
    const { driver } = await create()
    const sizes: number[] = []
    for (const index of [0, 1, 2, 0xffff]) sizes.push(await driver.maxQueueSize(index))
    expect(sizes).toEqual([64, 8, 0, 0])
  })

  test.each([
    ['none', 0n],
    ['not version 1', FEATURE],
    ['one that was not offered', version1 | (1n << 6n)],
  ])('refuses features: %s', async (_, features) => {
    const { driver, device } = await create()
    await driver.writeStatus(acknowledge | driverBit)
    await driver.acceptFeatures(features)
    await driver.writeStatus(acknowledge | driverBit | featuresOk)
    expect(await driver.readStatus()).toBe(acknowledge | driverBit)
    await driver.writeStatus(acknowledge | driverBit | driverOk)
    expect(await driver.readStatus()).toBe(acknowledge | driverBit)
    expect(device.activations).toBe(0)
  })

  test('begins at DRIVER_OK, once, and begins anew after a reset', async () => {
    const { driver, device, host } = await create()
    await initialize(driver, FEATURE | version1, layouts(host))
    expect(device.activations).toBe(1)
    await driver.acceptFeatures(0n)
    await driver.writeStatus(0x0f)
    // Status bits are not taken back one by one.
    await driver.writeStatus(acknowledge)
    expect(await driver.readStatus()).toBe(0x0f)
    expect(device.activations).toBe(1)
    await driver.writeStatus(0)
    expect(await driver.readStatus()).toBe(0)
    expect(host.doorbellCount).toBe(0)
    await initialize(driver, version1, layouts(host))
    expect(device.activations).toBe(2)
  })

  test('serves what was notified of before DRIVER_OK', async () => {
    const { driver, device, host } = await create()
    await driver.writeStatus(acknowledge | driverBit)
    await driver.acceptFeatures(version1)
    await driver.writeStatus(acknowledge | driverBit | featuresOk)
    const layout = ringLayout(0x1_0000, 8)
    driverRing(host.memory, layout).add({ writable: [{ gpa: 0x2_0000, length: 1 }] })
    await driver.setUpQueue(0, layout)
    await driver.notify(0)
    expect(device.served).toBe(0)
    await driver.writeStatus(acknowledge | driverBit | featuresOk | driverOk)
    await host.until('the request', () => device.served === 1)
  })

  test('has rings above 4 GiB, if there is RAM', async () => {
    const { driver, host } = await create()
    const gpa = 0x1_2345_6000
    await initialize(driver, version1, () => [ringLayout(gpa, 8)])
    expect(host.failures).toHaveLength(1)
    expect(`${host.failures[0]?.error}`).toContain('the descriptor table at 0x123456000 is not RAM')
    expect((await driver.readStatus()) & VIRTIO_STATUS.needsReset).not.toBe(0)
  })

  test('shows the configuration, and tells of its change', async () => {
    const { driver, device, host } = await create()
    expect(await driver.readConfig(0, 4)).toBe(0x0403_0201)
    expect(await driver.readConfig(6, 2)).toBe(0x0807)
    // What is not writable stays as it is.
    await driver.writeConfig(0, 4, 0)
    expect(await driver.readConfig(0, 1)).toBe(1)
    await initialize(driver, version1, layouts(host))
    const generation = await driver.configGeneration()
    device.change()
    expect(await driver.configGeneration()).not.toBe(generation)
    expect(await driver.readConfig(0, 1)).toBe(99)
    expect(host.levels.filter(Boolean)).toHaveLength(1)
  })

  test('has a lower level after a reset', async () => {
    const { driver, device, host } = await create()
    await initialize(driver, version1, layouts(host))
    device.change()
    expect(host.levels.filter(Boolean)).toHaveLength(1)
    await driver.writeStatus(0)
    expect(host.levels.filter(Boolean)).toHaveLength(0)
  })
})

describe('the PCI function', () => {
  test('is a modern virtio device', async () => {
    const { driver } = await onPci()
    expect(await driver.readPci(0, 4)).toBe(0x1044_1af4)
    expect(await driver.readPci(8, 1)).toBe(1)
    expect(await driver.readPci(0x2c, 4)).toBe(0x0044_1af4)
    expect(await driver.readPci(0x3d, 1)).toBe(1)
    // As many vectors as queues, and one more.
    expect(await driver.readPci(driver.at.msixAt + 2, 2)).toBe(2)
  })

  test('takes its level back when the ISR status is read', async () => {
    const { driver, device, host } = await onPci()
    await initialize(driver, version1, layouts(host))
    device.change()
    expect(await host.read(driver.at.isr, 1)).toBe(2)
    expect(host.levels.filter(Boolean)).toHaveLength(0)
    expect(await host.read(driver.at.isr, 1)).toBe(0)
  })

  test('refuses vectors that it does not have', async () => {
    const { driver } = await onPci()
    const COMMON = { configVector: 0x10, queueSelect: 0x16, queueVector: 0x1a } as const
    for (const [written, read] of [
      [0, 0],
      [2, 2],
      [3, 0xffff],
      [0xffff, 0xffff],
    ] as const) {
      await driver.write(COMMON.configVector, 2, written)
      expect(await driver.read(COMMON.configVector, 2)).toBe(read)
      await driver.write(COMMON.queueSelect, 2, 1)
      await driver.write(COMMON.queueVector, 2, written)
      expect(await driver.read(COMMON.queueVector, 2)).toBe(read)
    }
  })

  test('interrupts by the vectors that the driver chose', async () => {
    const { driver, device, host } = await onPci()
    await driver.useMsix(0x40, 2)
    await initialize(driver, version1, layouts(host))
    device.change()
    // None was chosen.
    expect(host.interrupts).toBe(0)
    await driver.chooseVectors(2)
    device.change()
    expect(host.interrupts).toBe(1)
    expect(host.levels.filter(Boolean)).toHaveLength(0)
  })

  test('is reached through configuration space alone', async () => {
    const { driver, device, host } = await onPci()
    await initialize(driver, version1, layouts(host))
    device.change()
    const cap = driver.at.accessAt
    const access = async (offset: number, length: number) => {
      await driver.writePci(cap + 4, 1, 0)
      await driver.writePci(cap + 8, 4, offset)
      await driver.writePci(cap + 12, 4, length)
    }
    await access(0x2000, 4)
    expect(await driver.readPci(cap + 16, 4)).toBe(0x0403_0263)
    await access(0x1000, 1)
    // Looking at the capability is no access yet.
    expect(await driver.readPci(cap + 8, 4)).toBe(0x1000)
    expect(await driver.readPci(cap + 16, 1)).toBe(2)
    expect(await driver.readPci(cap + 16, 1)).toBe(0)
    await access(0x14, 1)
    await driver.writePci(cap + 16, 4, 0)
    expect(await driver.readStatus()).toBe(0)
    for (const [offset, length] of [
      [0x4000, 1],
      [1, 2],
      [0, 3],
      [0xffff_fffc, 4],
    ] as const) {
      await access(offset, length)
      await driver.writePci(cap + 16, 4, 0xffff_ffff)
      await driver.readPci(cap + 16, 4)
    }
    expect(await driver.readStatus()).toBe(0)
  })
})

describe('the registers in memory', () => {
  test('say what they are', async () => {
    const { driver } = await onMmio()
    const words: number[] = []
    for (const offset of [0, 4, 8, 0xc]) words.push(await driver.read(offset))
    expect(words).toEqual([0x7472_6976, 2, 4, 0x1af4])
    // No shared memory region has a length.
    expect(await driver.read(0xb0)).toBe(0xffff_ffff)
  })

  test('acknowledge an interrupt', async () => {
    const { driver, device, host } = await onMmio()
    await initialize(driver, version1, layouts(host))
    device.change()
    expect(await driver.read(0x60)).toBe(2)
    await driver.write(0x64, 1)
    expect(host.levels.filter(Boolean)).toHaveLength(1)
    await driver.write(0x64, 2)
    expect(host.levels.filter(Boolean)).toHaveLength(0)
    expect(await driver.read(0x60)).toBe(0)
  })

  test('take a queue back before DRIVER_OK', async () => {
    const { driver, host } = await onMmio()
    await driver.setUpQueue(0, layouts(host)()[0]!)
    expect(await driver.read(0x44)).toBe(1)
    await driver.write(0x44, 0)
    expect(await driver.read(0x44)).toBe(0)
  })
})

describe('a device that cannot be', () => {
  const broken = (change: object) => Object.assign(new Plain(), change)

  test.each([
    [{ queueSizes: [3] }, 'a power of two'],
    [{ queueSizes: [0] }, 'a power of two'],
    [{ queueSizes: [0x1_0000] }, 'a power of two'],
    [{ queueSizes: new Array(1025).fill(1) }, 'at most 1024 queues'],
    [{ deviceType: 0 }, 'device types'],
    [{ deviceType: 64 }, 'device types'],
    [{ deviceFeatures: VIRTIO_F.eventIdx }, 'feature bits'],
  ])('is refused: %o', (change, message) => {
    const host = new TestHost(new TestMemory(0x1000))
    expect(() => host.addPci(1, broken(change))).toThrow(message)
    expect(() => host.addMmio(broken(change))).toThrow(message)
  })
})
