// The 8254 timer in the kernel.
// covers: KVM_CREATE_PIT2@vm KVM_CREATE_PIT@vm KVM_GET_PIT2@vm KVM_SET_PIT2@vm KVM_GET_PIT@vm
// covers: KVM_SET_PIT@vm KVM_REINJECT_CONTROL@vm

import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Kvm, type Vm } from '../../src/index.js'
import type { KvmPitChannelState } from '../../src/uapi/index.js'
import { codeOf, thrownBy } from '../helpers/thrown.js'

let kvm: Kvm
let vm: Vm
beforeEach(() => {
  kvm = Kvm.open()
  vm = kvm.createVm()
})
afterEach(() => {
  vm.close()
  kvm.close()
})

/** Setting the state starts the channels anew: the moment of that is the kernel's. */
const timeless = (channels: readonly KvmPitChannelState[]) =>
  channels.map(({ count_load_time: _time, ...rest }) => rest)

describe.each([
  ['createPit2', () => vm.createPit2()],
  ['createPit2 with the dummy speaker port', () => vm.createPit2(1)],
  ['createPit', () => vm.createPit()],
] as const)('a timer of %s', (_name, create) => {
  beforeEach(() => {
    vm.createIrqchip()
    create()
  })

  test('is read, written back and read the same', () => {
    const state = vm.getPit2()
    expect(state.channels).toHaveLength(3)
    vm.setPit2(state)
    const after = vm.getPit2()
    expect(after.flags).toBe(state.flags)
    expect(timeless(after.channels)).toEqual(timeless(state.channels))
  })

  test('is read and written without flags likewise', () => {
    const state = vm.getPit()
    vm.setPit(state)
    expect(timeless(vm.getPit().channels)).toEqual(timeless(state.channels))
    expect(timeless(vm.getPit2().channels)).toEqual(timeless(state.channels))
  })

  test('takes a changed channel', () => {
    const { channels, flags } = vm.getPit2()
    const [first, second, third] = channels
    vm.setPit2({ channels: [first!, second!, { ...third!, count: 1193, mode: 3, gate: 1 }], flags })
    expect(vm.getPit2().channels[2]).toMatchObject({ count: 1193, mode: 3, gate: 1 })
  })

  test('can be told not to make up for missed ticks', () => {
    vm.reinjectControl(false)
    vm.reinjectControl(true)
  })

  test('is there once', () => {
    expect(codeOf(() => vm.createPit2())).toBe('EEXIST')
    expect(codeOf(() => vm.createPit())).toBe('EEXIST')
  })
})

test('a timer needs the interrupt controllers', ({ skip }) => {
  for (const create of [() => vm.createPit2(), () => vm.createPit()]) {
    // KERNEL: 6.1 makes one all the same, which then has nowhere to send its interrupts.
    const error = thrownOrNothing(create)
    if (error === undefined) return skip('this kernel makes a PIT without interrupt controllers')
    expect(error).toMatchObject({ code: 'ENOENT' })
    expect(error.message).toContain('createIrqchip')
  }
})

test('without a timer there is nothing to read, write or control', () => {
  vm.createIrqchip()
  const state = { channels: [0, 0, 0].map(() => emptyChannel), flags: 0 }
  for (const call of [
    () => vm.getPit(),
    () => vm.getPit2(),
    () => vm.setPit(state),
    () => vm.setPit2(state),
    () => vm.reinjectControl(true),
  ]) {
    const error = thrownBy(call) as Error
    expect(error).toMatchObject({ code: 'ENXIO' })
    expect(error.message).toContain('createPit2')
  }
})

const emptyChannel: KvmPitChannelState = {
  count: 0,
  latched_count: 0,
  count_latched: 0,
  status_latched: 0,
  status: 0,
  read_state: 0,
  write_state: 0,
  write_latch: 0,
  rw_mode: 0,
  mode: 0,
  bcd: 0,
  gate: 0,
  count_load_time: 0n,
}

function thrownOrNothing(call: () => unknown): Error | undefined {
  try {
    call()
    return undefined
  } catch (error) {
    return error as Error
  }
}
