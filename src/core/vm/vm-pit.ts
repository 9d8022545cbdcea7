// The 8254 timer in the kernel.

import {
  decodeKvmPitState,
  decodeKvmPitState2,
  encodeKvmPitConfig,
  encodeKvmPitState,
  encodeKvmPitState2,
  encodeKvmReinjectControl,
  KVM_CAP_PIT,
  KVM_CAP_PIT_STATE2,
  KVM_CAP_PIT2,
  KVM_CAP_REINJECT_CONTROL,
  KVM_CREATE_PIT,
  KVM_CREATE_PIT2,
  KVM_GET_PIT,
  KVM_GET_PIT2,
  KVM_REINJECT_CONTROL,
  KVM_SET_PIT,
  KVM_SET_PIT2,
  type KvmPitState,
  type KvmPitState2,
} from '../../uapi/index.js'
import { object, uint32 } from '../validate.js'
import { VmIrqchip } from './vm-irqchip.js'

const CREATE = {
  reasons: {
    ENOENT: 'the VM has no full set of interrupt controllers in the kernel: createIrqchip() first',
    EEXIST: 'the VM has its timer already',
  },
}
const NO_PIT = { reasons: { ENXIO: 'the VM has no timer in the kernel: createPit2() makes one' } }

/** The timer of a VM. */
export abstract class VmPit extends VmIrqchip {
  /**
   * Adds an 8254 timer to the in-kernel interrupt controllers.
   *
   * @param flags `KVM_PIT_SPEAKER_DUMMY` (1) also answers port 0x61.
   * @ioctl KVM_CREATE_PIT2 (KVM API 4.71)
   * @capability KVM_CAP_PIT2
   * @throws KvmError `ENOENT` without {@link createIrqchip}, `EEXIST` the second time.
   */
  createPit2(flags = 0): void {
    uint32(flags, 'flags')
    this.capabilities.require(KVM_CAP_PIT2)
    const { view } = this.native
    encodeKvmPitConfig(view, 0, { flags })
    this.request(KVM_CREATE_PIT2, 'KVM_CREATE_PIT2', undefined, CREATE)
  }

  /**
   * The same with the dummy speaker port.
   *
   * @deprecated {@link createPit2} with `KVM_PIT_SPEAKER_DUMMY` does the same.
   * @ioctl KVM_CREATE_PIT (linux/kvm.h)
   * @capability KVM_CAP_PIT
   */
  createPit(): void {
    this.capabilities.require(KVM_CAP_PIT)
    this.request(KVM_CREATE_PIT, 'KVM_CREATE_PIT', undefined, CREATE)
  }

  /**
   * The timer's channels and flags.
   *
   * @ioctl KVM_GET_PIT2 (KVM API 4.72)
   * @capability KVM_CAP_PIT_STATE2
   * @throws KvmError `ENXIO` without a timer.
   */
  getPit2(): KvmPitState2 {
    this.capabilities.require(KVM_CAP_PIT_STATE2)
    this.request(KVM_GET_PIT2, 'KVM_GET_PIT2', undefined, NO_PIT)
    return decodeKvmPitState2(this.native.view, 0)
  }

  /**
   * Writes what {@link getPit2} reads; the channels start counting anew.
   *
   * @ioctl KVM_SET_PIT2 (KVM API 4.73)
   * @capability KVM_CAP_PIT_STATE2
   */
  setPit2(state: KvmPitState2): void {
    object(state, 'state')
    this.capabilities.require(KVM_CAP_PIT_STATE2)
    this.send(KVM_SET_PIT2, 'KVM_SET_PIT2', (draft) => encodeKvmPitState2(draft, 0, state), NO_PIT)
  }

  /**
   * The timer's channels.
   *
   * @deprecated {@link getPit2} also has the flags.
   * @ioctl KVM_GET_PIT (linux/kvm.h)
   * @capability KVM_CAP_PIT
   */
  getPit(): KvmPitState {
    this.capabilities.require(KVM_CAP_PIT)
    this.request(KVM_GET_PIT, 'KVM_GET_PIT', undefined, NO_PIT)
    return decodeKvmPitState(this.native.view, 0)
  }

  /**
   * Writes what {@link getPit} reads.
   *
   * @deprecated {@link setPit2} also has the flags.
   * @ioctl KVM_SET_PIT (linux/kvm.h)
   * @capability KVM_CAP_PIT
   */
  setPit(state: KvmPitState): void {
    object(state, 'state')
    this.capabilities.require(KVM_CAP_PIT)
    this.send(KVM_SET_PIT, 'KVM_SET_PIT', (draft) => encodeKvmPitState(draft, 0, state), NO_PIT)
  }

  /**
   * Whether ticks that a late guest missed are made up for, which they are at first.
   *
   * @ioctl KVM_REINJECT_CONTROL (KVM API 4.99)
   * @capability KVM_CAP_REINJECT_CONTROL
   * @throws KvmError `ENXIO` without a timer.
   */
  reinjectControl(reinject: boolean): void {
    this.capabilities.require(KVM_CAP_REINJECT_CONTROL)
    encodeKvmReinjectControl(this.native.view, 0, { pit_reinject: reinject ? 1 : 0 })
    this.request(KVM_REINJECT_CONTROL, 'KVM_REINJECT_CONTROL', undefined, NO_PIT)
  }
}
