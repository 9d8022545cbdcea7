// A VM's whole state as a plain value, and back: its vCPUs, and what it keeps beside them.

import {
  invalidArgValue,
  type KvmClockData,
  type KvmIrqchip,
  type KvmIrqRoutingEntry,
  type KvmPitState2,
} from '../../uapi/index.js'
import { KvmError } from '../errors.js'
import { list } from '../validate.js'
import type { Vcpu } from '../vcpu.js'
import type { Vm } from '../vm.js'
import { finishInstruction, restoreVcpuState, saveVcpuState, type VcpuState } from './state-vcpu.js'
import { checkVersion } from './state-version.js'

/** The version of {@link VmState} that this library writes. */
export const VM_STATE_VERSION = 1

/** KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC. */
const CHIPS = [0, 1, 2]

/**
 * Everything KVM keeps for a VM but its RAM, as {@link Vm.saveState} gives it. It can be cloned,
 * posted, and turned into text by {@link stringifyState}.
 */
export interface VmState {
  version: typeof VM_STATE_VERSION
  vcpus: VcpuState[]
  /** Both PICs and the IOAPIC; empty when they are not in the kernel. */
  irqchips: KvmIrqchip[]
  /** The 8254 timer, when it is in the kernel. */
  pit: KvmPitState2 | null
  /** What {@link Vm.setGsiRouting} was last given; null when the kernel's own table is in place. */
  gsiRouting: KvmIrqRoutingEntry[] | null
  clock: KvmClockData
}

/** See {@link Vm.saveState}. */
export function saveVmState(vm: Vm, vcpus: readonly Vcpu[]): VmState {
  const all = ownVcpus(vm, vcpus)
  // ORDER: all instructions first: finishing one may touch a chip, or another vCPU.
  for (const vcpu of all) finishInstruction(vcpu)
  // ORDER: an interrupt moves from timer to chip to LAPIC, also while the vCPUs stand. Followed in
  // this order it may be seen twice, which a guest has to bear, but is never lost.
  const pit = unlessAbsent(() => vm.getPit2())
  const irqchips = unlessAbsent(() => CHIPS.map((chip) => vm.getIrqchip(chip)))
  return {
    version: VM_STATE_VERSION,
    vcpus: all.map(saveVcpuState),
    irqchips: irqchips ?? [],
    pit,
    gsiRouting: vm.gsiRouting === undefined ? null : [...vm.gsiRouting],
    clock: vm.getClock(),
  }
}

/** See {@link Vm.restoreState}. */
export function restoreVmState(vm: Vm, vcpus: readonly Vcpu[], state: VmState): void {
  checkVersion(state, VM_STATE_VERSION)
  const all = ownVcpus(vm, vcpus)
  if (all.length !== state.vcpus.length || all.some(({ id }, i) => id !== state.vcpus[i]!.id)) {
    const ids = state.vcpus.map(({ id }) => id).join(', ')
    throw invalidArgValue('vcpus', `are not those of the state, whose numbers are ${ids}`)
  }
  // ORDER: the routes before the chips, which may raise something as soon as they are set.
  if (state.gsiRouting !== null) vm.setGsiRouting(state.gsiRouting)
  all.forEach((vcpu, i) => {
    restoreVcpuState(vcpu, state.vcpus[i]!)
  })
  // ORDER: the chips after the LAPICs, which take what the chips had not yet delivered; the timer
  // after the chips, for the same reason.
  for (const irqchip of state.irqchips) vm.setIrqchip(irqchip)
  if (state.pit !== null) vm.setPit2(state.pit)
  // ORDER: the clock last: it is brought to the guest through pages that MSRs of the vCPUs name.
  vm.setClock({ clock: state.clock.clock })
}

function ownVcpus(vm: Vm, vcpus: readonly Vcpu[]): Vcpu[] {
  const all = list(vcpus, 'vcpus')
  if (all.every((vcpu) => vcpu?.vm === vm)) return all
  throw invalidArgValue('vcpus', 'must be vCPUs of this VM')
}

/** Null for a part that is not in the kernel. */
function unlessAbsent<T>(get: () => T): T | null {
  try {
    return get()
  } catch (error) {
    if (error instanceof KvmError && error.code === 'ENXIO') return null
    throw error
  }
}
