// The VM of a machine: interrupt controllers, timer and vCPUs, as after power-on.

import type { Kvm } from '../core/kvm.js'
import type { GuestMemory } from '../core/memory.js'
import type { VmState } from '../core/state/state-vm.js'
import type { Vcpu } from '../core/vcpu.js'
import type { Vm } from '../core/vm.js'
import {
  KVM_CAP_SET_IDENTITY_MAP_ADDR,
  KVM_CAP_SET_TSS_ADDR,
  KVM_PIT_SPEAKER_DUMMY,
  KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK,
  KVM_X2APIC_API_USE_32BIT_IDS,
  type KvmCpuidEntry2,
} from '../uapi/index.js'

/** More need ids that only x2APIC has, and interrupt messages that reach them. */
const XAPIC_CPUS = 255
const X2APIC_API = KVM_X2APIC_API_USE_32BIT_IDS + KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK

// Four pages for kvm_intel, below the 16 MiB that firmware may take.
const IDENTITY_MAP_GPA = 0xfeff_c000
const TSS_GPA = 0xfeff_d000

/** A vCPU to be made. */
export interface VcpuDescription {
  /** Its APIC id, and its number in the VM. */
  readonly id: number
  readonly cpuid: readonly KvmCpuidEntry2[]
}

/** A VM and its vCPUs. */
export interface MachineVm {
  readonly vm: Vm
  readonly vcpus: readonly Vcpu[]
}

/** Makes a machine's VM. */
export function createMachineVm(
  kvm: Kvm,
  descriptions: readonly VcpuDescription[],
  memory?: GuestMemory,
): MachineVm {
  const vm = kvm.createVm()
  if (descriptions.at(-1)!.id >= XAPIC_CPUS) {
    vm.enableCap('KVM_CAP_X2APIC_API', { flags: X2APIC_API })
  }
  if (vm.checkExtension(KVM_CAP_SET_IDENTITY_MAP_ADDR)) vm.setIdentityMapAddr(IDENTITY_MAP_GPA)
  if (vm.checkExtension(KVM_CAP_SET_TSS_ADDR)) vm.setTssAddr(TSS_GPA)
  // Memory first: a slot added after the interrupt controllers waits for a grace period.
  if (memory !== undefined) vm.mapMemory(memory)
  vm.createIrqchip()
  vm.createPit2(KVM_PIT_SPEAKER_DUMMY)
  const vcpus = descriptions.map(({ id, cpuid }) => {
    const vcpu = vm.createVcpu(id)
    vcpu.setCpuid2(cpuid)
    return vcpu
  })
  return { vm, vcpus }
}

/**
 * What KVM keeps for a machine that has not run yet. A VM made for it tells, and not the machine itself before it
 * runs: that would take longer than all else at its start, and few are ever reset.
 */
export function powerOnState(kvm: Kvm, vcpus: readonly Vcpu[]): VmState {
  const twin = createMachineVm(
    kvm,
    vcpus.map((vcpu) => ({ id: vcpu.id, cpuid: vcpu.getCpuid2() })),
  )
  try {
    return twin.vm.saveState(twin.vcpus)
  } finally {
    for (const part of [...twin.vcpus, twin.vm]) part.close()
  }
}
