// What KVM's debugger sees of a guest (KVM_SET_GUEST_DEBUG).

import type { GuestDebugOptions } from '../../core/vcpu/guest-debug.js'
import { asm, type Source } from '../assembler/asm.js'
import type { TestGuest } from '../guest.js'
import { CODE, DATA } from '../layout.js'
import { type CheckArea, checksAt, LONG } from './check.js'

const long = checksAt(LONG)
const SOURCE = 'KVM API 4.87'

/** Stops where the debugger is told to, `rip` bytes from the start. */
const stops = (name: string, code: Source, options: GuestDebugOptions, rip: number) =>
  long(
    name,
    SOURCE,
    code,
    { exit: 'debug', state: { rip: BigInt(CODE + rip) } },
    {
      requires: [
        'KVM_CAP_SET_GUEST_DEBUG',
        ...(options.breakpoints ? (['KVM_CAP_GUEST_DEBUG_HW_BPS'] as const) : []),
      ],
      prepare: ({ vcpu }: TestGuest) => {
        // ORDER: KVM steps from where the vCPU stands when it is told to.
        vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(CODE) })
        vcpu.debugGuest(options)
      },
    },
  )

export const debugging: CheckArea = {
  area: 'debugging',
  checks: [
    stops('KVM steps over one instruction', asm`nop; nop`, { singleStep: true }, 1),
    stops('KVM stops at INT3', asm`nop; int3`, { softwareBreakpoints: true }, 1),
    stops(
      'KVM stops before an instruction',
      asm`nop; nop; nop`,
      { breakpoints: [{ address: BigInt(CODE + 2) }] },
      2,
    ),
    stops(
      'KVM stops behind a write',
      asm`mov ebx, data; mov [rbx], eax; nop`,
      { breakpoints: [{ address: BigInt(DATA), on: 'write', length: 4 }] },
      7,
    ),
  ],
}
