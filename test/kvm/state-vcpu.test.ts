// A vCPU saved at any point of its guest's work and restored in a fresh VM goes on to the same end.
// STATE_POINTS says how many points (50 unless said); STATE_SEED repeats a run.
// covers: KVM_RUN@vcpu

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Kvm, parseState, stringifyState, type VcpuState } from '../../src/index.js'
import { LapicState } from '../../src/x86/index.js'
import { withoutApicIds } from '../helpers/apic-id.js'
import { createGuest, type Guest } from '../helpers/guest.js'
import { InterruptedGuest, type Work } from '../helpers/interrupted-guest.js'
import { codeOf } from '../helpers/thrown.js'

const POINTS = Number(process.env.STATE_POINTS ?? 50)
const seed = Number(process.env.STATE_SEED ?? Date.now() % 1_000_000)

/** Numbers from 0 to 1 that a seed repeats (mulberry32). */
function randomFrom(start: number): () => number {
  let state = start
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

let kvm: Kvm
beforeAll(() => {
  kvm = Kvm.open()
})
afterAll(() => kvm.close())

/** Runs `work` in one go. */
function uninterrupted(work: Work): string {
  using guest = new InterruptedGuest(kvm)
  guest.load(work)
  guest.finish()
  return guest.result()
}

/** Another VM with the same RAM and, by way of text, the same vCPU. */
function moved(guest: InterruptedGuest): { guest: InterruptedGuest; state: VcpuState } {
  const state = guest.vcpu.saveState()
  const text = stringifyState(state)
  const memory = guest.memory.read(0, guest.memory.size)
  guest.close()
  const next = new InterruptedGuest(kvm)
  next.memory.write(0, memory)
  next.vcpu.restoreState(parseState<VcpuState>(text))
  return { guest: next, state }
}

describe.each<Work>([
  { iterations: 100_000, ticks: 40, timer: 'oneShot', period: 200_000 },
  { iterations: 100_000, ticks: 40, timer: 'tscDeadline', period: 500_000 },
])('with timer mode $timer', (work) => {
  test(`${POINTS} points at random (seed ${seed})`, { timeout: 60_000 + POINTS * 5000 }, () => {
    const random = randomFrom(seed)
    const expected = uninterrupted(work)
    for (let points = 0; points < POINTS; ) {
      let guest = new InterruptedGuest(kvm)
      try {
        guest.load(work)
        while (points < POINTS && !guest.runFor(0.05 + random() * 2)) {
          guest = moved(guest).guest
          points++
        }
        guest.finish()
        expect(guest.result()).toBe(expected)
      } finally {
        guest.close()
      }
    }
  })
})

/** `sti; hlt`, and again; vector 0x41 writes its number to port 0x12. RAM as in {@link createGuest}. */
function waiting(): Guest {
  const guest = createGuest([0x90, 0xfb, 0xf4, 0xeb, 0xfd], { irqchip: true })
  guest.memory.write(0x7000, Uint8Array.of(0xb0, 0x41, 0xe6, 0x12)) // mov al, 0x41; out 0x12, al
  guest.memory.writeU32(0x41 * 4, 0x7000)
  return guest
}

function restoredFrom(guest: Guest): Guest {
  const next = waiting()
  next.memory.write(0, guest.memory.read(0, guest.memory.size))
  next.vcpu.restoreState(structuredClone(guest.vcpu.saveState()))
  return next
}

test('an interrupt that is pending in the LAPIC is delivered after the move', () => {
  using first = waiting()
  first.vcpu.updateLapic((lapic) => {
    lapic.set('SIVR', 0x1ff)
    lapic.setVector('IRR', 0x41)
  })
  using second = restoredFrom(first)
  expect(new LapicState(second.vcpu.getLapic()).vectors('IRR')).toEqual([0x41])
  expect(second.vcpu.run({ timeoutMs: 5000 })).toMatchObject({
    type: 'io',
    port: 0x12,
    value: 0x41,
  })
})

test('a halted vCPU is halted after the move, and wakes up', () => {
  using first = waiting()
  expect(first.vcpu.run({ timeoutMs: 20 }).type).toBe('intr')
  using second = restoredFrom(first)
  expect(second.vcpu.getMpState()).toBe(first.vcpu.getMpState())
  expect(second.vcpu.run({ timeoutMs: 20 }).type).toBe('intr')
  second.vcpu.updateLapic((lapic) => {
    lapic.set('SIVR', 0x1ff)
    lapic.setVector('IRR', 0x41)
  })
  expect(second.vcpu.run({ timeoutMs: 5000 })).toMatchObject({
    type: 'io',
    port: 0x12,
    value: 0x41,
  })
})

test('an IN that was answered is finished before the state is saved', () => {
  using first = createGuest([0xe4, 0x10, 0xe6, 0x11], { irqchip: true }) // in al, 0x10; out 0x11, al
  const exit = first.vcpu.run()
  if (exit.type === 'io') exit.value = 0x77
  using second = restoredFrom(first)
  expect(second.vcpu.run()).toMatchObject({ type: 'io', port: 0x11, value: 0x77 })
})

test('saving again what was restored gives the same, but for time and place', () => {
  using first = waiting()
  first.vcpu.setCpuid2(kvm.getSupportedCpuid())
  first.vcpu.updateRegs({ rax: 0xfeed_face_cafe_beefn })
  // IA32_TSC, and Hyper-V's HV_X64_MSR_VP_RUNTIME and HV_X64_MSR_TIME_REF_COUNT.
  const clocks = [0x10, 0x4000_0010, 0x4000_0020]
  const timeless = ({ msrs, cpuid, ...state }: VcpuState) => ({
    ...state,
    cpuid: withoutApicIds(cpuid),
    msrs: msrs.filter(({ index }) => !clocks.includes(index)),
  })
  const saved = first.vcpu.saveState()
  using second = waiting()
  second.vcpu.restoreState(saved)
  expect(timeless(second.vcpu.saveState())).toEqual(timeless(saved))
})

test('a state of another version is refused, and what is none', () => {
  using guest = waiting()
  const state = guest.vcpu.saveState()
  const other = { ...state, version: 2 as never }
  expect(codeOf(() => guest.vcpu.restoreState(other))).toBe('ERR_INVALID_ARG_VALUE')
  expect(codeOf(() => guest.vcpu.restoreState(null as never))).toBe('ERR_INVALID_ARG_TYPE')
})
