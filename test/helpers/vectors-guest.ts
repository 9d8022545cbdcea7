// Runs the guest of guests/vectors.S: long mode, ring 0, a handler for every vector.

import { GuestMemory, Kvm, type Vcpu, type Vm } from '../../src/index.js'
import type { KvmCpuidEntry2 } from '../../src/uapi/index.js'
import { encodeMsi, findCpuidEntry, isAmdCpuid, LapicState } from '../../src/x86/index.js'
import { enterLongMode } from './guest.js'
import { image, layout } from './guests/vectors.js'

const MEMORY_SIZE = 0x40_0000
const IDT = 0x5000
const STUBS = 0x6000
const SCRIPT = 0x1_0000
const PROCESSORS = 0x2_0000
const VECTORS = 0x2_4000
const PDPT = 0x2000
const DEVICES = 0x4000
/** Where a handler writes its vector to, four bytes, when it is to {@link VectorsOptions.report}. */
export const REPORT_PORT = 0x500
const DONE_PORT = 0x504
const STUB_SIZE = 16
const HANDLER = 12
const AMD = 20
const SKIPPED = 24
const WOKEN = 28

/** How the handlers acknowledge; `pv`: to the x2APIC, where KVM does not say that it need not be. */
export type Eoi = 'none' | 'pic' | 'xapic' | 'x2apic' | 'pic+xapic' | 'pv'
const EOI: Record<Eoi, number> = { none: 0, x2apic: 2, xapic: 4, pic: 8, 'pic+xapic': 12, pv: 18 }

/** Where KVM says so, when MSR_KVM_PV_EOI_EN names it. */
export const PV_EOI = 0x2_8000
const HYPERCALLS = 0x3_0000

/** One thing that the guest does before it sleeps. */
export type Operation = readonly [code: number, a: number, b: number | bigint]
export const writeMsr = (msr: number, value: number | bigint): Operation => [1, msr, value]
export const outByte = (port: number, value: number): Operation => [2, port, value]
export const writeU32 = (gpa: number, value: number): Operation => [3, gpa, value]
export const enableInterrupts = (): Operation => [4, 0, 0]
/** TSC cycles from then on. */
export const tscDeadline = (cycles: number): Operation => [5, 0, cycles]
/** Waits for so many application processors. */
export const waitForProcessors = (count: number): Operation => [6, 0, count]
/** Exits; {@link VectorsGuest.untilDone} waits for it. */
export const done = (): Operation => [7, 0, 0]
/** Never sleeps but computes. */
export const spin = (): Operation => [8, 0, 0]

/** Calls KVM, by the instruction of the host's CPU. See {@link VectorsGuest.hypercallResult}. */
export const hypercall = (index: number, number: number): Operation => [
  9,
  number,
  HYPERCALLS + index * 64,
]

/** Both PICs on vectors 0x20-0x2f, everything unmasked. */
export const initPics = (): Operation[] => [
  ...[0x20, 0xa0].map((port) => outByte(port, 0x11)),
  outByte(0x21, 0x20),
  outByte(0xa1, 0x28),
  outByte(0x21, 4),
  outByte(0xa1, 2),
  ...[0x21, 0xa1].map((port) => outByte(port, 1)),
  ...[0x21, 0xa1].map((port) => outByte(port, 0)),
]

const IOAPIC = 0xfec0_0000
/** A redirection entry of the IOAPIC: fixed delivery to APIC 0. */
export const routeIoapic = (pin: number, vector: number, level = false): Operation[] => [
  writeU32(IOAPIC, 0x11 + pin * 2),
  writeU32(IOAPIC + 0x10, 0),
  writeU32(IOAPIC, 0x10 + pin * 2),
  writeU32(IOAPIC + 0x10, vector + (level ? 0x8000 : 0)),
]

/** The LAPIC on, in xAPIC mode. */
export const enableXapic = (): Operation => writeU32(0xfee0_00f0, 0x1ff)
/** The LAPIC on, in x2APIC mode. */
export const enableX2apic = (): Operation[] => [
  writeMsr(0x1b, 0xfee0_0d00n),
  writeMsr(0x80f, 0x1ff),
]

/** What the guest is made of. */
export interface VectorsOptions {
  irqchip?: 'whole' | 'split' | 'none'
  pit?: boolean
  eoi?: Eoi
  /** Whether each interrupt exits, with its vector, before it is acknowledged. Default true. */
  report?: boolean
  script?: readonly Operation[]
  /** Arguments of the hypercalls, by the index of {@link hypercall}. */
  hypercalls?: readonly (readonly bigint[])[]
  /** Changes CPUID before the vCPUs get it. */
  cpuid?: (table: KvmCpuidEntry2[]) => void
  /** Called with the fresh VM, before its first vCPU. */
  prepare?: (vm: Vm) => void
}

/** The guest with its first vCPU at its first instruction. */
export class VectorsGuest implements Disposable {
  readonly kvm = Kvm.open()
  readonly vm: Vm
  readonly memory: GuestMemory
  readonly vcpus: Vcpu[] = []
  readonly #cpuid: VectorsOptions['cpuid']

  constructor(options: VectorsOptions = {}) {
    const { irqchip = 'whole', pit = false, eoi = 'x2apic', report = true, script = [] } = options
    this.vm = this.kvm.createVm()
    this.memory = GuestMemory.create(MEMORY_SIZE)
    this.vm.mapMemory(this.memory)
    this.#cpuid = options.cpuid
    options.prepare?.(this.vm)
    if (irqchip === 'whole') this.vm.createIrqchip()
    if (irqchip === 'split') this.vm.enableCap('KVM_CAP_SPLIT_IRQCHIP', { routes: 24 })
    if (pit) this.vm.createPit2()
    this.#load(EOI[eoi] + (report ? 1 : 0), script)
    options.hypercalls?.forEach((args, index) => {
      args.forEach((arg, i) => {
        this.memory.writeU64(HYPERCALLS + index * 64 + i * 8, arg)
      })
    })
    const vcpu = this.addVcpu(0)
    enterLongMode(vcpu, this.memory, 0)
    this.#mapDevices()
    vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(layout.start), rsp: 0x9000n, rflags: 2n })
  }

  /** Creates a vCPU; all but the first wait for SIPI. */
  addVcpu(id: number): Vcpu {
    const vcpu = this.vm.createVcpu(id)
    const table = this.kvm.getSupportedCpuid()
    const features = findCpuidEntry(table, 1)!
    // What KVM's LAPIC has, whatever the host's: x2APIC, TSC deadlines.
    features.ecx = (features.ecx | (1 << 21) | (1 << 24)) >>> 0
    this.#cpuid?.(table)
    this.memory.writeU32(layout.parameters + AMD, isAmdCpuid(table) ? 1 : 0)
    vcpu.setCpuid2(table)
    this.vcpus.push(vcpu)
    return vcpu
  }

  get vcpu(): Vcpu {
    return this.vcpus[0]!
  }

  #load(flags: number, script: readonly Operation[]): void {
    const { memory } = this
    memory.write(layout.gpa, image)
    memory.writeU32(layout.parameters, flags)
    const handler = memory.readU32(layout.parameters + HANDLER)
    for (let vector = 0; vector < 256; vector++) {
      const stub = STUBS + vector * STUB_SIZE
      memory.writeU8(stub, 0x68) // push vector
      memory.writeU32(stub + 1, vector)
      memory.writeU8(stub + 5, 0xe9) // jmp interrupt
      memory.writeU32(stub + 6, handler - (stub + 10))
      memory.writeU32(IDT + vector * 16, 0x8_0000 + stub)
      memory.writeU32(IDT + vector * 16 + 4, 0x8e00)
    }
    script.forEach(([code, a, b], i) => {
      memory.writeU32(SCRIPT + i * 16, code)
      memory.writeU32(SCRIPT + i * 16 + 4, a)
      memory.writeU64(SCRIPT + i * 16 + 8, BigInt(b))
    })
  }

  /** The fourth GiB, where IOAPIC and LAPIC are. */
  #mapDevices(): void {
    this.memory.writeU64(PDPT + 3 * 8, BigInt(DEVICES) | 7n)
    for (let i = 0; i < 512; i++) {
      this.memory.writeU64(DEVICES + i * 8, (3n << 30n) | (BigInt(i) << 21n) | 0x87n)
    }
  }

  /** How often a vector was taken. */
  taken(vector: number): number {
    return this.memory.readU32(VECTORS + vector * 4)
  }

  /** How many interrupts the processor with this APIC id took. */
  takenBy(id: number): number {
    return this.memory.readU32(PROCESSORS + id * 4)
  }

  /** Application processors that sleep. */
  get online(): number {
    return this.memory.readU32(layout.parameters + 4)
  }

  /** EOIs that KVM did not need. */
  get skippedEois(): number {
    return this.memory.readU32(layout.parameters + SKIPPED)
  }

  /** How often a processor was woken from its sleep. */
  get woken(): number {
    return this.memory.readU32(layout.parameters + WOKEN)
  }

  /** What a hypercall returned. */
  hypercallResult(index: number): bigint {
    return BigInt.asIntN(64, this.memory.readU64(HYPERCALLS + index * 64 + 32))
  }

  /** Runs to the guest's next {@link done}. */
  untilDone(): void {
    this.#until(DONE_PORT)
  }

  /** Runs to the next interrupt and gives its vector; it is not acknowledged yet. */
  nextVector(): number {
    return this.#until(REPORT_PORT)
  }

  /** Runs for so long; throws if an interrupt comes. */
  quietFor(timeoutMs: number): void {
    const exit = this.vcpu.run({ timeoutMs })
    if (exit.type !== 'intr') throw new Error(`not quiet: ${describe(exit)}`)
  }

  #until(port: number): number {
    const exit = this.vcpu.run({ timeoutMs: 5000 })
    if (exit.type === 'io' && exit.port === port) return Number(exit.value)
    throw new Error(`waited for port ${port.toString(16)}, but: ${describe(exit)}`)
  }

  close(): void {
    for (const part of [...this.vcpus, this.vm, this.memory, this.kvm]) part.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

function describe(exit: { type: string }): string {
  return JSON.stringify(exit, (_, value) => (typeof value === 'bigint' ? `${value}` : value))
}

let called: boolean | undefined

/** Whether a hypercall from ring 0 comes back: on an engine that emulates ring 0 it was seen not to. */
export function hypercallsWork(): boolean {
  if (called !== undefined) return called
  const VAPIC_POLL_IRQ = 1
  using guest = new VectorsGuest({ script: [hypercall(0, VAPIC_POLL_IRQ), done()] })
  called = guest.vcpu.run({ timeoutMs: 1000 }).type === 'io' && guest.hypercallResult(0) === 0n
  return called
}

let inService: boolean | undefined

/**
 * Whether the LAPIC holds an interrupt in service until the guest's EOI, as hardware does. An engine
 * that emulates ring 0 was seen to clear it at once.
 */
export function keepsInService(): boolean {
  if (inService !== undefined) return inService
  using guest = new VectorsGuest({ script: [...enableX2apic(), done()] })
  guest.untilDone()
  guest.vm.signalMsi(encodeMsi({ destination: 0, vector: 0x51 }))
  guest.nextVector()
  inService = new LapicState(guest.vcpu.getLapic()).hasVector('ISR', 0x51)
  return inService
}
