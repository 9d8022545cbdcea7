// The virtio devices of one machine: where they are, and what they need of it.

import { KvmError } from '../core/errors.js'
import type { GuestMemory } from '../core/memory.js'
import { invalidArgType, list, object, outOfRange } from '../core/validate.js'
import type { Vm } from '../core/vm.js'
import {
  type Doorbell,
  type InterruptLine,
  type MessageInterruptFactory,
  SharedLine,
  VIRTIO_MMIO_SIZE,
  VirtioDevice,
  type VirtioHost,
  VirtioMmioTransport,
  type VirtioOptions,
  VirtioPciTransport,
  type VirtioTransport,
} from '../devices/index.js'
import type { VirtioMmioPlace } from './acpi.js'
import { VIRTIO_MMIO, VIRTIO_MMIO_GSIS } from './address-map.js'
import { IoEventDoorbell } from './io-event-doorbell.js'
import { interruptLine, type Platform } from './platform.js'

/** A virtio device and its place in a machine. */
export interface MachineDevice extends VirtioOptions {
  readonly device: VirtioDevice
  /** How its driver reaches it. Default `'pci'`. */
  readonly transport?: 'pci' | 'mmio'
  /** The slot on the PCI bus, 1 to 31, the same in every run. Default: the first free one. */
  readonly slot?: number
}

/** The name of a device in ACPI's tables has two digits for its number. */
const MAX_MMIO_DEVICES = 256

/** So long a device may take to let go of what it has when its machine is closed. */
const CLOSING_MS = 5000

/**
 * Waits for a device to close, but not forever: it may still use guest memory, which stays as long as it does.
 *
 * @throws KvmError `ERR_KVM_DEVICE_STUCK` when it takes too long
 */
export async function closeInTime(
  device: VirtioDevice,
  owner: { close(): void | Promise<void> } = device,
): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<void>((_, reject) => {
    const text = `${device.name} has not let go within ${CLOSING_MS / 1000} s`
    const stuck = () => reject(new KvmError('ERR_KVM_DEVICE_STUCK', undefined, text))
    timer = setTimeout(stuck, CLOSING_MS)
  })
  try {
    await Promise.race([owner.close(), late])
  } finally {
    clearTimeout(timer)
  }
}

/** What is told when a device can go on only after a reset. */
export type OnDeviceFailure = (device: VirtioDevice, error: unknown) => void

/** Devices that belong to a machine; one that was closed cannot be used again. */
const taken = new WeakSet<VirtioDevice>()

/**
 * What `MachineOptions.devices` says, in its long form.
 *
 * @throws KvmError `ERR_KVM_BUSY` for a device that a machine has, or had
 */
export function machineDevices(
  devices: readonly (VirtioDevice | MachineDevice)[] = [],
): MachineDevice[] {
  const entries = list(devices, 'devices').map((each, i): MachineDevice => {
    const entry = each instanceof VirtioDevice ? { device: each } : object(each, `devices[${i}]`)
    const { device, transport = 'pci' } = entry
    if (!(device instanceof VirtioDevice)) {
      throw invalidArgType(`devices[${i}].device`, 'an instance of VirtioDevice', device)
    }
    if (transport !== 'pci' && transport !== 'mmio') {
      throw invalidArgType(`devices[${i}].transport`, "'pci' or 'mmio'", transport)
    }
    return entry
  })
  const all = entries.map(({ device }) => device)
  const used = all.find((device, i) => taken.has(device) || all.indexOf(device) !== i)
  if (used) throw new KvmError('ERR_KVM_BUSY', undefined, `${used.name} is in use already`)
  for (const device of all) taken.add(device)
  return entries
}

/** The devices that a machine was given, each with its transport once it has a place. */
export class VirtioDevices {
  /** Those outside of PCI, for the tables that tell the guest of them. */
  readonly mmioPlaces: VirtioMmioPlace[] = []
  readonly #devices: readonly MachineDevice[]
  readonly #transports: VirtioTransport[] = []
  readonly #lines = new Map<number, SharedLine>()
  readonly #vm: Vm
  readonly #platform: Platform
  readonly #host: VirtioHost
  #held: Promise<void> | undefined

  constructor(
    vm: Vm,
    memory: GuestMemory,
    platform: Platform,
    devices: readonly MachineDevice[],
    onFailure: OnDeviceFailure,
  ) {
    this.#vm = vm
    this.#platform = platform
    this.#devices = devices
    const messageInterrupt: MessageInterruptFactory = platform.messages.create
    this.#host = {
      memory,
      messageInterrupt,
      createDoorbell: (): Doorbell => new IoEventDoorbell(vm),
      hold: (until) => this.#hold(until),
      onFailure: (device, error) => onFailure(device as VirtioDevice, error),
    }
  }

  /**
   * Puts them on the buses.
   *
   * @throws RangeError `ERR_OUT_OF_RANGE` for a slot that is taken or does not exist, or a device that
   *   cannot be
   */
  place(): void {
    // Who has chosen a slot gets it.
    const chosen = this.#devices.filter(({ slot }) => slot !== undefined)
    const others = this.#devices.filter(({ slot }) => slot === undefined)
    for (const each of [...chosen, ...others]) this.#add(each)
  }

  /** The first device of a class. */
  find<T extends VirtioDevice>(kind: abstract new (...args: never[]) => T): T | undefined {
    const devices = this.#devices.map(({ device }) => device)
    return devices.find((device): device is T => device instanceof kind)
  }

  #add({ device, transport = 'pci', slot, ...options }: MachineDevice): void {
    if (transport === 'mmio') {
      this.#addMmio(device, options)
      return
    }
    const { pci } = this.#platform
    const added = new VirtioPciTransport(device, this.#host, options)
    pci.add(slot ?? pci.freeSlot(), added.function)
    this.#transports.push(added)
  }

  #addMmio(device: VirtioDevice, options: VirtioOptions): void {
    const index = this.mmioPlaces.length
    if (index === MAX_MMIO_DEVICES)
      throw outOfRange('devices', `<= ${index} of them by MMIO`, index)
    const gpa = VIRTIO_MMIO.gpa + index * VIRTIO_MMIO_SIZE
    const gsi = VIRTIO_MMIO_GSIS[index % VIRTIO_MMIO_GSIS.length]!
    const added = new VirtioMmioTransport(device, this.#host, gpa, this.#line(gsi), options)
    this.#platform.mmio.add(gpa, VIRTIO_MMIO_SIZE, added)
    this.mmioPlaces.push({ gpa, gsi })
    this.#transports.push(added)
  }

  #line(gsi: number): InterruptLine {
    const line = this.#lines.get(gsi) ?? new SharedLine(interruptLine(this.#vm, gsi))
    this.#lines.set(gsi, line)
    return line.join()
  }

  #hold(until: Promise<void>): void {
    const both = Promise.all([this.#held, until]).then(() => {
      if (this.#held === both) this.#held = undefined
    })
    this.#held = both
  }

  /** Settles when every device that is being reset has let go; undefined when there is none. */
  get settled(): Promise<void> | undefined {
    return this.#held
  }

  /** Resolves when no device touches memory. */
  async pause(): Promise<void> {
    await Promise.all(this.#transports.map((each) => each.pause()))
  }

  /** Ends {@link pause}. */
  resume(): void {
    for (const each of this.#transports) each.resume()
  }

  /** Resets and closes all devices. Those that fail at it, or take too long, are reported. */
  async close(): Promise<void> {
    await Promise.all(
      this.#devices.map(async ({ device }) => {
        try {
          await closeInTime(
            device,
            this.#transports.find((each) => each.device === device),
          )
        } catch (error) {
          this.#host.onFailure(device, error)
        }
      }),
    )
  }
}
