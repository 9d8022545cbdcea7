// The guest whose written pages are collected, made with the library: the same as
// bench/native/tracked.c makes with raw ioctls.

import { availableParallelism } from 'node:os'
import { type DirtyMethod, DirtyTracker, GuestMemory, type Kvm, type Vcpu, type Vm } from 'node-kvm'

/** As bench/native/tracked.h has them. */
export const METHODS: readonly DirtyMethod[] = ['log', 'manual', 'ring']
export const VCPUS = 5
export const GPA = 0x4000_0000
export const SIZE = 0x4000_0000
const VCPU_CPU = 1
const CPUS = availableParallelism()
const RING_BYTES = 0x10_0000
const LOW_SIZE = 0x1_0000
const TABLES = 0x1000
const CODE = 0x8000
const MAILBOXES = 0x9000
const DOORBELL = 0x8000_0000
const PAGE = 4096

const PROGRAM = [
  [0x49, 0x8b, 0x3f], // start: mov rdi, [r15]
  [0x49, 0x8b, 0x77, 0x08], // mov rsi, [r15 + 8]
  [0x49, 0x8b, 0x4f, 0x10], // mov rcx, [r15 + 16]
  [0x49, 0x8b, 0x57, 0x18], // mov rdx, [r15 + 24]
  [0x48, 0x85, 0xc9], // test rcx, rcx
  [0x74, 0x0b], // jz done
  [0x48, 0x89, 0x0f], // loop: mov [rdi], rcx
  [0x48, 0x01, 0xf7], // add rdi, rsi
  [0x48, 0xff, 0xc9], // dec rcx
  [0x75, 0xf5], // jnz loop
  [0x89, 0x02], // done: mov [rdx], eax
  [0xeb, 0xdd], // jmp start
].flat()

/** What is in the first memory: code, and tables that map the first 4 GiB for ring 3. */
export function lowMemory(): Uint8Array {
  const bytes = new Uint8Array(LOW_SIZE)
  const words = new BigUint64Array(bytes.buffer)
  words[TABLES / 8] = BigInt(TABLES + PAGE) | 7n
  for (let i = 0; i < 4; i++) words[(TABLES + PAGE) / 8 + i] = BigInt(TABLES + (2 + i) * PAGE) | 7n
  for (let i = 0; i < 2048; i++) {
    words[(TABLES + 2 * PAGE) / 8 + i] = (BigInt(i) << 21n) | 0x87n
  }
  bytes.set(PROGRAM, CODE)
  return bytes
}

/** Tells each vCPU to write to its share of `pages` pages, `stride` pages apart. */
export function command(low: ArrayBuffer, stride: number, pages: number): void {
  const words = new BigUint64Array(low, MAILBOXES)
  const share = Math.ceil(pages / VCPUS)
  for (let id = 0; id < VCPUS; id++) {
    const first = Math.min(id * share, pages)
    const count = Math.min(share, pages - first)
    const values = [GPA + first * stride * PAGE, stride * PAGE, count, DOORBELL]
    values.forEach((value, i) => {
      words[id * 8 + i] = BigInt(value)
    })
  }
}

/** A guest of ours. */
export class Tracked {
  readonly low: ArrayBuffer
  readonly vm: Vm
  readonly #vcpus: readonly Vcpu[]
  readonly #tracker: DirtyTracker
  readonly #memories: readonly GuestMemory[]

  constructor(kvm: Kvm, method: DirtyMethod) {
    this.vm = kvm.createVm()
    if (method === 'ring') this.vm.enableCap('KVM_CAP_DIRTY_LOG_RING', { size: RING_BYTES })
    const low = GuestMemory.create(LOW_SIZE)
    low.write(0, lowMemory())
    this.low = low.view(0, LOW_SIZE).buffer as ArrayBuffer
    const memory = GuestMemory.create([{ gpa: GPA, size: SIZE }])
    this.vm.mapMemory(low)
    this.vm.mapMemory(memory, { firstSlot: 1 })
    this.#memories = [low, memory]
    this.#vcpus = Array.from({ length: VCPUS }, (_, id) => longModeVcpu(this.vm, id))
    this.#tracker = DirtyTracker.start(this.vm, { method, vcpus: this.#vcpus, slots: [1] })
  }

  /** Lets each vCPU carry out its command, on a thread of its own. */
  async write(): Promise<void> {
    for (const vcpu of this.#vcpus) {
      vcpu.start((exit) => {
        if (exit.type === 'intr') return
        if (exit.type !== 'mmio') throw new Error(`unexpected exit: ${exit.type}`)
        vcpu.stop()
      })
      if (CPUS > VCPU_CPU) vcpu.setAffinity([VCPU_CPU])
      await vcpu.join()
    }
  }

  /** How many pages it found. */
  collect(): number {
    let bytes = 0
    let ranges = 0
    this.#tracker.collect((_, size) => {
      bytes += size
      ranges++
    })
    return ranges > 0 ? bytes / PAGE : 0
  }

  close(): void {
    for (const part of [...this.#vcpus, this.vm, ...this.#memories]) part.close()
  }
}

function longModeVcpu(vm: Vm, id: number): Vcpu {
  const vcpu = vm.createVcpu(id)
  const sregs = vcpu.getSregs()
  const flat = { base: 0n, limit: 0xffff_ffff, present: 1, dpl: 3, s: 1, g: 1, avl: 0 }
  const data = { ...sregs.ds, ...flat, selector: 0x13, type: 3, db: 1, l: 0, unusable: 0 }
  const cs = { ...sregs.cs, ...flat, selector: 0x1b, type: 11, db: 0, l: 1, unusable: 0 }
  vcpu.setSregs({
    ...sregs,
    cs,
    ds: data,
    es: data,
    fs: data,
    gs: data,
    ss: data,
    cr3: BigInt(TABLES),
    cr4: sregs.cr4 | 0x20n,
    cr0: sregs.cr0 | 0x8000_0001n,
    efer: sregs.efer | 0x500n,
  })
  vcpu.updateRegs({ rip: BigInt(CODE), rflags: 2n, r15: BigInt(MAILBOXES + id * 64) })
  return vcpu
}
