// The least that runs guest code: one VM, its RAM, one vCPU that stands at the first byte.

import { GuestMemory, Kvm, type Vcpu, type Vm } from '../../src/index.js'

/** Guest code is given as bytes, to be written under its disassembly. */
export type Code = readonly number[]

/** `jmp $`: never exits by itself. The same bytes in every mode. */
export const SPIN: Code = [0xeb, 0xfe]
/** `hlt`, again and again. The same bytes in every mode. */
export const HALT: Code = [0xf4, 0xeb, 0xfd]
/** `out 0x10, al`, again and again. The same bytes in every mode. */
export const OUT_LOOP: Code = [0xe6, 0x10, 0xeb, 0xfc]

/** What a test gets; closing it closes all four. */
export interface Guest extends Disposable {
  readonly kvm: Kvm
  readonly vm: Vm
  readonly vcpu: Vcpu
  readonly memory: GuestMemory
  close(): void
}

/** How the vCPU starts. */
export interface GuestOptions {
  /** Real mode (the default), or 64-bit code in that ring, the first 1 GiB mapped one to one. */
  mode?: 'real' | 'ring0' | 'ring3'
  /** Interrupt controllers in the kernel: HLT then waits there. */
  irqchip?: boolean
  /** Bytes of RAM at address 0. */
  memorySize?: number
}

/** Where {@link createGuest} puts the code. */
export const ENTRY = 0x8000
const TABLES = 0x1000
const PAGE = 0x1000

/** A guest with `code` at {@link ENTRY} and its instruction pointer there. */
export function createGuest(code: Code, options: GuestOptions = {}): Guest {
  const { mode = 'real', irqchip = false, memorySize = 0x10_0000 } = options
  const kvm = Kvm.open()
  const vm = kvm.createVm()
  if (irqchip) vm.createIrqchip()
  const memory = GuestMemory.create(memorySize)
  vm.mapMemory(memory)
  const vcpu = vm.createVcpu(0)
  memory.write(ENTRY, Uint8Array.from(code))
  if (mode === 'real') enterRealMode(vcpu)
  else enterLongMode(vcpu, memory, mode === 'ring3' ? 3 : 0)
  vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(ENTRY), rsp: BigInt(ENTRY), rflags: 2n })
  const close = () => {
    for (const part of [vcpu, vm, memory, kvm]) part.close()
  }
  return { kvm, vm, vcpu, memory, close, [Symbol.dispose]: close }
}

function enterRealMode(vcpu: Vcpu): void {
  const sregs = vcpu.getSregs()
  sregs.cs.base = 0n
  sregs.cs.selector = 0
  vcpu.setSregs(sregs)
}

/** Long mode in that ring, the first 1 GiB mapped one to one. */
// One table of each level; 2 MiB pages, so that CPUs without 1 GiB pages do. Descriptor tables stay
// empty: the code loads no segment and takes no interrupt.
export function enterLongMode(vcpu: Vcpu, memory: GuestMemory, ring: 0 | 3): void {
  const userWritablePresent = 7n
  memory.writeU64(TABLES, BigInt(TABLES + PAGE) | userWritablePresent)
  memory.writeU64(TABLES + PAGE, BigInt(TABLES + 2 * PAGE) | userWritablePresent)
  const largePage = 0x80n
  for (let i = 0; i < 512; i++) {
    const entry = (BigInt(i) << 21n) | largePage | userWritablePresent
    memory.writeU64(TABLES + 2 * PAGE + i * 8, entry)
  }
  const sregs = vcpu.getSregs()
  const flat = { base: 0n, limit: 0xffff_ffff, present: 1, dpl: ring, s: 1, g: 1, avl: 0 }
  const data = { ...sregs.ds, ...flat, selector: 0x10 | ring, type: 3, db: 1, l: 0, unusable: 0 }
  sregs.cs = { ...sregs.cs, ...flat, selector: 0x18 | ring, type: 11, db: 0, l: 1, unusable: 0 }
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data
  sregs.cr3 = BigInt(TABLES)
  sregs.cr4 |= 0x20n // PAE
  sregs.cr0 |= 0x8000_0001n // PG, PE
  sregs.efer |= 0x500n // LME, LMA
  vcpu.setSregs(sregs)
}
