// A VM: the top of a chain of classes, one topic a file.

import {
  type Binding,
  type BoundHandle,
  binding,
  KIND_SYSTEM,
  KIND_VM,
  type VmHandle,
} from '../binding.js'
import { closedError, kvmError } from './errors.js'
import { Kvm } from './kvm.js'
import { findObject, type SharedVm } from './shared.js'
import { restoreVmState, saveVmState, type VmState } from './state/state-vm.js'
import { object, uint32 } from './validate.js'
import { Vcpu } from './vcpu.js'
import { VmExits } from './vm/vm-exits.js'

/**
 * A virtual machine: an address space with slots of RAM, interrupt controllers in the kernel, vCPUs.
 *
 * Closing it closes its file only. The kernel keeps the VM, and this library its RAM, until its
 * vCPUs and devices are closed too.
 */
export class Vm extends VmExits {
  private constructor(native: Binding, handle: VmHandle, kvm: Kvm) {
    super(native, handle, kvm)
  }

  /** @internal */
  static adopt(native: Binding, handle: VmHandle, kvm: Kvm): Vm {
    return new Vm(native, handle, kvm)
  }

  /**
   * What {@link Vm.open} in another thread of the process takes: plain data, for `postMessage` or
   * `workerData`. It keeps nothing alive: do not close the VM before it was opened there.
   */
  share(): SharedVm {
    if (this.closed) throw closedError()
    return { kvmId: Vm.idOf(this.kvm), vmId: Vm.idOf(this) }
  }

  /**
   * Opens a VM of another thread of this process. It is the same one, with everything native code and
   * the kernel know of it; handlers ({@link onPio}, …) stay with the thread that registered them.
   * Closing it closes it for all threads.
   *
   * @throws KvmError `ERR_KVM_CLOSED` when it is gone.
   */
  static open(shared: SharedVm): Vm {
    const { kvmId, vmId } = object(shared, 'shared')
    const native = binding()
    const kvm = Kvm.adopt(
      native,
      findObject(native, kvmId, KIND_SYSTEM, 'shared.kvmId') as BoundHandle,
    )
    return new Vm(native, findObject(native, vmId, KIND_VM, 'shared.vmId') as VmHandle, kvm)
  }

  /**
   * Creates a vCPU. Its id is also its initial APIC id; ids may have gaps.
   *
   * @ioctl KVM_CREATE_VCPU (KVM API 4.7)
   * @throws KvmError `EEXIST` for an id in use, `EINVAL` above `KVM_CAP_MAX_VCPU_ID`.
   */
  createVcpu(vcpuId = 0): Vcpu {
    uint32(vcpuId, 'vcpuId')
    const handle = this.native.createVcpu(this.handle, vcpuId)
    if (typeof handle !== 'number') return Vcpu.adopt(this.native, handle, this, vcpuId)
    throw kvmError(handle, {
      ioctl: 'KVM_CREATE_VCPU',
      vcpuId,
      reasons: {
        EEXIST: 'the VM has a vCPU with this id',
        EINVAL: 'the id is above what KVM_CAP_MAX_VCPU_ID allows',
      },
    })
  }

  /**
   * Everything KVM keeps for this VM and its vCPUs, as a plain value; not its RAM, nor what the VMM
   * chose for it (slots, enabled capabilities, filters, eventfds). No vCPU may be running.
   *
   * @param vcpus All vCPUs of the VM.
   * @throws KvmError `ERR_KVM_BUSY` when one is running, `ERR_KVM_IO_PENDING` when one is in the
   *   middle of an access: see {@link Vcpu.completeIo}.
   */
  saveState(vcpus: readonly Vcpu[]): VmState {
    return saveVmState(this, vcpus)
  }

  /**
   * Makes this VM what {@link saveState} saw. Set it up like the other before: the same interrupt
   * controllers, capabilities and RAM, and vCPUs with the same numbers that have not run yet. The
   * guest's clocks go on where they stopped.
   *
   * @param vcpus The vCPUs, in the order in which they were saved.
   * @throws KvmError naming the first part that this host refuses; the VM is then of no more use.
   */
  restoreState(vcpus: readonly Vcpu[], state: VmState): void {
    restoreVmState(this, vcpus, state)
  }
}
