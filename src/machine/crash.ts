// What is known about a machine that cannot go on: which vCPU, where it stands, and where the others do.

import type { Exit } from '../core/exits/exits.js'
import type { GuestMemory } from '../core/memory.js'
import type { Vcpu } from '../core/vcpu.js'
import type { KvmRegs } from '../uapi/index.js'
import { disassemble } from './disassemble.js'

/** One vCPU of a machine that has crashed. */
export interface VcpuReport {
  readonly id: number
  readonly regs: KvmRegs
  /** Control registers, EFER and the selector of CS. */
  readonly control: { readonly [name in 'cr0' | 'cr2' | 'cr3' | 'cr4' | 'efer']: bigint }
  readonly cs: number
  /** The instructions from RIP on, one a line; empty where RIP is in no memory. */
  readonly disassembly: readonly string[]
}

/**
 * Why a run ended without the guest's or the user's wish. `code` is `ERR_KVM_GUEST_CRASH` for what the
 * guest did (a triple fault, a panic, an instruction that KVM cannot emulate), else that of `cause`, the
 * error of a device or of KVM.
 */
export class MachineCrash extends Error {
  override readonly name = 'MachineCrash'
  readonly code: string
  /** The vCPU on which it happened. */
  readonly vcpuId: number
  /** All of them, as they were when they had stopped. */
  readonly vcpus: readonly VcpuReport[]

  constructor(reason: CrashReason, vcpuId: number, vcpus: readonly VcpuReport[]) {
    const rip = vcpus.find(({ id }) => id === vcpuId)?.regs.rip
    const where = rip === undefined ? '' : ` at rip ${hex(rip)} of vCPU ${vcpuId}`
    super(`${reason.text}${where}`, 'cause' in reason ? { cause: reason.cause } : {})
    this.code = reason.code
    this.vcpuId = vcpuId
    this.vcpus = vcpus
  }

  /** Registers and code of the vCPU that crashed, in lines for a terminal or a log. */
  get report(): string {
    const vcpu = this.vcpus.find(({ id }) => id === this.vcpuId)
    if (vcpu === undefined) return this.message
    return [this.message, ...registerLines(vcpu), ...vcpu.disassembly].join('\n')
  }
}

/** What a crash is called before the vCPUs have stopped. */
export interface CrashReason {
  readonly code: string
  readonly text: string
  readonly cause?: unknown
}

const GUEST = 'ERR_KVM_GUEST_CRASH'

/** The guest's kernel said so. */
export const panicked: CrashReason = { code: GUEST, text: "the guest's kernel panicked" }

/** Something threw: a device, an event's listener, KVM. */
export function failed(cause: unknown): CrashReason {
  const { code, message } = cause as { code?: unknown; message?: unknown }
  const text = typeof message === 'string' ? message : String(cause)
  return { code: typeof code === 'string' ? code : 'ERR_KVM_MACHINE', text, cause }
}

/** An exit after which the guest cannot go on. */
export function fatalExit(exit: Exit): CrashReason {
  switch (exit.type) {
    case 'shutdown':
      return { code: GUEST, text: 'the guest triple-faulted' }
    case 'internalError': {
      const bytes = exit.instruction
      const what = bytes
        ? `cannot emulate the instruction ${Buffer.from(bytes).toString('hex')}`
        : `gave up, suberror ${exit.suberror}, data ${exit.data.map(hex).join(' ')}`
      return { code: GUEST, text: `KVM ${what}` }
    }
    case 'failEntry': {
      const reason = hex(exit.hardwareEntryFailureReason)
      return { code: GUEST, text: `the CPU refused the guest's state, hardware reason ${reason}` }
    }
    default:
      return { code: GUEST, text: `unexpected exit '${exit.type}'` }
  }
}

/** Looks at a vCPU whose thread has ended. */
export async function reportVcpu(vcpu: Vcpu, memory: GuestMemory): Promise<VcpuReport> {
  const regs = vcpu.getRegs()
  const { cr0, cr2, cr3, cr4, efer, cs } = vcpu.getSregs()
  const bits = cs.l ? 64 : cs.db ? 32 : 16
  const code = codeAt(vcpu, memory, bits === 64 ? regs.rip : cs.base + regs.rip)
  const disassembly = await disassemble(code, regs.rip, bits)
  return { id: vcpu.id, regs, control: { cr0, cr2, cr3, cr4, efer }, cs: cs.selector, disassembly }
}

const CODE_BYTES = 32

function codeAt(vcpu: Vcpu, memory: GuestMemory, address: bigint): Uint8Array {
  try {
    const { valid, gpa } = vcpu.translate(address)
    const inPage = 4096 - (gpa % 4096)
    return valid ? memory.read(gpa, Math.min(CODE_BYTES, inPage)) : new Uint8Array(0)
  } catch {
    return new Uint8Array(0) // no RAM there: that may well be what went wrong
  }
}

function registerLines({ regs, control, cs }: VcpuReport): string[] {
  const all = { ...regs, ...control, cs: BigInt(cs) }
  const cells = Object.entries(all).map(
    ([name, value]) => `${name.padEnd(6)} ${value.toString(16).padStart(16, '0')}`,
  )
  const lines: string[] = []
  for (let i = 0; i < cells.length; i += 4) lines.push(cells.slice(i, i + 4).join('  '))
  return lines
}

const hex = (value: number | bigint): string => `0x${value.toString(16)}`
