// Commands of confidential guests that concern one vCPU: Intel's TDX. (AMD's SEV has none.)

import {
  decodeKvmCpuidEntry2,
  encodeKvmTdxInitMemRegion,
  invalidArgValue,
  KVM_TDX_GET_CPUID,
  KVM_TDX_INIT_MEM_REGION,
  KVM_TDX_INIT_VCPU,
  KVM_TDX_MEASURE_MEMORY_REGION,
  type KvmCpuidEntry2,
  StructView,
} from '../../uapi/index.js'
import type { EncryptCommand } from '../confidential/encrypt-command.js'
import { kvmError } from '../errors.js'
import { uint64 } from '../uint64.js'
import { bytes, integer, list, object, outOfRange, uint32 } from '../validate.js'
import { VcpuControl } from './vcpu-control.js'

const PAGE = 4096
const NOTHING = new Uint8Array()
const MAX_CPUID_ENTRIES = 256

/** Encryption of a vCPU. */
export abstract class VcpuEncryption extends VcpuControl {
  /**
   * Issues a command of TDX; the methods beside it know each. SEV has none that concern a vCPU.
   *
   * @ioctl KVM_MEMORY_ENCRYPT_OP (KVM API 4.110)
   * @throws KvmError `ENOTTY` unless the VM is a TDX guest; else with what the TDX module said.
   */
  memoryEncryptOp(command: EncryptCommand): void {
    const { family, name, id, flags = 0, struct = NOTHING, buffers } = object(command, 'command')
    if (family !== 'tdx') throw invalidArgValue('command.family', 'must be "tdx" for a vCPU')
    const result = this.native.memoryEncryptOp(
      this.handle,
      1,
      uint32(id, 'command.id'),
      uint32(flags, 'command.flags'),
      bytes(struct, 'command.struct'),
      list(buffers ?? [], 'command.buffers').map((buffer) =>
        buffer === null ? null : bytes(buffer, 'command.buffers'),
      ),
      null,
    )
    if (result >= 0) return
    const module = this.native.view.u64[0]!
    const details = { ioctl: `KVM_MEMORY_ENCRYPT_OP ${name}`, vcpuId: this.id }
    const reason = `TDX module: 0x${module.toString(16)}`
    const reasons = { ENOTTY: 'this VM has no TDX: see KVM_CAP_VM_TYPES and createVm' }
    throw kvmError(result, module === 0n ? { ...details, reasons } : { ...details, reason })
  }

  /** Initializes the vCPU of a TDX guest; its first code finds `rcx` in RCX. */
  tdxInitVcpu(rcx = 0n): void {
    const struct = new Uint8Array(BigUint64Array.of(uint64(rcx, 'rcx')).buffer)
    this.#tdx('KVM_TDX_INIT_VCPU', { id: KVM_TDX_INIT_VCPU, struct })
  }

  /**
   * Copies whole pages into a TDX guest's private memory before it starts.
   *
   * @returns How many pages were taken; fewer than given when a signal came: go on from there.
   */
  tdxInitMemRegion(gpa: number, pages: Uint8Array, options: { measure?: boolean } = {}): number {
    const { measure = false } = object(options, 'options')
    const source = bytes(pages, 'pages')
    if (source.length % PAGE !== 0) {
      throw outOfRange('pages.length', `a multiple of ${PAGE}`, source.length)
    }
    const count = source.length / PAGE
    const view = new StructView(24)
    encodeKvmTdxInitMemRegion(view, 0, {
      source_addr: 0n,
      gpa: integer(gpa, 'gpa'),
      nr_pages: count,
    })
    const flags = measure ? KVM_TDX_MEASURE_MEMORY_REGION : 0
    const command = { id: KVM_TDX_INIT_MEM_REGION, flags, struct: view.u8, buffers: [source] }
    this.#tdx('KVM_TDX_INIT_MEM_REGION', command)
    return count - Number(view.u64[2])
  }

  /** The CPUID leaves that the TDX module will answer this guest. */
  tdxGetCpuid(): KvmCpuidEntry2[] {
    const view = new StructView(8 + MAX_CPUID_ENTRIES * 40)
    view.u32[0] = MAX_CPUID_ENTRIES
    this.#tdx('KVM_TDX_GET_CPUID', { id: KVM_TDX_GET_CPUID, struct: view.u8 })
    return Array.from({ length: view.u32[0]! }, (_, i) => decodeKvmCpuidEntry2(view, 8 + i * 40))
  }

  #tdx(name: string, command: Omit<EncryptCommand, 'family' | 'name'>): void {
    this.memoryEncryptOp({ family: 'tdx', name, ...command })
  }
}
