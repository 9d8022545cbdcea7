// A vCPU's whole state as a plain value, and back. The order is the point of this file.

import {
  KVM_CAP_IRQCHIP,
  KVM_CAP_MCE,
  KVM_CAP_MP_STATE,
  KVM_CAP_NESTED_STATE,
  KVM_CAP_ONE_REG,
  KVM_CAP_SREGS2,
  KVM_CAP_XSAVE2,
  KVM_SREGS2_FLAGS_PDPTRS_VALID,
  type KvmCpuidEntry2,
  type KvmDebugregs,
  type KvmRegs,
  type KvmSregs,
  type KvmSregs2,
  type KvmVcpuEvents,
  type KvmXcr,
} from '../../uapi/index.js'
import { KvmError } from '../errors.js'
import type { MsrEntry } from '../vcpu/vcpu-msrs.js'
import type { NestedState } from '../vcpu/vcpu-nested.js'
import type { Vcpu } from '../vcpu.js'
import { MCG_CAP, readMsrs, writeMsrs } from './state-msrs.js'
import { checkVersion } from './state-version.js'

/** The version of {@link VcpuState} that this library writes. */
export const VCPU_STATE_VERSION = 1

/**
 * Everything KVM keeps for a vCPU, as {@link Vcpu.saveState} gives it. Parts that the kernel or the
 * VM does not have are null. It can be cloned, posted, and turned into text by {@link stringifyState}.
 */
export interface VcpuState {
  version: typeof VCPU_STATE_VERSION
  /** The vCPU's number when it was saved. */
  id: number
  cpuid: KvmCpuidEntry2[]
  /** IA32_MCG_CAP, which decides about the machine-check MSRs. */
  mcgCap: bigint | null
  tscKhz: number | null
  sregs: KvmSregs2
  debugregs: KvmDebugregs
  xcrs: KvmXcr[]
  /** The XSAVE area: x87, SSE, AVX and later. */
  xsave: Uint8Array
  /** The LAPIC's registers. */
  lapic: Uint8Array | null
  /** In the order in which they are to be written. */
  msrs: MsrEntry[]
  /** Registers that only KVM_GET_ONE_REG reaches. */
  oneRegs: { id: bigint; value: bigint }[]
  regs: KvmRegs
  nested: NestedState | null
  events: KvmVcpuEvents
  mpState: number | null
}

/** See {@link Vcpu.saveState}. */
export function saveVcpuState(vcpu: Vcpu): VcpuState {
  finishInstruction(vcpu)
  const has = (capability: number) => vcpu.vm.checkExtension(capability) > 0
  // ORDER: the multiprocessing state first: asking for it makes a vCPU accept a pending INIT or SIPI,
  // which changes everything below.
  const mpState = has(KVM_CAP_MP_STATE) ? vcpu.getMpState() : null
  const state = {
    version: VCPU_STATE_VERSION,
    id: vcpu.id,
    cpuid: vcpu.getCpuid2(),
    mcgCap: has(KVM_CAP_MCE) ? vcpu.getMsrs([MCG_CAP])[0]!.data : null,
    tscKhz: tscKhzOf(vcpu),
    sregs: has(KVM_CAP_SREGS2) ? vcpu.getSregs2() : fromSregs(vcpu.getSregs()),
    debugregs: vcpu.getDebugregs(),
    xcrs: vcpu.getXcrs(),
    xsave: has(KVM_CAP_XSAVE2) ? vcpu.getXsave2() : vcpu.getXsave(),
    // ORDER: the LAPIC before the MSRs: reading it brings its timer up to date.
    lapic: has(KVM_CAP_IRQCHIP) ? lapicOf(vcpu) : null,
    msrs: readMsrs(vcpu),
    oneRegs: has(KVM_CAP_ONE_REG) ? oneRegsOf(vcpu) : [],
    regs: vcpu.getRegs(),
    nested: has(KVM_CAP_NESTED_STATE) ? vcpu.getNestedState() : null,
    // ORDER: the events last: what was asked for before may move an interrupt from one place to
    // another.
    events: vcpu.getVcpuEvents(),
    mpState,
  } satisfies VcpuState
  return state
}

/** See {@link Vcpu.restoreState}. */
export function restoreVcpuState(vcpu: Vcpu, state: VcpuState): void {
  checkVersion(state, VCPU_STATE_VERSION)
  // ORDER: CPUID first: it decides which bits of CR4, EFER and XCR0 and which MSRs the vCPU may have.
  if (state.cpuid.length > 0) vcpu.setCpuid2(state.cpuid)
  // ORDER: the number of banks before the MSRs of those banks, which it resets.
  if (state.mcgCap !== null && (state.mcgCap & 0xffn) !== 0n) vcpu.x86SetupMce(state.mcgCap)
  // ORDER: the TSC's rate before its value.
  if (state.tscKhz !== null && tscKhzOf(vcpu) !== state.tscKhz) vcpu.setTscKhz(state.tscKhz)
  // ORDER: special registers before all that depends on the mode they put the vCPU in: the APIC base
  // (xAPIC or x2APIC) before the LAPIC, EFER and CR4 before nested state and XCR0.
  setSregs(vcpu, state.sregs)
  vcpu.setDebugregs(state.debugregs)
  // ORDER: XCR0 before the XSAVE area whose components it allows.
  vcpu.setXcrs(state.xcrs)
  vcpu.setXsave(state.xsave)
  // ORDER: the LAPIC before the MSRs: the TSC deadline is taken only when its timer is in that mode.
  if (state.lapic !== null) vcpu.setLapic(state.lapic)
  writeMsrs(vcpu, state.msrs)
  for (const { id, value } of state.oneRegs) vcpu.setOneReg(id, value)
  vcpu.setRegs(state.regs)
  // ORDER: nested state after the registers and MSRs of the guest's own guest, which it checks, and
  // before the events, which may be those of either.
  if (state.nested !== null) vcpu.setNestedState(state.nested)
  // ORDER: events after everything that drops or injects some: the general and special registers.
  vcpu.setVcpuEvents(state.events)
  // ORDER: whether it runs at all comes last: a halted vCPU wakes up for what was set before.
  if (state.mpState !== null) vcpu.setMpState(state.mpState)
}

/** Completes what the last exit interrupted, or says that it needs another answer. */
export function finishInstruction(vcpu: Vcpu): void {
  const exit = vcpu.completeIo()
  if (exit === undefined) return
  throw new KvmError('ERR_KVM_IO_PENDING', undefined, 'the guest is in the middle of an access', {
    vcpuId: vcpu.id,
    reason: `answer the ${exit.type} exit and call completeIo() until it returns undefined`,
  })
}

function tscKhzOf(vcpu: Vcpu): number | null {
  try {
    return vcpu.getTscKhz()
  } catch (error) {
    // KERNEL: an unstable host TSC has no rate to tell (EIO).
    if (error instanceof KvmError && ['EIO', 'ERR_KVM_CAP_MISSING'].includes(error.code))
      return null
    throw error
  }
}

function lapicOf(vcpu: Vcpu): Uint8Array | null {
  try {
    return vcpu.getLapic()
  } catch (error) {
    if (error instanceof KvmError && error.code === 'EINVAL') return null // it is in user space
    throw error
  }
}

function oneRegsOf(vcpu: Vcpu): VcpuState['oneRegs'] {
  return vcpu.getRegList().map((id) => ({ id, value: vcpu.getOneReg(id) }))
}

function fromSregs({ interrupt_bitmap: _, ...sregs }: KvmSregs): KvmSregs2 {
  return { ...sregs, flags: 0n, pdptrs: [0n, 0n, 0n, 0n] }
}

function setSregs(vcpu: Vcpu, sregs: KvmSregs2): void {
  if (vcpu.vm.checkExtension(KVM_CAP_SREGS2) > 0) {
    vcpu.setSregs2(sregs)
    return
  }
  const { flags, pdptrs: _, ...rest } = sregs
  if ((flags & BigInt(KVM_SREGS2_FLAGS_PDPTRS_VALID)) !== 0n) {
    // KVM_SET_SREGS reads them from guest memory, which on a real CPU may since have changed.
    throw new KvmError('ERR_KVM_CAP_MISSING', undefined, 'the state needs the capability', {
      capability: 'KVM_CAP_SREGS2',
      vcpuId: vcpu.id,
    })
  }
  vcpu.setSregs({ ...rest, interrupt_bitmap: [0n, 0n, 0n, 0n] })
}
