// The guests of the benchmarks: endless loops in real mode that write to four ports or addresses in
// turn, so that a handler has to be looked up and cannot be compiled into the loop. The C side runs
// the same bytes (bench/native/loops.c knows the same ports and addresses).

import { GuestMemory, type Kvm, type Vcpu, type Vm } from 'node-kvm'

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

/**
 * The first processor of many: starts all others, and writes to port 0x10 when as many as the word
 * at 0x500 says have begun to count.
 */
export const SMP_BOOT = Uint8Array.from(
  [
    [0x66, 0xb9, 0x1b, 0x00, 0x00, 0x00], // mov ecx, 0x1b: IA32_APIC_BASE
    [0x0f, 0x32], // rdmsr
    [0x66, 0x0d, 0x00, 0x0c, 0x00, 0x00], // or eax, 0xc00: x2APIC
    [0x0f, 0x30], // wrmsr
    [0x66, 0x31, 0xd2], // xor edx, edx
    [0x66, 0xb9, 0x0f, 0x08, 0x00, 0x00], // mov ecx, 0x80f: SVR
    [0x66, 0xb8, 0xff, 0x01, 0x00, 0x00], // mov eax, 0x1ff
    [0x0f, 0x30], // wrmsr
    [0x66, 0xb9, 0x30, 0x08, 0x00, 0x00], // mov ecx, 0x830: ICR
    [0x66, 0xb8, 0x00, 0x45, 0x0c, 0x00], // mov eax, 0xc4500: INIT, all but self
    [0x0f, 0x30], // wrmsr
    [0x66, 0xb8, 0x09, 0x46, 0x0c, 0x00], // mov eax, 0xc4609: SIPI to 0x9000
    [0x0f, 0x30], // wrmsr
    [0xa1, 0x04, 0x05], // W: mov ax, [0x504]
    [0x3b, 0x06, 0x00, 0x05], // cmp ax, [0x500]
    [0x75, 0xf7], // jne W
    [0xe6, 0x10], // out 0x10, al
    [0xf4], // hlt
  ].flat(),
)

/**
 * The others, from 0x9000: each counts in a doubleword of its own, from 0x4004 on, once at its start
 * and then at each tick of its timer, 20 times in a second. (Would they count without pause, those
 * that have begun would keep the others off the host's CPUs, and a start take as long as the
 * scheduler likes.)
 */
export const SMP_AP = Uint8Array.from(
  [
    [0x66, 0xb9, 0x1b, 0x00, 0x00, 0x00], // mov ecx, 0x1b: IA32_APIC_BASE
    [0x0f, 0x32], // rdmsr
    [0x66, 0x0d, 0x00, 0x0c, 0x00, 0x00], // or eax, 0xc00: x2APIC
    [0x0f, 0x30], // wrmsr
    [0x66, 0x31, 0xd2], // xor edx, edx
    [0x66, 0xb9, 0x0f, 0x08, 0x00, 0x00], // mov ecx, 0x80f: SVR
    [0x66, 0xb8, 0xff, 0x01, 0x00, 0x00], // mov eax, 0x1ff
    [0x0f, 0x30], // wrmsr
    [0x31, 0xc0], // xor ax, ax
    [0x8e, 0xd8], // mov ds, ax
    [0x8e, 0xd0], // mov ss, ax
    [0xb8, 0x01, 0x00], // mov ax, 1
    [0xf0, 0x0f, 0xc1, 0x06, 0x02, 0x05], // lock xadd [0x502], ax
    [0x89, 0xc3], // mov bx, ax
    [0xc1, 0xe3, 0x02], // shl bx, 2
    [0x89, 0xdc], // mov sp, bx
    [0x01, 0xe4], // add sp, sp: 8 bytes of stack for each
    [0x81, 0xc4, 0x08, 0x60], // add sp, 0x6008
    [0x66, 0xff, 0x87, 0x04, 0x40], // inc dword [bx + 0x4004]
    [0xf0, 0xff, 0x06, 0x04, 0x05], // lock inc word [0x504]
    [0x66, 0xb9, 0x3e, 0x08, 0x00, 0x00], // mov ecx, 0x83e: timer's divider
    [0x66, 0xb8, 0x0b, 0x00, 0x00, 0x00], // mov eax, 0xb: none
    [0x0f, 0x30], // wrmsr
    [0x66, 0xb9, 0x32, 0x08, 0x00, 0x00], // mov ecx, 0x832: LVT of the timer
    [0x66, 0xb8, 0x40, 0x00, 0x02, 0x00], // mov eax, 0x20040: periodic, vector 0x40
    [0x0f, 0x30], // wrmsr
    [0x66, 0xb9, 0x38, 0x08, 0x00, 0x00], // mov ecx, 0x838: initial count
    [0x66, 0xb8, 0x80, 0xf0, 0xfa, 0x02], // mov eax, 50000000 ns
    [0x0f, 0x30], // wrmsr
    [0xfb], // S: sti
    [0xf4], // hlt
    [0xeb, 0xfc], // jmp S
  ].flat(),
)

/** The timer's interrupt, at {@link AP_TICK}. */
export const SMP_TICK = Uint8Array.from(
  [
    [0x66, 0xff, 0x87, 0x04, 0x40], // inc dword [bx + 0x4004]
    [0x66, 0xb9, 0x0b, 0x08, 0x00, 0x00], // mov ecx, 0x80b: EOI
    [0x66, 0x31, 0xc0], // xor eax, eax
    [0x0f, 0x30], // wrmsr
    [0xcf], // iret
  ].flat(),
)
/** Of the two. */
export const AP_ENTRY = 0x9000
export const AP_TICK = 0x9800
export const AP_TICK_VECTOR = 0x40
export const EXPECTED = 0x500
export const COUNTERS = 0x4000

/** The port that {@link INTERRUPTED} rings. */
export const DOORBELL_PORT = 0x50

/** Sleeps; its handler acknowledges to the x2APIC and rings. */
export const INTERRUPTED = Uint8Array.from(
  [
    [0xfb], // L: sti
    [0xf4], // hlt
    [0xeb, 0xfc], // jmp L
    [0x66, 0xb9, 0x0b, 0x08, 0x00, 0x00], // handler: mov ecx, 0x80b
    [0x66, 0x31, 0xc0], // xor eax, eax
    [0x66, 0x31, 0xd2], // xor edx, edx
    [0x0f, 0x30], // wrmsr
    [0xe6, DOORBELL_PORT], // out DOORBELL_PORT, al
    [0xcf], // iret
  ].flat(),
)
/** Its handler. */
export const HANDLER = ENTRY + 4

/** Makes with the library what `Loops.createGuest` makes with raw ioctls. */
export function createGuest(kvm: Kvm, code: Uint8Array): Vcpu {
  return createGuestWithMemory(kvm, code).vcpu
}

/** The same, with its RAM. `prepare` is given the VM before its vCPU. */
export function createGuestWithMemory(
  kvm: Kvm,
  code: Uint8Array,
  prepare?: (vm: Vm) => void,
): { vm: Vm; vcpu: Vcpu; memory: GuestMemory } {
  const vm = kvm.createVm()
  const memory = GuestMemory.create(RAM_SIZE)
  vm.mapMemory(memory)
  memory.write(ENTRY, code)
  prepare?.(vm)
  const vcpu = vm.createVcpu(0)
  const sregs = vcpu.getSregs()
  sregs.cs.base = 0n
  sregs.cs.selector = 0
  vcpu.setSregs(sregs)
  vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(ENTRY), rflags: 2n })
  return { vm, vcpu, memory }
}
