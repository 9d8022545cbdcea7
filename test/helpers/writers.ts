// A guest whose vCPUs write by command: so many times, `stride` bytes apart, a value is added to what
// is in RAM. Each vCPU has a mailbox for the command and rings a doorbell when it is done.

import { type DirtyTracker, GuestMemory, Kvm, type Vcpu, type Vm } from '../../src/index.js'
import { enterLongMode } from './guest.js'

/** What a vCPU is to do. */
export interface Command {
  gpa: number
  stride: number
  count: number
  value: number
}

/** How to make the guest. */
export interface WriterOptions {
  /** The ring the code runs in: software KVMs interpret ring 0 and run ring 3 on the processor. */
  cpl?: 0 | 3
  vcpus?: number
  /** Bytes of each vCPU's dirty ring. */
  ringSize?: number
}

/** RAM from here on is the test's; it ends below {@link DOORBELL}. */
export const FREE = 0x20_0000
/** The slot of code, page tables and mailboxes is 0. */
export const FIRST_SLOT = 1
/** Nothing is mapped here. */
export const DOORBELL = 0x3fff_f000
/** As is RAM from here on, a GiB that the guest's page tables map as they do the first. */
export const HIGH = 0x4000_0000
const CODE = 0x8000
const MAILBOXES = 0x9000
const HIGH_TABLE = 0xb000
const DIRECTORY_POINTERS = 0x2000

const PROGRAM = Uint8Array.from(
  [
    [0x49, 0x8b, 0x3f], // start: mov rdi, [r15]
    [0x49, 0x8b, 0x77, 0x08], // mov rsi, [r15 + 8]
    [0x49, 0x8b, 0x4f, 0x10], // mov rcx, [r15 + 16]
    [0x49, 0x8b, 0x47, 0x18], // mov rax, [r15 + 24]
    [0x49, 0x8b, 0x57, 0x20], // mov rdx, [r15 + 32]
    [0x48, 0x85, 0xc9], // test rcx, rcx
    [0x74, 0x0b], // jz done
    [0x48, 0x01, 0x07], // loop: add [rdi], rax
    [0x48, 0x01, 0xf7], // add rdi, rsi
    [0x48, 0xff, 0xc9], // dec rcx
    [0x75, 0xf5], // jnz loop
    [0x89, 0x02], // done: mov [rdx], eax
    [0xeb, 0xd9], // jmp start
  ].flat(),
)

/** The guest. Closing it closes all that it made. */
export class Writers implements Disposable {
  readonly kvm: Kvm
  readonly vm: Vm
  readonly vcpus: readonly Vcpu[]
  readonly #low: GuestMemory

  constructor({ cpl = 3, vcpus = 1, ringSize = 0 }: WriterOptions = {}) {
    this.kvm = Kvm.open()
    this.vm = this.kvm.createVm()
    if (ringSize > 0) this.vm.enableCap('KVM_CAP_DIRTY_LOG_RING', { size: ringSize })
    this.#low = GuestMemory.create(0x1_0000)
    this.vm.mapMemory(this.#low)
    this.vcpus = Array.from({ length: vcpus }, (_, id) => this.#createVcpu(id, cpl))
    this.load(PROGRAM)
  }

  #createVcpu(id: number, cpl: 0 | 3): Vcpu {
    const vcpu = this.vm.createVcpu(id)
    enterLongMode(vcpu, this.#low, cpl)
    this.#mapHigh()
    const rip = BigInt(CODE)
    // Interrupts are on: Bochs never leaves a guest that keeps them off.
    vcpu.updateRegs({ rip, rflags: 0x202n, r15: BigInt(MAILBOXES + id * 64) })
    return vcpu
  }

  #mapHigh(): void {
    this.#low.writeU64(DIRECTORY_POINTERS + 8, BigInt(HIGH_TABLE | 7))
    for (let i = 0; i < 512; i++) {
      this.#low.writeU64(HIGH_TABLE + i * 8, BigInt(HIGH + i * 0x20_0000 + 0x87))
    }
  }

  /** Puts other code where the vCPUs begin. */
  load(code: Uint8Array): void {
    this.#low.write(CODE, code)
  }

  /** What vCPU `id` does when it looks into its mailbox the next time. */
  command(id: number, { gpa, stride, count, value }: Command): void {
    const words = [gpa, stride, count, value, DOORBELL]
    words.forEach((word, i) => {
      this.#low.writeU64(MAILBOXES + id * 64 + i * 8, BigInt(word))
    })
  }

  /** Lets a vCPU carry out a command, on this thread. */
  write(command: Command, tracker?: DirtyTracker, id = 0): void {
    this.command(id, command)
    const vcpu = this.vcpus[id]!
    for (;;) {
      const exit = vcpu.run({ timeoutMs: 10_000 })
      if (exit.type === 'mmio' && exit.gpa === DOORBELL) return
      if (exit.type !== 'dirtyRingFull' || tracker === undefined) {
        throw new Error(`unexpected exit: ${JSON.stringify(exit)}`)
      }
      tracker.makeRoom(vcpu)
    }
  }

  close(): void {
    for (const part of [...this.vcpus, this.vm, this.#low, this.kvm]) part.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
