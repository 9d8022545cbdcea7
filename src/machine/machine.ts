// A whole machine in this process: RAM, vCPU threads, the board, a kernel.

import { EventEmitter } from 'node:events'
import type { Duplex, Readable } from 'node:stream'
import { type BootProtocol, type BootState, type FirmwareState, layOutRam } from '../boot/index.js'
import { AbortError, KvmError } from '../core/errors.js'
import type { Exit } from '../core/exits/exits.js'
import { Kvm } from '../core/kvm.js'
import type { MemoryOptions } from '../core/memory/memory-options.js'
import { GuestMemory } from '../core/memory.js'
import { instance, integer, object, oneOf } from '../core/validate.js'
import type { Vcpu } from '../core/vcpu.js'
import type { Vm } from '../core/vm.js'
import {
  type Bus,
  type FwCfg,
  handleIo,
  handleMmio,
  type InterruptLine,
  type MessageInterruptFactory,
  type PciHost,
  VirtioBalloon,
  type VirtioDevice,
  VirtqueueError,
} from '../devices/index.js'
import { KVM_MEM_READONLY } from '../uapi/index.js'
import { type BoardDescription, machineAcpiFiles, placeMachineAcpi } from './acpi.js'
import { type Loader, type MachineBoot, readBoot } from './boot.js'
import { type CrashReason, failed, fatalExit, MachineCrash, panicked, reportVcpu } from './crash.js'
import { type CpuOptions, type CpuSettings, cpuSettings, guestCpuids } from './guest-cpuid.js'
import type { OnImageProgress } from './image.js'
import { createMachineVm, powerOnState } from './machine-vm.js'
import { memorySize } from './memory-size.js'
import type { DevicePlaces } from './native-devices.js'
import { interruptLine, Platform } from './platform.js'
import { Timeline } from './timeline.js'
import { closeInTime, type MachineDevice, machineDevices, VirtioDevices } from './virtio-devices.js'

/** What {@link Machine.create} takes. */
export interface MachineOptions extends CpuOptions {
  /** RAM in bytes, or as `'512M'`, `'1G'`; 256 MiB unless said. */
  memory?: number | string
  /**
   * How the RAM is allocated; a memfd unless said. `{ backing: 'anonymous', thp: 'madvise' }` asks for huge pages, with which
   * guests touch new memory faster, and small ones take more of it.
   */
  memoryOptions?: MemoryOptions
  boot: MachineBoot
  /** Hold back serial input until the guest reads its port, for input that is piped in. */
  holdSerialInput?: boolean
  /** What a reset by the guest does: `'end'` the run, which is the default, or `'restart'`. */
  onReset?: 'end' | 'restart'
  /**
   * virtio devices, which are the machine's from then on: it closes them, also when it cannot be
   * created. Without a place of their own they get PCI slots in this order.
   */
  devices?: readonly (VirtioDevice | MachineDevice)[]
  /** Where devices answer, if not where it costs least. */
  devicePlaces?: DevicePlaces
  /** Is told how far the files of the images have been read. */
  onProgress?: OnImageProgress
}

/** How a machine's run ended. */
export interface MachineEnd {
  /**
   * `'reset'`: the guest rebooted; `'powerOff'`; `'exit'`: by the debug exit, port 0xf4; `'stopped'`: by
   * {@link Machine.stop}.
   */
  readonly reason: 'reset' | 'powerOff' | 'exit' | 'stopped'
  /** What the guest wrote to the debug exit. */
  readonly status?: number
}

/** Where a machine is in its life. */
export type MachineState = 'created' | 'running' | 'paused' | 'ended' | 'closed'

/** The events of a {@link Machine} and what their listeners get. */
export interface MachineEvents {
  /** The vCPUs run. */
  started: []
  paused: []
  resumed: []
  /** The machine was reset and starts again. */
  reset: []
  /** The guest's kernel panicked but goes on, in a crash kernel. */
  panicked: []
  /** The run is over, by the guest's or the user's wish. */
  ended: [end: MachineEnd]
  /** The run is over for another reason. */
  crashed: [crash: MachineCrash]
  /**
   * A virtio device needs a reset by its driver: for a `VirtqueueError` it is the driver's fault, else
   * the device's, of which a warning tells when nobody listens. The machine goes on.
   */
  deviceFailed: [device: VirtioDevice, error: unknown]
  closed: []
}

/**
 * A PC-like machine: vCPUs on threads of their own, interrupt controllers and timer in the kernel, a
 * serial port, clock, keyboard controller, a PCI bus, ACPI. It boots Linux, multiboot kernels, raw code
 * and firmware.
 *
 * The callbacks run on the thread that created it, so its event loop must be free to turn.
 */
export class Machine extends EventEmitter<MachineEvents> implements AsyncDisposable {
  readonly memory: GuestMemory
  readonly vm: Vm
  readonly vcpus: readonly Vcpu[]
  /** What happened when. */
  readonly timeline: Timeline
  readonly #kvm: Kvm
  readonly #platform: Platform
  readonly #devices: VirtioDevices
  readonly #boot: () => BootState | FirmwareState
  readonly #restarts: boolean
  #state: MachineState = 'created'
  #end: MachineEnd | undefined
  #failure: { reason: CrashReason; vcpu: Vcpu } | undefined
  #running: Promise<MachineEnd> | undefined
  #protocol: BootProtocol = 'flat'
  /** What the tables tell of the machine. */
  #board: BoardDescription
  #resetPending = false
  #closing: Promise<void> | undefined
  #onFinish!: () => void
  /** Resolves when the run is to end. */
  readonly #finished = new Promise<void>((resolve) => {
    this.#onFinish = resolve
  })
  /** The vCPU whose exit is being answered. */
  #current: Vcpu | undefined

  private constructor(kvm: Kvm, memory: GuestMemory, options: MachineSettings) {
    super()
    const { cpus, timeline } = options
    this.timeline = timeline
    this.#restarts = options.onReset === 'restart'
    this.memory = memory
    this.#kvm = kvm
    const tables = guestCpuids(kvm, cpus)
    const descriptions = cpus.ids.map((id, index) => ({ id, cpuid: tables[index]! }))
    const { vm, vcpus } = createMachineVm(kvm, descriptions, memory)
    this.vm = vm
    this.vcpus = vcpus
    timeline.mark('VM made')
    this.#platform = new Platform(vm, {
      memory,
      cpus: cpus.ids,
      holdSerialInput: options.holdSerialInput,
      onReset: () => this.#onReset(),
      onPowerOff: () => this.#finish({ reason: 'powerOff' }),
      onExit: (status) => this.#finish({ reason: 'exit', status }),
      onPanic: (event) => {
        if (event === 'panicked') this.#fail(panicked, this.#current!)
        else this.emit('panicked')
      },
      places: options.devicePlaces,
      onByte: (byte) => timeline.onByte(byte),
      onPort: (port) => timeline.onPort(port),
    })
    this.#devices = new VirtioDevices(vm, memory, this.#platform, options.devices, (...failure) =>
      this.#onDeviceFailure(...failure),
    )
    // Not before: whatever changes the address space waits for a thread that brings memory in.
    options.loader.prefault(memory)
    this.#board = { cpus: cpus.ids, virtioMmio: this.#devices.mmioPlaces }
    this.#boot = () => options.loader.load(memory, placeMachineAcpi(memory, this.#board))
  }

  /**
   * Builds a machine and loads its kernel; nothing runs yet.
   *
   * @throws BootError for images that cannot be loaded; KvmError for what KVM refuses.
   */
  static async create(options: MachineOptions): Promise<Machine> {
    const timeline = new Timeline()
    timeline.mark('machine asked for')
    const { memory = '256M', boot, holdSerialInput = false } = object(options, 'options')
    const { onReset = 'end', devicePlaces = {} } = options
    const devices = machineDevices(options.devices)
    let kvm: Kvm | undefined
    let ram: GuestMemory | undefined
    let machine: Machine | undefined
    try {
      object(devicePlaces, 'devicePlaces')
      const cpus = cpuSettings(options)
      oneOf(onReset, 'onReset', ['end', 'restart'])
      const layout = layOutRam(memorySize(memory))
      const loader = await readBoot(boot, options.onProgress)
      timeline.mark('images read')
      kvm = Kvm.open()
      ram = GuestMemory.create(layout, options.memoryOptions)
      const behaviour = { holdSerialInput, onReset }
      const settings = { ...behaviour, loader, cpus, devices, devicePlaces, timeline }
      machine = new Machine(kvm, ram, settings)
      machine.#devices.place()
      machine.#load('kernel' in boot)
      timeline.mark('images placed')
      return machine
    } catch (error) {
      if (machine !== undefined) await machine.close()
      else await Promise.all(devices.map(({ device }) => closeInTime(device)))
      ram?.close()
      kvm?.close()
      throw error
    }
  }

  #load(bootsKernel: boolean): void {
    // Kernels look for devices at great length, so none is sent to a bus with nothing on it.
    if (bootsKernel) this.#board = { ...this.#board, hasPci: !this.pci.isEmpty }
    const state = this.#boot()
    if ('rom' in state) {
      this.#mapRom(state.rom)
      const files = machineAcpiFiles(this.memory, this.#board)
      for (const [name, bytes] of files) this.fwCfg.setFile(name, bytes)
    }
    this.#start(state)
  }

  /** Where the machine is in its life. */
  get state(): MachineState {
    return this.#state
  }

  /** The first serial port: what the guest writes, and where to write what it shall read. */
  get serial(): Duplex {
    return this.#platform.serial.duplex
  }

  /** What the guest writes to the debug ports, 0x402 and 0xe9. */
  get debug(): Readable {
    return this.#platform.debug.output
  }

  /** What firmware and kernels can ask for: to be filled before the machine runs. */
  get fwCfg(): FwCfg {
    return this.#platform.fwCfg
  }

  #start({ sregs, regs, protocol }: BootState): void {
    const [bootstrap] = this.vcpus
    bootstrap!.updateSregs(sregs)
    bootstrap!.updateRegs(regs)
    this.#protocol = protocol
  }

  /**
   * The PCI bus, where devices are to be added before the machine runs: later they are refused (`HotPlugError`). When
   * a kernel starts without any, its ACPI tables tell of no bus.
   */
  get pci(): PciHost {
    return this.#platform.pci
  }

  /** Its balloon, if it was given one: `machine.balloon.target` is how much memory the guest is to give up. */
  get balloon(): VirtioBalloon | undefined {
    return this.#devices.find(VirtioBalloon)
  }

  /** Device ports, for devices of one's own. */
  get ports(): Bus {
    return this.#platform.ports
  }

  /** Device memory, for devices of one's own. */
  get mmio(): Bus {
    return this.#platform.mmio
  }

  /** An input of the interrupt controllers: ISA interrupts are 0 to 15, those of PCI 16 to 19. */
  interruptLine(gsi: number): InterruptLine {
    return interruptLine(this.vm, integer(gsi, 'gsi', 0, 23))
  }

  /** Makes interrupt vectors for PCI functions: what their MSI and MSI-X capabilities ask for. */
  get messageInterrupt(): MessageInterruptFactory {
    return this.#platform.messages.create
  }

  /** The slot keeps the memory of a closed `GuestMemory`. */
  #mapRom({ gpa, image }: FirmwareState['rom']): void {
    using rom = GuestMemory.create([{ gpa, size: image.length }])
    rom.write(gpa, image)
    this.vm.mapMemory(rom, { firstSlot: this.memory.ranges.length, flags: KVM_MEM_READONLY })
  }

  /**
   * Runs the machine until the guest ends it, {@link stop} is called or `signal` is aborted. A
   * machine runs once.
   *
   * @throws AbortError when `signal` was aborted; MachineCrash for what went wrong in the guest, in a
   *   device or in KVM.
   */
  async run({ signal }: { signal?: AbortSignal } = {}): Promise<MachineEnd> {
    if (signal !== undefined) instance(signal, 'signal', AbortSignal)
    if (this.#state !== 'created') {
      throw new KvmError('ERR_KVM_BUSY', undefined, 'a machine runs once')
    }
    if (signal?.aborted) throw new AbortError(signal)
    this.#setUpPci()
    this.pci.seal()
    this.#state = 'running'
    this.#running = this.#runToEnd(signal)
    return this.#running
  }

  /** What firmware does, if there is none. */
  #setUpPci(): void {
    if (this.#protocol === 'firmware') return
    this.pci.assignBars()
    const { hasPci = true } = this.#board
    if (hasPci || this.pci.isEmpty) return
    // Devices have been added since. There is room for what tells of them, as nothing else is near the tables.
    this.#board = { ...this.#board, hasPci: true }
    placeMachineAcpi(this.memory, this.#board)
  }

  async #runToEnd(signal: AbortSignal | undefined): Promise<MachineEnd> {
    const abort = () => this.#finish({ reason: 'stopped' })
    signal?.addEventListener('abort', abort)
    try {
      do {
        await this.#runVcpus()
      } while (await this.#takeReset())
      if (this.#failure !== undefined) throw await this.#crash(this.#failure)
      if (signal?.aborted) throw new AbortError(signal)
      const end = this.#end ?? { reason: 'stopped' }
      this.#state = 'ended'
      this.emit('ended', end)
      return end
    } finally {
      if (this.#state !== 'closed') this.#state = 'ended'
      signal?.removeEventListener('abort', abort)
    }
  }

  /** Until all threads have ended: the first failure ends all, so that none outlives the run. */
  async #runVcpus(): Promise<void> {
    const ends: Promise<void>[] = []
    try {
      for (const vcpu of this.vcpus) {
        vcpu.start((exit) => this.#onExit(vcpu, exit))
        ends.push(vcpu.join().catch((error) => this.#fail(failed(error), vcpu)))
      }
      this.timeline.mark('first instruction')
      this.emit('started')
    } catch (error) {
      this.#fail(failed(error), this.vcpus[0]!)
    }
    await Promise.all(ends)
  }

  async #crash({ reason, vcpu }: { reason: CrashReason; vcpu: Vcpu }): Promise<MachineCrash> {
    // A machine that was closed meanwhile has nothing left to look at.
    const open = this.vcpus.filter((each) => !each.closed)
    const reports = await Promise.all(open.map((each) => reportVcpu(each, this.memory)))
    const crash = new MachineCrash(reason, vcpu.id, reports)
    this.emit('crashed', crash)
    return crash
  }

  #onExit(vcpu: Vcpu, exit: Exit): void | Promise<void> {
    this.#current = vcpu
    switch (exit.type) {
      case 'io':
        this.timeline.onPort(exit.port)
        handleIo(this.#platform.ports, exit.data, exit.port, exit.size, exit.count, exit.direction)
        // A device that is being reset holds up the guest until it has let go of its memory.
        return this.#devices.settled
      case 'mmio':
        handleMmio(this.#platform.mmio, exit.data, exit.gpa, exit.length, exit.isWrite)
        return this.#devices.settled
      case 'intr':
      case 'irqWindowOpen':
        return
      default:
        this.#fail(fatalExit(exit), vcpu)
    }
  }

  #onDeviceFailure(device: VirtioDevice, error: unknown): void {
    if (this.emit('deviceFailed', device, error) || error instanceof VirtqueueError) return
    process.emitWarning(error instanceof Error ? error : String(error))
  }

  #fail(reason: CrashReason, vcpu: Vcpu): void {
    this.#failure ??= { reason, vcpu }
    this.#finish({ reason: 'stopped' })
  }

  #finish(end: MachineEnd): void {
    this.#end ??= end
    this.#onFinish()
    this.#endThreads()
  }

  #endThreads(): void {
    for (const vcpu of this.vcpus) vcpu.requestStop()
  }

  #onReset(): void {
    if (!this.#restarts) {
      this.#finish({ reason: 'reset' })
      return
    }
    this.#resetPending = true
    this.#endThreads()
  }

  /** Performs a reset that was asked for, unless the run is over. */
  async #takeReset(): Promise<boolean> {
    if (!this.#resetPending || this.#end !== undefined) return false
    this.#resetPending = false
    for (const vcpu of this.vcpus) settle(vcpu)
    this.#platform.reset()
    // A device may never settle.
    await Promise.race([this.#devices.settled, this.#finished])
    if (this.#end !== undefined) return false
    this.#devices.resume()
    if (this.#protocol !== 'firmware') this.pci.assignBars()
    this.vm.restoreState(this.vcpus, powerOnState(this.#kvm, this.vcpus))
    this.#start(this.#boot())
    this.#state = 'running'
    this.emit('reset')
    return true
  }

  /**
   * Resets the machine: vCPUs and devices are as after power-on, and the images are loaded anew. The
   * rest of RAM keeps its content, as it does on a PC. A paused machine runs again. vCPUs keep their CPUID; what else
   * was set in them from outside before they ran is gone.
   *
   * @throws KvmError `ERR_KVM_BUSY` when the machine does not run.
   */
  reset(): void {
    this.#expect('running', 'paused')
    this.#resetPending = true
    this.#endThreads()
  }

  /**
   * Takes every vCPU out of the guest, and lets virtio devices finish the requests they have begun. When
   * it resolves, registers and memory hold still; devices keep their clocks.
   *
   * @throws KvmError `ERR_KVM_BUSY` when the machine does not run.
   */
  async pause(): Promise<void> {
    this.#expect('running')
    this.#state = 'paused'
    await Promise.all(this.vcpus.map((vcpu) => vcpu.pause()))
    await this.#devices.pause()
    this.#platform.drain()
    if (this.#state === 'paused') this.emit('paused')
  }

  /**
   * Ends {@link pause}.
   *
   * @throws KvmError `ERR_KVM_BUSY` when the machine is not paused.
   */
  resume(): void {
    this.#expect('paused')
    this.#state = 'running'
    this.#devices.resume()
    for (const vcpu of this.vcpus) vcpu.resume()
    this.emit('resumed')
  }

  #expect(...states: MachineState[]): void {
    if (states.includes(this.#state)) return
    const text = `the machine is ${this.#state}, not ${states.join(' or ')}`
    throw new KvmError('ERR_KVM_BUSY', undefined, text)
  }

  /** Presses the power button: a guest that listens to ACPI shuts itself down. */
  powerButton(): void {
    this.#expect('running', 'paused')
    this.#platform.power.pressPowerButton()
  }

  /** Ends the run, if there is one, wherever the guest is. Resolves when no vCPU runs any more. */
  async stop(): Promise<void> {
    if (this.#running === undefined) return
    this.#finish({ reason: 'stopped' })
    await this.#running?.catch(() => {})
  }

  /**
   * Stops the machine and gives everything back. Idempotent. A device that has not let go after 5 s is told of by
   * {@link MachineEvents.deviceFailed}, and not waited for.
   */
  async close(): Promise<void> {
    await this.stop()
    this.#closing ??= this.#close()
    await this.#closing
  }

  async #close(): Promise<void> {
    this.#state = 'closed'
    await this.#devices.close()
    this.#platform.close()
    for (const vcpu of this.vcpus) vcpu.close()
    this.vm.close()
    this.memory.close()
    this.#kvm.close()
    this.emit('closed')
  }

  /** Closes it at the end of an `await using` scope. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

/** Lets a vCPU finish the access at which it was stopped; what is left of it gets no answer. */
function settle(vcpu: Vcpu): void {
  const parts = 64
  for (let i = 0; i < parts && vcpu.completeIo() !== undefined; i++);
}

/** {@link MachineOptions} with defaults in place and images read. */
interface MachineSettings {
  readonly loader: Loader
  readonly cpus: CpuSettings
  readonly timeline: Timeline
  readonly holdSerialInput: boolean
  readonly onReset: 'end' | 'restart'
  readonly devices: readonly MachineDevice[]
  readonly devicePlaces: DevicePlaces
}
