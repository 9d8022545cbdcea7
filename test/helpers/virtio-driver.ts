// A driver's way to its device over both transports, step by step as virtio 1.2 §3.1 has it.

import { type QueueLayout, VIRTIO_STATUS } from '../../src/devices/index.js'
import type { GuestAccess } from './puppet.js'

/** The registers of a device, whatever bus it is on. */
export interface DriverTransport {
  readStatus(): Promise<number>
  writeStatus(value: number): Promise<void>
  /** All 64 bits that the device offers. */
  features(): Promise<bigint>
  acceptFeatures(features: bigint): Promise<void>
  /** 0 where there is no such queue. */
  maxQueueSize(index: number): Promise<number>
  setUpQueue(index: number, layout: QueueLayout): Promise<void>
  notify(index: number): Promise<void>
  readConfig(offset: number, size: 1 | 2 | 4): Promise<number>
  writeConfig(offset: number, size: 1 | 2 | 4, value: number): Promise<void>
  configGeneration(): Promise<number>
}

/**
 * Brings a device to DRIVER_OK with those of the wanted features that it has.
 *
 * @returns the features agreed on
 */
export async function initialize(
  transport: DriverTransport,
  wanted: bigint,
  layouts: (features: bigint) => readonly QueueLayout[],
): Promise<bigint> {
  const { acknowledge, driver, featuresOk, driverOk } = VIRTIO_STATUS
  await transport.writeStatus(0)
  while ((await transport.readStatus()) !== 0);
  await transport.writeStatus(acknowledge)
  await transport.writeStatus(acknowledge | driver)
  const features = (await transport.features()) & wanted
  await transport.acceptFeatures(features)
  await transport.writeStatus(acknowledge | driver | featuresOk)
  const status = await transport.readStatus()
  if ((status & featuresOk) === 0) throw new Error('the device does not accept the features')
  for (const layout of layouts(features)) await transport.setUpQueue(layout.index, layout)
  await transport.writeStatus(acknowledge | driver | featuresOk | driverOk)
  return features
}

const halves = (gpa: number) => [gpa % 2 ** 32, Math.floor(gpa / 2 ** 32)] as const
const words = (features: bigint) => [Number(features & 0xffff_ffffn), Number(features >> 32n)]

const MMIO = {
  deviceFeatures: 0x10,
  deviceFeaturesSel: 0x14,
  driverFeatures: 0x20,
  driverFeaturesSel: 0x24,
  queueSel: 0x30,
  queueNumMax: 0x34,
  queueNum: 0x38,
  queueReady: 0x44,
  queueNotify: 0x50,
  interruptStatus: 0x60,
  interruptAck: 0x64,
  status: 0x70,
  desc: 0x80,
  driver: 0x90,
  device: 0xa0,
  generation: 0xfc,
  config: 0x100,
} as const

/** Registers in memory (virtio 1.2 §4.2). */
export class MmioDriver implements DriverTransport {
  readonly #access: GuestAccess
  readonly #gpa: number

  constructor(access: GuestAccess, gpa: number) {
    this.#access = access
    this.#gpa = gpa
  }

  /** Where the interrupt status is read and where it is acknowledged. */
  get interruptRegisters(): [statusGpa: number, acknowledgeGpa: number] {
    return [this.#gpa + MMIO.interruptStatus, this.#gpa + MMIO.interruptAck]
  }

  read(offset: number): Promise<number> {
    return this.#access.read(this.#gpa + offset, 4)
  }

  write(offset: number, value: number): Promise<void> {
    return this.#access.write(this.#gpa + offset, 4, value)
  }

  readStatus(): Promise<number> {
    return this.read(MMIO.status)
  }

  writeStatus(value: number): Promise<void> {
    return this.write(MMIO.status, value)
  }

  async features(): Promise<bigint> {
    let all = 0n
    for (const select of [0, 1]) {
      await this.write(MMIO.deviceFeaturesSel, select)
      all |= BigInt(await this.read(MMIO.deviceFeatures)) << BigInt(32 * select)
    }
    return all
  }

  async acceptFeatures(features: bigint): Promise<void> {
    for (const [select, word] of words(features).entries()) {
      await this.write(MMIO.driverFeaturesSel, select)
      await this.write(MMIO.driverFeatures, word)
    }
  }

  async maxQueueSize(index: number): Promise<number> {
    await this.write(MMIO.queueSel, index)
    return this.read(MMIO.queueNumMax)
  }

  async setUpQueue(index: number, layout: QueueLayout): Promise<void> {
    await this.write(MMIO.queueSel, index)
    await this.write(MMIO.queueNum, layout.size)
    for (const [at, gpa] of [
      [MMIO.desc, layout.descGpa],
      [MMIO.driver, layout.driverGpa],
      [MMIO.device, layout.deviceGpa],
    ] as const) {
      const [low, high] = halves(gpa)
      await this.write(at, low)
      await this.write(at + 4, high)
    }
    await this.write(MMIO.queueReady, 1)
  }

  notify(index: number): Promise<void> {
    return this.write(MMIO.queueNotify, index)
  }

  readConfig(offset: number, size: 1 | 2 | 4): Promise<number> {
    return this.#access.read(this.#gpa + MMIO.config + offset, size)
  }

  writeConfig(offset: number, size: 1 | 2 | 4, value: number): Promise<void> {
    return this.#access.write(this.#gpa + MMIO.config + offset, size, value)
  }

  configGeneration(): Promise<number> {
    return this.read(MMIO.generation)
  }
}

const PCI = {
  command: 0x04,
  bar0: 0x10,
  capabilities: 0x34,
  vendorSpecific: 0x09,
  msix: 0x11,
  memoryAndMaster: 6,
} as const

const COMMON = {
  deviceFeatureSelect: 0x00,
  deviceFeature: 0x04,
  driverFeatureSelect: 0x08,
  driverFeature: 0x0c,
  configVector: 0x10,
  status: 0x14,
  generation: 0x15,
  queueSelect: 0x16,
  queueSize: 0x18,
  queueVector: 0x1a,
  queueEnable: 0x1c,
  notifyOff: 0x1e,
  desc: 0x20,
  driver: 0x28,
  device: 0x30,
} as const

/** Where the capabilities say that the structures are. */
interface Structures {
  common: number
  notify: number
  multiplier: number
  isr: number
  device: number
  msixTable: number
  /** Of the MSI-X capability, in configuration space. */
  msixAt: number
  /** Of the capability for accesses through configuration space. */
  accessAt: number
}

/** A PCI function (virtio 1.2 §4.1), found by its capabilities. */
export class PciDriver implements DriverTransport {
  readonly at: Structures
  readonly #access: GuestAccess
  readonly #config: number
  readonly #notifyAddresses: number[] = []

  private constructor(access: GuestAccess, config: number, at: Structures) {
    this.#access = access
    this.#config = config
    this.at = at
  }

  /** Looks at the function in a slot and switches its BARs on. */
  static async find(access: GuestAccess, ecamGpa: number, slot: number): Promise<PciDriver> {
    const config = ecamGpa + slot * 0x8000
    const read = (offset: number, size: 1 | 2 | 4) => access.read(config + offset, size)
    await access.write(config + PCI.command, 2, PCI.memoryAndMaster)
    const bars: number[] = []
    for (let i = 0; i < 6; i++) bars.push(((await read(PCI.bar0 + i * 4, 4)) & ~0xf) >>> 0)
    const at: Partial<Structures> = {}
    const names = [undefined, 'common', 'notify', 'isr', 'device'] as const
    for (let cap = await read(PCI.capabilities, 1); cap !== 0; cap = await read(cap + 1, 1)) {
      const id = await read(cap, 1)
      if (id === PCI.msix) {
        const table = await read(cap + 4, 4)
        at.msixTable = bars[table & 7]! + (table & ~7)
        at.msixAt = cap
      }
      if (id !== PCI.vendorSpecific) continue
      const type = await read(cap + 3, 1)
      if (type === 5) at.accessAt = cap
      const name = names[type]
      if (name === undefined) continue
      at[name] = bars[await read(cap + 4, 1)]! + (await read(cap + 8, 4))
      if (name === 'notify') at.multiplier = await read(cap + 16, 4)
    }
    return new PciDriver(access, config, at as Structures)
  }

  /** Reads the function's configuration space. */
  readPci(offset: number, size: 1 | 2 | 4): Promise<number> {
    return this.#access.read(this.#config + offset, size)
  }

  /** Writes it. */
  writePci(offset: number, size: 1 | 2 | 4, value: number): Promise<void> {
    return this.#access.write(this.#config + offset, size, value)
  }

  /** Leads every interrupt of queues 0 to `queues` - 1 and of configuration to vectors from one on. */
  async useMsix(firstVector: number, queues: number): Promise<void> {
    for (let i = 0; i <= queues; i++) {
      const entry = this.at.msixTable + i * 16
      await this.#access.write(entry, 4, 0xfee0_0000)
      await this.#access.write(entry + 4, 4, 0)
      await this.#access.write(entry + 8, 4, firstVector + i)
      await this.#access.write(entry + 12, 4, 0)
    }
    await this.writePci(this.at.msixAt + 2, 2, 0x8000)
  }

  /** Queue i interrupts by entry i of the table, the configuration by the one behind the queues. */
  async chooseVectors(queues: number): Promise<void> {
    await this.write(COMMON.configVector, 2, queues)
    for (let i = 0; i < queues; i++) {
      await this.write(COMMON.queueSelect, 2, i)
      await this.write(COMMON.queueVector, 2, i)
    }
  }

  /** Reads the common configuration. */
  read(offset: number, size: 1 | 2 | 4): Promise<number> {
    return this.#access.read(this.at.common + offset, size)
  }

  /** Writes it. */
  write(offset: number, size: 1 | 2 | 4, value: number): Promise<void> {
    return this.#access.write(this.at.common + offset, size, value)
  }

  readStatus(): Promise<number> {
    return this.read(COMMON.status, 1)
  }

  writeStatus(value: number): Promise<void> {
    return this.write(COMMON.status, 1, value)
  }

  async features(): Promise<bigint> {
    let all = 0n
    for (const select of [0, 1]) {
      await this.write(COMMON.deviceFeatureSelect, 4, select)
      all |= BigInt(await this.read(COMMON.deviceFeature, 4)) << BigInt(32 * select)
    }
    return all
  }

  async acceptFeatures(features: bigint): Promise<void> {
    for (const [select, word] of words(features).entries()) {
      await this.write(COMMON.driverFeatureSelect, 4, select)
      await this.write(COMMON.driverFeature, 4, word)
    }
  }

  async maxQueueSize(index: number): Promise<number> {
    await this.write(COMMON.queueSelect, 2, index)
    return this.read(COMMON.queueSize, 2)
  }

  async setUpQueue(index: number, layout: QueueLayout): Promise<void> {
    await this.write(COMMON.queueSelect, 2, index)
    await this.write(COMMON.queueSize, 2, layout.size)
    for (const [at, gpa] of [
      [COMMON.desc, layout.descGpa],
      [COMMON.driver, layout.driverGpa],
      [COMMON.device, layout.deviceGpa],
    ] as const) {
      const [low, high] = halves(gpa)
      await this.write(at, 4, low)
      await this.write(at + 4, 4, high)
    }
    const off = await this.read(COMMON.notifyOff, 2)
    this.#notifyAddresses[index] = this.at.notify + off * this.at.multiplier
    await this.write(COMMON.queueEnable, 2, 1)
  }

  notify(index: number): Promise<void> {
    // A queue that was not set up: where it would be.
    const address = this.#notifyAddresses[index] ?? this.at.notify + index * this.at.multiplier
    return this.#access.write(address, 2, index)
  }

  readConfig(offset: number, size: 1 | 2 | 4): Promise<number> {
    return this.#access.read(this.at.device + offset, size)
  }

  writeConfig(offset: number, size: 1 | 2 | 4, value: number): Promise<void> {
    return this.#access.write(this.at.device + offset, size, value)
  }

  configGeneration(): Promise<number> {
    return this.read(COMMON.generation, 1)
  }
}
