// What the guest's CPUID instruction answers.

import {
  decodeKvmCpuidEntry2,
  encodeKvmCpuidEntry,
  encodeKvmCpuidEntry2,
  KVM_CAP_EXT_CPUID,
  KVM_CAP_HYPERV_CPUID,
  KVM_GET_CPUID2,
  KVM_GET_SUPPORTED_HV_CPUID,
  KVM_SET_CPUID,
  KVM_SET_CPUID2,
  type KvmCpuidEntry,
  type KvmCpuidEntry2,
  type StructView,
} from '../../uapi/index.js'
import { list, outOfRange } from '../validate.js'
import { VcpuOneReg } from './vcpu-one-reg.js'

/** The kernel takes no more in one table (KVM_MAX_CPUID_ENTRIES). */
const MAX_ENTRIES = 256
/** Bytes of struct kvm_cpuid2 before its entries, and of the two kinds of entry. */
const HEADER = 8
const ENTRY = 24
const ENTRY2 = 40

/** CPUID of a vCPU. */
export abstract class VcpuCpuid extends VcpuOneReg {
  /**
   * Sets the table without sub-leaves of Linux 2.6.22.
   *
   * @deprecated Use {@link setCpuid2}.
   * @ioctl KVM_SET_CPUID (KVM API 4.20)
   */
  setCpuid(entries: readonly KvmCpuidEntry[]): void {
    this.#sendTable(KVM_SET_CPUID, 'KVM_SET_CPUID', entries, ENTRY, encodeKvmCpuidEntry)
  }

  /**
   * What the guest's CPUID instruction answers. After the first run only the same table again is
   * accepted. KVM does not check that the host can do what the table promises.
   *
   * @ioctl KVM_SET_CPUID2 (KVM API 4.20)
   * @capability KVM_CAP_EXT_CPUID
   */
  setCpuid2(entries: readonly KvmCpuidEntry2[]): void {
    this.#sendTable(KVM_SET_CPUID2, 'KVM_SET_CPUID2', entries, ENTRY2, encodeKvmCpuidEntry2)
  }

  #sendTable<Entry>(
    request: number,
    name: string,
    entries: readonly Entry[],
    size: number,
    encode: (draft: StructView, offset: number, entry: Entry) => void,
  ): void {
    const leaves = list(entries, 'entries')
    if (leaves.length > MAX_ENTRIES) {
      throw outOfRange('entries.length', `<= ${MAX_ENTRIES}`, leaves.length)
    }
    this.capabilities.require(KVM_CAP_EXT_CPUID)
    this.send(request, name, (draft) => {
      draft.u32[0] = leaves.length
      draft.u32[1] = 0
      for (let i = 0; i < leaves.length; i++) encode(draft, HEADER + i * size, leaves[i]!)
    })
  }

  /**
   * The table as it stands; KVM keeps some bits in step with the guest's state (OSXSAVE, APIC).
   *
   * @ioctl KVM_GET_CPUID2 (KVM API 4.20)
   * @capability KVM_CAP_EXT_CPUID
   */
  getCpuid2(): KvmCpuidEntry2[] {
    this.capabilities.require(KVM_CAP_EXT_CPUID)
    return this.#receiveTable(KVM_GET_CPUID2, 'KVM_GET_CPUID2')
  }

  /**
   * The Hyper-V leaves that KVM can offer to this vCPU.
   *
   * @deprecated Use the system's {@link Kvm.getSupportedHvCpuid}, where KVM_CAP_SYS_HYPERV_CPUID is.
   * @ioctl KVM_GET_SUPPORTED_HV_CPUID (KVM API 4.118)
   * @capability KVM_CAP_HYPERV_CPUID
   */
  getSupportedHvCpuid(): KvmCpuidEntry2[] {
    this.capabilities.require(KVM_CAP_HYPERV_CPUID)
    return this.#receiveTable(KVM_GET_SUPPORTED_HV_CPUID, 'KVM_GET_SUPPORTED_HV_CPUID')
  }

  #receiveTable(request: number, name: string): KvmCpuidEntry2[] {
    const count = this.#receiveEntries(request, name)
    const entries: KvmCpuidEntry2[] = []
    for (let i = 0; i < count; i++) {
      entries.push(decodeKvmCpuidEntry2(this.view, HEADER + i * ENTRY2))
    }
    return entries
  }

  // KERNEL: too little room is E2BIG and KVM_GET_CPUID2 does not say how much it needs, so there is
  // room for as many as the kernel can hold. Older ones (6.1) do not say how many they gave either:
  // what they have not written over is then told by its padding, which is never all ones.
  #receiveEntries(request: number, name: string): number {
    const { u32 } = this.view
    const ask = () => {
      u32[0] = MAX_ENTRIES
      u32[1] = 0
      this.request(request, name)
      return u32[0]!
    }
    const count = ask()
    if (count < MAX_ENTRIES) return count
    const padding = Array.from(
      { length: MAX_ENTRIES },
      (_, i) => (HEADER + (i + 1) * ENTRY2) / 4 - 1,
    )
    for (const word of padding) u32[word] = 0xffff_ffff
    ask()
    const unwritten = padding.findIndex((word) => u32[word] === 0xffff_ffff)
    return unwritten < 0 ? MAX_ENTRIES : unwritten
  }
}
