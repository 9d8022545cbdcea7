// Guest RAM for devices whose data path is native.

import { binding, type Handle } from '../binding.js'
import { kvmError } from '../core/errors.js'
import { GuestMemory } from '../core/memory.js'
import type { DeviceMemory } from '../devices/index.js'

/**
 * The RAM as native devices see it. The handle is to be closed when they have it: the RAM stays mapped as
 * long as one of them uses it.
 */
export function nativeRam(memory: DeviceMemory): Handle {
  const { regions } = GuestMemory.check(memory, 'memory')
  const handle = binding().createGuestRam(
    regions.map((region) => region.handle),
    regions.map(({ gpa }) => gpa),
  )
  if (typeof handle === 'number') throw kvmError(handle, { reason: 'the RAM of a native device' })
  return handle
}
