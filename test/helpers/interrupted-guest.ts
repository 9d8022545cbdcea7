// Runs the guest of guests/interrupted.S, which computes while a chain of timer interrupts goes on.

import { GuestMemory, type Kvm, type Vcpu, type Vm } from '../../src/index.js'
import { findCpuidEntry } from '../../src/x86/index.js'
import { enterLongMode } from './guest.js'
import { image, layout } from './guests/interrupted.js'

const MEMORY_SIZE = 0x1_0000
const DONE_PORT = 0x99
const SUMS = 32

/** What the guest shall do. */
export interface Work {
  /** Of its computation in ring 3. */
  iterations: number
  /** Timer interrupts, one after the other. */
  ticks: number
  /** The LAPIC timer's mode; a period is in nanoseconds or in TSC cycles. */
  timer: 'oneShot' | 'tscDeadline'
  period: number
}

/** A VM that stands ready to run the guest, or to have its state restored. */
export class InterruptedGuest implements Disposable {
  readonly kvm: Kvm
  readonly vm: Vm
  readonly vcpu: Vcpu
  readonly memory: GuestMemory

  constructor(kvm: Kvm) {
    this.kvm = kvm
    this.vm = kvm.createVm()
    this.vm.createIrqchip()
    this.memory = GuestMemory.create(MEMORY_SIZE)
    this.vm.mapMemory(this.memory)
    this.vcpu = this.vm.createVcpu(0)
  }

  /** Puts the guest at its first instruction. */
  load(work: Work): void {
    const { vcpu, memory } = this
    memory.write(layout.gpa, image)
    const words = [
      work.iterations,
      work.ticks,
      work.period,
      work.timer === 'oneShot' ? 0 : 0x4_0000,
    ]
    words.forEach((word, i) => {
      memory.writeU32(layout.parameters + i * 4, word)
    })
    const table = this.kvm.getSupportedCpuid()
    const features = findCpuidEntry(table, 1)!
    features.ecx = (features.ecx | (1 << 24)) >>> 0 // the LAPIC in the kernel has TSC deadlines
    vcpu.setCpuid2(table)
    enterLongMode(vcpu, memory, 0)
    const OSFXSR_OSXMMEXCPT = 0x600n
    vcpu.updateSregs({ cr4: vcpu.getSregs().cr4 | OSFXSR_OSXMMEXCPT })
    vcpu.updateRegs({ rip: BigInt(layout.start), rsp: 0x8000n, rflags: 2n })
  }

  /** Runs on for a while. @returns Whether the guest is through. */
  runFor(timeoutMs: number): boolean {
    const exit = this.vcpu.run({ timeoutMs })
    if (exit.type === 'intr') return false
    if (exit.type === 'io' && exit.port === DONE_PORT) return true
    const what = exit.type === 'io' ? `port ${exit.port}, value ${exit.value.toString(16)}` : ''
    throw new Error(`the guest ended in ${exit.type} ${what}`)
  }

  /** Runs to the end; one that has lost an interrupt would wait for it for ever. */
  finish(): void {
    for (let seconds = 0; seconds < 60; seconds++) if (this.runFor(1000)) return
    throw new Error(`the guest does not end; so far: ${this.result()}`)
  }

  /** How many it has seen. */
  get ticks(): number {
    return this.memory.readU32(layout.parameters + 16)
  }

  /** What it computed, and how many ticks it saw. */
  result(): string {
    const at = layout.parameters + 16
    const sums = this.memory.read(layout.parameters + SUMS, 64)
    const [ticks, tickSum] = [this.memory.readU32(at), this.memory.readU32(at + 4)]
    return `${ticks} ${tickSum} ${Buffer.from(sums).toString('hex')}`
  }

  close(): void {
    for (const part of [this.vcpu, this.vm, this.memory]) part.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
