// The guests of the benchmarks: endless loops in real mode that write to four ports or addresses in
// turn, so that a handler has to be looked up and cannot be compiled into the loop. The C side runs
// the same bytes (bench/native/loops.c knows the same ports and addresses).

import { GuestMemory, type Kvm, type Vcpu } from 'node-kvm'

/** Where the code starts. */
export const ENTRY = 0x1000
const RAM_SIZE = 0x10000

/** OUT with immediate and DX ports, 1, 2 and 4 bytes. */
export const PORT_LOOP = Uint8Array.from(
  [
    [0xba, 0xf8, 0x03], // mov dx, 0x3f8
    [0xb0, 0x48], // mov al, 'H'
    [0xe6, 0x10], // L: out 0x10, al
    [0xe7, 0x20], // out 0x20, ax
    [0x66, 0xe7, 0x80], // out 0x80, eax
    [0xee], // out dx, al
    [0xeb, 0xf6], // jmp L
  ].flat(),
)

/** The first address of the memory-mapped registers. */
export const MMIO_BASE = 0xd0000

/** MOV to addresses that no slot backs, 1, 2 and 4 bytes. */
export const MMIO_LOOP = Uint8Array.from(
  [
    [0xb8, 0x00, 0xd0], // mov ax, 0xd000
    [0x8e, 0xd8], // mov ds, ax
    [0xa2, 0x00, 0x00], // L: mov [0x00], al
    [0xa3, 0x10, 0x00], // mov [0x10], ax
    [0x66, 0xa3, 0x20, 0x00], // mov [0x20], eax
    [0xa2, 0x30, 0x00], // mov [0x30], al
    [0xeb, 0xf1], // jmp L
  ].flat(),
)

/** Makes with the library what `Loops.createGuest` makes with raw ioctls. */
export function createGuest(kvm: Kvm, code: Uint8Array): Vcpu {
  const vm = kvm.createVm()
  const memory = GuestMemory.create(RAM_SIZE)
  vm.mapMemory(memory)
  memory.write(ENTRY, code)
  const vcpu = vm.createVcpu(0)
  const sregs = vcpu.getSregs()
  sregs.cs.base = 0n
  sregs.cs.selector = 0
  vcpu.setSregs(sregs)
  vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(ENTRY), rflags: 2n })
  return vcpu
}
