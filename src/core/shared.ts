// Objects of this process as other threads name them: plain data that can be posted.

import type { Binding, FileHandle } from '../binding.js'
import { closedError } from './errors.js'
import { integer } from './validate.js'

/** A VM, for {@link Vm.open} in another thread. */
export interface SharedVm {
  readonly kvmId: number
  readonly vmId: number
}

/** A vCPU, for {@link Vcpu.open} in another thread. */
export interface SharedVcpu {
  readonly vm: SharedVm
  readonly vcpuId: number
  readonly vcpu: number
}

/** Guest RAM, for {@link GuestMemory.open} in another thread. */
export interface SharedMemory {
  readonly regions: readonly { gpa: number; size: number; region: number; guestMemfd?: boolean }[]
}

/** A handle, in this thread, on the live native object with that number. */
export function findObject(native: Binding, id: number, kind: number, name: string): FileHandle {
  const handle = native.findObject(integer(id, name), kind)
  if (handle === null) throw closedError({ reason: 'it is gone, or of another process' })
  return handle as FileHandle
}
