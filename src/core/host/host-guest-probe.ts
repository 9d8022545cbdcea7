// Runs a few hundred instructions in each mode of the processor and asks KVM's own counter how many
// of them its instruction emulator had to carry out. That, and no list of backends, tells whether
// guest code of a mode runs on the processor.

import type { KvmSegment } from '../../uapi/index.js'
import { flagBits } from '../../x86/bitfields.js'
import { CR0, CR4 } from '../../x86/control-registers.js'
import { EFER } from '../../x86/efer.js'
import { KvmError } from '../errors.js'
import type { Kvm } from '../kvm.js'
import { GuestMemory } from '../memory.js'
import type { Vcpu } from '../vcpu.js'
import type { Vm } from '../vm.js'
import { readVcpuStat } from './host-vcpu-stat.js'

/**
 * Who executes guest code: `processor`, or KVM's instruction emulator (a hundred times slower);
 * null when the probe could not tell.
 */
export type GuestExecution = 'processor' | 'emulator' | null

/** Who executes guest code, by the mode it runs in. */
export interface HostGuestExecution {
  realMode: GuestExecution
  /** 32-bit protected mode without paging, ring 0. */
  protectedMode: GuestExecution
  /** 64-bit mode, ring 0: guest kernels. */
  longModeKernel: GuestExecution
  /** 64-bit mode, ring 3: guest applications. */
  longModeUser: GuestExecution
}

type Mode = keyof HostGuestExecution

const MODES: readonly Mode[] = ['realMode', 'protectedMode', 'longModeKernel', 'longModeUser']
const ITERATIONS = 400
const TIMEOUT_MS = 2000

const PML4 = 0x1000
const PDPT = 0x2000
const PAGE_DIRECTORY = 0x3000
const CODE = 0x8000
/** End of RAM, where a store leaves the guest; reachable with a 16-bit address. */
const OUTSIDE = 0xf000
/** Three pages below 4 GiB that real mode without unrestricted guest needs (KVM API 4.36). */
const TSS_ADDRESS = 0xfffb_d000

// The same bytes in all modes: `loop $`, then `mov [bx], al`, which is [edi] and [rdi] in the
// others. A store to where no RAM is leaves every mode, ring 3 too.
const PROGRAM = Uint8Array.of(0xe2, 0xfe, 0x88, 0x07)

/** Probes every mode on a VM of its own. */
export function probeGuestExecution(kvm: Kvm): HostGuestExecution {
  const vm = kvm.createVm()
  const memory = GuestMemory.create(OUTSIDE)
  try {
    memory.write(CODE, PROGRAM)
    identityMap(memory)
    vm.mapMemory(memory)
    vm.setTssAddr(TSS_ADDRESS)
    const results = MODES.map((mode, vcpuId) => [mode, probeMode(vm, mode, vcpuId)])
    return Object.fromEntries(results) as HostGuestExecution
  } finally {
    vm.close()
    memory.close()
  }
}

/** One 2 MiB page that ring 3 may use, at address 0. */
function identityMap(memory: GuestMemory): void {
  const presentWritableUser = 7n
  const largePage = 0x80n
  memory.writeU64(PML4, BigInt(PDPT) | presentWritableUser)
  memory.writeU64(PDPT, BigInt(PAGE_DIRECTORY) | presentWritableUser)
  memory.writeU64(PAGE_DIRECTORY, largePage | presentWritableUser)
}

function probeMode(vm: Vm, mode: Mode, vcpuId: number): GuestExecution {
  const vcpu = vm.createVcpu(vcpuId)
  try {
    enterMode(vcpu, mode)
    const at = { rip: BigInt(CODE), rflags: 2n, rcx: BigInt(ITERATIONS) }
    vcpu.updateRegs({ ...at, rbx: BigInt(OUTSIDE), rdi: BigInt(OUTSIDE) })
    const exit = vcpu.run({ timeoutMs: TIMEOUT_MS })
    if (exit.type !== 'mmio') return null
    const emulated = readVcpuStat(vcpu, 'insn_emulation')
    if (emulated === undefined) return null
    return emulated < ITERATIONS / 2 ? 'processor' : 'emulator'
  } catch (error) {
    if (error instanceof KvmError) return null
    throw error
  } finally {
    vcpu.close()
  }
}

function enterMode(vcpu: Vcpu, mode: Mode): void {
  const sregs = vcpu.getSregs()
  if (mode === 'realMode') {
    const cs = { ...sregs.cs, base: 0n, selector: 0 }
    vcpu.setSregs({ ...sregs, cs })
    return
  }
  const long = mode !== 'protectedMode'
  const dpl = mode === 'longModeUser' ? 3 : 0
  const data = flatSegment(2, dpl, false)
  vcpu.setSregs({
    ...sregs,
    cs: flatSegment(1, dpl, long),
    ds: data,
    es: data,
    ss: data,
    cr0: sregs.cr0 | flagBits(CR0, 'PE', 'ET', 'NE') | (long ? flagBits(CR0, 'PG') : 0n),
    cr3: long ? BigInt(PML4) : 0n,
    cr4: sregs.cr4 | (long ? flagBits(CR4, 'PAE') : 0n),
    efer: sregs.efer | (long ? flagBits(EFER, 'LME', 'LMA') : 0n),
  })
}

/** Code in slot 1 of the (absent) descriptor table, data in the others. */
function flatSegment(slot: number, dpl: number, long: boolean): KvmSegment {
  const code = slot === 1
  return {
    base: 0n,
    limit: 0xffff_ffff,
    selector: slot * 8 + dpl,
    type: code ? 0xb : 0x3,
    present: 1,
    dpl,
    db: long ? 0 : 1,
    s: 1,
    l: long && code ? 1 : 0,
    g: 1,
    avl: 0,
    unusable: 0,
  }
}
