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

/** IN from the ports of {@link PORT_LOOP}. */
export const READ_LOOP = Uint8Array.from(
  [
    [0xba, 0xf8, 0x03], // mov dx, 0x3f8
    [0xe4, 0x10], // L: in al, 0x10
    [0xe5, 0x20], // in ax, 0x20
    [0x66, 0xe5, 0x80], // in eax, 0x80
    [0xec], // in al, dx
    [0xeb, 0xf6], // jmp L
  ].flat(),
)

/** OUT after so many rounds of an empty loop: a guest that exits now and then. */
export const rareOut = (rounds: number) =>
  Uint8Array.from(
    [
      [0xb9, rounds & 0xff, rounds >> 8], // L: mov cx, rounds
      [0xe2, 0xfe], // loop $
      [0xe6, 0x10], // out 0x10, al
      [0xeb, 0xf7], // jmp L
    ].flat(),
  )

/**
 * Writes to port 0x10 and waits for a change of the word at 0x504, as often as the word at 0x500
 * says; then writes to port 0x11, and that again.
 */
export const DOORBELL = Uint8Array.from(
  [
    [0x8b, 0x0e, 0x00, 0x05], // L: mov cx, [0x500]
    [0xa1, 0x04, 0x05], // mov ax, [0x504]
    [0x89, 0xc3], // mov bx, ax
    [0xe6, 0x10], // R: out 0x10, al
    [0xa1, 0x04, 0x05], // W: mov ax, [0x504]
    [0x39, 0xd8], // cmp ax, bx
    [0x74, 0xf9], // je W
    [0x89, 0xc3], // mov bx, ax
    [0xe2, 0xf3], // loop R
    [0xe6, 0x11], // out 0x11, al
    [0xeb, 0xe6], // jmp L
  ].flat(),
)
/** Of {@link DOORBELL}. */
export const RINGS = 0x500
export const ANSWER = 0x504
export const BELL_PORT = 0x10

/** Makes with the library what `Loops.createGuest` makes with raw ioctls. */
export function createGuest(kvm: Kvm, code: Uint8Array): Vcpu {
  return createGuestWithMemory(kvm, code).vcpu
}

/** The same, with its RAM. */
export function createGuestWithMemory(
  kvm: Kvm,
  code: Uint8Array,
): { vcpu: Vcpu; memory: GuestMemory } {
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
  return { vcpu, memory }
}
