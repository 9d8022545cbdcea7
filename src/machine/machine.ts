// A whole machine in this process: RAM, vCPU threads, the board, a kernel.

import type { Duplex } from 'node:stream'
import {
  type AcpiPciHost,
  type BootState,
  type FirmwareState,
  layOutRam,
  PC_INTERRUPT_OVERRIDES,
  placeAcpi,
} from '../boot/index.js'
import { AbortError, KvmError } from '../core/errors.js'
import type { Exit } from '../core/exits.js'
import { Kvm } from '../core/kvm.js'
import { GuestMemory } from '../core/memory.js'
import { instance, integer, object } from '../core/validate.js'
import type { Vcpu } from '../core/vcpu.js'
import type { Vm } from '../core/vm.js'
import {
  type Bus,
  handleIo,
  handleMmio,
  type InterruptLine,
  type MessageInterruptFactory,
  type PciHost,
} from '../devices/index.js'
import {
  KVM_CAP_SET_IDENTITY_MAP_ADDR,
  KVM_CAP_SET_TSS_ADDR,
  KVM_MEM_READONLY,
  KVM_PIT_SPEAKER_DUMMY,
  KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK,
  KVM_X2APIC_API_USE_32BIT_IDS,
} from '../uapi/index.js'
import { ECAM_GPA, PCI_GSIS, PCI_MEMORY_32, pciMemory64 } from './address-map.js'
import { type MachineBoot, readBoot } from './boot.js'
import { guestCpuid } from './guest-cpuid.js'
import { memorySize } from './memory-size.js'
import { interruptLine, Platform } from './platform.js'

/** What {@link Machine.create} takes. */
export interface MachineOptions {
  /** vCPUs; 1 unless said. */
  cpus?: number
  /** RAM in bytes, or as `'512M'`, `'1G'`; 256 MiB unless said. */
  memory?: number | string
  boot: MachineBoot
  /** Hold back serial input until the guest reads its port, for input that is piped in. */
  holdSerialInput?: boolean
}

/** How a machine's run ended. */
export interface MachineEnd {
  /** `'reset'`: the guest rebooted; `'powerOff'`; `'stopped'`: by {@link Machine.stop}. */
  readonly reason: 'reset' | 'powerOff' | 'stopped'
}

/** More need ids that only x2APIC has, and interrupt messages that reach them. */
const XAPIC_CPUS = 255
const X2APIC_API = KVM_X2APIC_API_USE_32BIT_IDS + KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK

// Four pages for kvm_intel, below the 16 MiB that firmware may take.
const IDENTITY_MAP_GPA = 0xfeff_c000
const TSS_GPA = 0xfeff_d000

// KERNEL: KVM connects the timer, ISA interrupt 0, to pin 0 of its IOAPIC and not, as PCs do, to 2.
const interruptOverrides = PC_INTERRUPT_OVERRIDES.filter(({ irq }) => irq !== 0)

/**
 * A PC-like machine that boots Linux: vCPUs on threads of their own, interrupt controllers and timer
 * in the kernel, a serial port, clock, keyboard controller.
 *
 * The callbacks run on the thread that created it, so its event loop must be free to turn.
 */
export class Machine implements AsyncDisposable {
  readonly memory: GuestMemory
  readonly vm: Vm
  readonly vcpus: readonly Vcpu[]
  readonly #platform: Platform
  #end: MachineEnd | undefined
  #running: Promise<MachineEnd> | undefined
  #closed = false
  #assignsBars = true

  private constructor(kvm: Kvm, cpus: number, memory: GuestMemory, holdSerialInput: boolean) {
    this.memory = memory
    this.vm = kvm.createVm()
    const { vm } = this
    if (cpus > XAPIC_CPUS) vm.enableCap('KVM_CAP_X2APIC_API', { flags: X2APIC_API })
    if (vm.checkExtension(KVM_CAP_SET_IDENTITY_MAP_ADDR)) vm.setIdentityMapAddr(IDENTITY_MAP_GPA)
    if (vm.checkExtension(KVM_CAP_SET_TSS_ADDR)) vm.setTssAddr(TSS_GPA)
    // Memory first: a slot added after the interrupt controllers waits for a grace period.
    vm.mapMemory(memory)
    vm.createIrqchip()
    vm.createPit2(KVM_PIT_SPEAKER_DUMMY)
    const cpuid = kvm.getSupportedCpuid()
    this.vcpus = Array.from({ length: cpus }, (_, vcpuId) => {
      const vcpu = vm.createVcpu(vcpuId)
      vcpu.setCpuid2(guestCpuid(cpuid, vcpuId, cpus))
      return vcpu
    })
    this.#platform = new Platform(vm, {
      ram: memory.ranges,
      holdSerialInput,
      onReset: () => this.#finish({ reason: 'reset' }),
      onPowerOff: () => this.#finish({ reason: 'powerOff' }),
    })
  }

  /**
   * Builds a machine and loads its kernel; nothing runs yet.
   *
   * @throws BootError for images that cannot be loaded; KvmError for what KVM refuses.
   */
  static async create(options: MachineOptions): Promise<Machine> {
    const { cpus = 1, memory = '256M', boot, holdSerialInput = false } = object(options, 'options')
    integer(cpus, 'cpus', 1, 4096)
    const size = memorySize(memory)
    const load = await readBoot(boot)
    using kvm = Kvm.open()
    const ram = GuestMemory.create(layOutRam(size))
    let machine: Machine | undefined
    try {
      machine = new Machine(kvm, cpus, ram, holdSerialInput)
      const acpi = placeAcpi(ram, {
        cpus: machine.vcpus.map(({ id }) => id),
        interruptOverrides,
        pci: pciHost(ram),
      })
      machine.#start(load(ram, acpi))
      return machine
    } catch (error) {
      await machine?.close()
      ram.close()
      throw error
    }
  }

  /** The first serial port: what the guest writes, and where to write what it shall read. */
  get serial(): Duplex {
    return this.#platform.serial.duplex
  }

  #start(state: BootState | FirmwareState): void {
    if ('rom' in state) this.#mapRom(state.rom)
    // Firmware does that itself.
    this.#assignsBars = state.protocol !== 'firmware'
    const [bootstrap] = this.vcpus
    bootstrap!.updateSregs(state.sregs)
    bootstrap!.updateRegs(state.regs)
  }

  /** The PCI bus, where devices are to be added before the machine runs. */
  get pci(): PciHost {
    return this.#platform.pci
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
   * @throws AbortError when `signal` was aborted; KvmError or DeviceError for what went wrong.
   */
  async run({ signal }: { signal?: AbortSignal } = {}): Promise<MachineEnd> {
    if (signal !== undefined) instance(signal, 'signal', AbortSignal)
    if (this.#running !== undefined || this.#closed) {
      throw new KvmError('ERR_KVM_BUSY', undefined, 'a machine runs once')
    }
    if (signal?.aborted) throw new AbortError(signal)
    if (this.#assignsBars) this.pci.assignBars()
    this.#running = this.#runVcpus(signal)
    return this.#running
  }

  async #runVcpus(signal: AbortSignal | undefined): Promise<MachineEnd> {
    const abort = () => this.#finish({ reason: 'stopped' })
    signal?.addEventListener('abort', abort)
    try {
      for (const vcpu of this.vcpus) vcpu.start((exit) => this.#onExit(vcpu, exit))
      // The first failure ends all; then all are waited for, so that none outlives the run.
      const ends = this.vcpus.map((vcpu) => vcpu.join().catch((error) => this.#fail(error)))
      await Promise.all(ends)
      if (this.#failure !== undefined) throw this.#failure.error
      if (signal?.aborted) throw new AbortError(signal)
      return this.#end ?? { reason: 'stopped' }
    } finally {
      signal?.removeEventListener('abort', abort)
    }
  }

  #failure: { error: unknown } | undefined

  #fail(error: unknown): void {
    this.#failure ??= { error }
    this.#finish({ reason: 'stopped' })
  }

  #onExit(vcpu: Vcpu, exit: Exit): void {
    switch (exit.type) {
      case 'io':
        handleIo(this.#platform.ports, exit.data, exit.port, exit.size, exit.count, exit.direction)
        return
      case 'mmio':
        handleMmio(this.#platform.mmio, exit.data, exit.gpa, exit.length, exit.isWrite)
        return
      case 'intr':
      case 'irqWindowOpen':
        return
      default:
        throw unexpectedExit(vcpu, exit)
    }
  }

  #finish(end: MachineEnd): void {
    this.#end ??= end
    for (const vcpu of this.vcpus) vcpu.requestStop()
  }

  /** Presses the power button: a guest that listens to ACPI shuts itself down. */
  pressPowerButton(): void {
    this.#platform.power.pressPowerButton()
  }

  /** Ends the run, wherever the guest is. Resolves when no vCPU runs any more. */
  async stop(): Promise<void> {
    this.#finish({ reason: 'stopped' })
    await this.#running?.catch(() => {})
  }

  /** Stops the machine and gives everything back. Idempotent. */
  async close(): Promise<void> {
    await this.stop()
    if (this.#closed) return
    this.#closed = true
    this.#platform.close()
    for (const vcpu of this.vcpus) vcpu.close()
    this.vm.close()
    this.memory.close()
  }

  /** Closes it at the end of an `await using` scope. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

/** The PCI bus as ACPI tells it. */
function pciHost({ ranges }: GuestMemory): AcpiPciHost {
  const memory64 = pciMemory64(ranges)
  return { ecamGpa: ECAM_GPA, lastBus: 0, memory32: PCI_MEMORY_32, memory64, intxGsis: PCI_GSIS }
}

function unexpectedExit(vcpu: Vcpu, exit: Exit): KvmError {
  const { rip } = vcpu.getRegs()
  const at = `at rip 0x${rip.toString(16)} of vCPU ${vcpu.id}`
  switch (exit.type) {
    case 'shutdown':
      return new KvmError('ERR_KVM_GUEST_CRASH', undefined, `the guest triple-faulted ${at}`)
    case 'internalError': {
      const bytes = exit.instruction
      const reason = bytes
        ? `KVM cannot emulate the instruction ${Buffer.from(bytes).toString('hex')}`
        : `suberror ${exit.suberror}, data ${exit.data.map((word) => `0x${word.toString(16)}`).join(' ')}`
      return new KvmError('ERR_KVM_GUEST_CRASH', undefined, `KVM gave up ${at}`, { reason })
    }
    case 'failEntry':
      return new KvmError(
        'ERR_KVM_GUEST_CRASH',
        undefined,
        `the CPU refused the guest's state ${at}`,
        {
          reason: `hardware reason 0x${exit.hardwareEntryFailureReason.toString(16)}`,
        },
      )
    default:
      return new KvmError('ERR_KVM_GUEST_CRASH', undefined, `unexpected exit '${exit.type}' ${at}`)
  }
}
