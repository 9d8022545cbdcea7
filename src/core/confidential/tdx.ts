// Intel TDX: launching a trust domain. Those commands that belong to a vCPU are methods of the vCPU's
// side. Source: KVM's Documentation/virt/kvm/x86/intel-tdx.rst.

import {
  decodeKvmCpuidEntry2,
  decodeKvmTdxCapabilities,
  encodeKvmCpuidEntry2,
  encodeKvmTdxInitVm,
  KVM_TDX_CAPABILITIES,
  KVM_TDX_FINALIZE_VM,
  KVM_TDX_INIT_VM,
  type KvmCpuidEntry2,
  type KvmTdxCapabilities,
  type KvmTdxInitVm,
  type StructView,
} from '../../uapi/index.js'
import { list, object, outOfRange } from '../validate.js'
import { type EncryptStruct, type EncryptTarget, encryptStruct } from './encrypt-command.js'

const ENTRY = 40
const MAX_ENTRIES = 256
const CAPABILITIES_SIZE = 2056
const INIT_VM_SIZE = 264

/** What {@link Tdx.capabilities} gives. */
export type TdxCapabilities = Omit<KvmTdxCapabilities, 'cpuid'> & {
  /** The CPUID bits that can be set for a guest. */
  cpuid: KvmCpuidEntry2[]
}

/** What {@link Tdx.initVm} takes. */
export type TdxInitVm = Omit<KvmTdxInitVm, 'cpuid'> & {
  /** The guest's CPUID. */
  cpuid: readonly KvmCpuidEntry2[]
}

/** The commands of a VM of type `KVM_X86_TDX_VM`. */
export class Tdx {
  readonly #target: EncryptTarget

  constructor(vm: EncryptTarget) {
    this.#target = vm
  }

  /** What the TDX module and KVM can give a guest. `KVM_TDX_CAPABILITIES` */
  capabilities(): TdxCapabilities {
    const countAt = (CAPABILITIES_SIZE - 8) / 4
    const { view } = this.#issue(
      'KVM_TDX_CAPABILITIES',
      KVM_TDX_CAPABILITIES,
      CAPABILITIES_SIZE + MAX_ENTRIES * ENTRY,
      (draft) => {
        draft.u32[countAt] = MAX_ENTRIES
      },
    )
    const count = view.u32[countAt]!
    return {
      ...decodeKvmTdxCapabilities(view, 0),
      cpuid: Array.from({ length: count }, (_, i) =>
        decodeKvmCpuidEntry2(view, CAPABILITIES_SIZE + i * ENTRY),
      ),
    }
  }

  /** Gives the trust domain its attributes and CPUID. Before the first vCPU. `KVM_TDX_INIT_VM` */
  initVm(options: TdxInitVm): void {
    const { cpuid, ...rest } = object(options, 'options')
    const entries = list(cpuid, 'options.cpuid')
    if (entries.length > MAX_ENTRIES) {
      throw outOfRange('options.cpuid.length', `<= ${MAX_ENTRIES}`, entries.length)
    }
    this.#issue(
      'KVM_TDX_INIT_VM',
      KVM_TDX_INIT_VM,
      INIT_VM_SIZE + entries.length * ENTRY,
      (view) => {
        encodeKvmTdxInitVm(view, 0, { ...rest, cpuid: { nent: entries.length } })
        for (const [i, entry] of entries.entries()) {
          encodeKvmCpuidEntry2(view, INIT_VM_SIZE + i * ENTRY, entry)
        }
      },
    )
  }

  /** Completes the measurement: the guest may run. `KVM_TDX_FINALIZE_VM` */
  finalizeVm(): void {
    this.#issue('KVM_TDX_FINALIZE_VM', KVM_TDX_FINALIZE_VM, 0, () => {})
  }

  #issue(
    name: string,
    id: number,
    size: number,
    encode: (view: StructView) => void,
  ): EncryptStruct {
    const struct = encryptStruct(size, encode)
    this.#target.memoryEncryptOp({ family: 'tdx', name, id, struct: struct.bytes })
    return struct
  }
}
