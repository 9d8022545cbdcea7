// Events without exits: eventfds that raise interrupts, and that a guest's writes raise.
// covers: KVM_IRQFD@vm KVM_IOEVENTFD@vm KVM_HYPERV_EVENTFD@vm

import { afterEach, describe, expect, test } from 'vitest'
import { EventFd, Kvm, type Vm } from '../../src/index.js'
import { KVM_HYPERV_EVENTFD } from '../../src/uapi/index.js'
import { createGuest, type Guest, type GuestOptions } from '../helpers/guest.js'
import { expectMissing } from '../helpers/refusal.js'
import { codeOf, thrownBy } from '../helpers/thrown.js'
import { waitUntil } from '../helpers/wait-until.js'

const open: Disposable[] = []
afterEach(() => {
  for (const each of open.splice(0).reverse()) each[Symbol.dispose]()
})
function keep<T extends Disposable>(object: T): T {
  open.push(object)
  return object
}
const eventFd = (options = {}) => keep(EventFd.create(options))
const guestOf = (code: readonly number[], options?: GuestOptions): Guest =>
  keep(createGuest(code, options))

describe('EventFd', () => {
  test('counts what is signaled and gives it once', () => {
    const event = eventFd()
    expect(event.consume()).toBe(0)
    event.signal()
    event.signal(41)
    expect(event.consume()).toBe(42)
    expect(event.consume()).toBe(0)
  })

  test('starts with a count, and gives it one by one as a semaphore', () => {
    const event = eventFd({ initial: 2, semaphore: true })
    expect([event.consume(), event.consume(), event.consume()]).toEqual([1, 1, 0])
  })

  test('never blocks when it is full', () => {
    const event = eventFd()
    for (let i = 0; i < 2048; i++) event.signal(Number.MAX_SAFE_INTEGER)
    expect(codeOf(() => event.signal(Number.MAX_SAFE_INTEGER))).toBe('EAGAIN')
  })

  test.each([0, -1, 0.5, 2 ** 53])('cannot be signaled %d times', (count) => {
    expect(codeOf(() => eventFd().signal(count))).toBe('ERR_OUT_OF_RANGE')
  })

  test('is closed once and for all', () => {
    const event = eventFd()
    event.close()
    event.close()
    expect(event.closed).toBe(true)
    expect(codeOf(() => event.signal())).toBe('ERR_KVM_CLOSED')
    expect(codeOf(() => event.consume())).toBe('ERR_KVM_CLOSED')
  })
})

const pending = (vm: Vm, line: number) => (vm.getIrqchip(0).chip.pic!.irr & (1 << line)) !== 0

describe('irqfd', () => {
  const machine = () => {
    const kvm = keep(Kvm.open())
    const vm = keep(kvm.createVm())
    vm.createIrqchip()
    return vm
  }

  test('a signal raises the interrupt, until it is deassigned', async () => {
    const vm = machine()
    const event = eventFd()
    vm.irqfd({ eventFd: event, gsi: 4 })
    expect(pending(vm, 4)).toBe(false)
    event.signal()
    await waitUntil(() => pending(vm, 4))

    vm.irqfd({ eventFd: event, gsi: 4, deassign: true })
    const pic = vm.getIrqchip(0).chip.pic!
    vm.setIrqchip({ chip_id: 0, chip: { pic: { ...pic, irr: 0 } } })
    event.signal()
    expect(event.consume()).toBe(1) // KVM no longer takes it
    expect(pending(vm, 4)).toBe(false)
  })

  test('an eventfd raises one interrupt only', () => {
    const vm = machine()
    const event = eventFd()
    vm.irqfd({ eventFd: event, gsi: 4 })
    const error = thrownBy(() => vm.irqfd({ eventFd: event, gsi: 5 })) as Error
    expect(error).toMatchObject({ code: 'EBUSY' })
    expect(error.message).toContain('already')
  })

  test('a level-triggered one has a second eventfd for the acknowledgement', () => {
    const vm = machine()
    vm.irqfd({ eventFd: eventFd(), gsi: 5, resample: eventFd() })
  })

  test('closing the eventfd ends it', async () => {
    const vm = machine()
    const event = EventFd.create()
    vm.irqfd({ eventFd: event, gsi: 4 })
    event.close()
    vm.irqfd({ eventFd: eventFd(), gsi: 4 })
  })

  test('needs interrupt controllers', () => {
    const vm = keep(keep(Kvm.open()).createVm())
    expect(codeOf(() => vm.irqfd({ eventFd: eventFd(), gsi: 4 }))).toBe('EINVAL')
  })

  test('resampling needs all of them in the kernel', () => {
    const vm = keep(keep(Kvm.open()).createVm())
    vm.enableCap('KVM_CAP_SPLIT_IRQCHIP', { routes: 24 })
    vm.irqfd({ eventFd: eventFd(), gsi: 4 })
    const options = { eventFd: eventFd(), gsi: 4, resample: eventFd() }
    expect(codeOf(() => vm.irqfd(options))).toBe('EINVAL')
  })

  test('takes no closed eventfd and no look-alike', () => {
    const vm = machine()
    const closed = EventFd.create()
    closed.close()
    expect(codeOf(() => vm.irqfd({ eventFd: closed, gsi: 4 }))).toBe('ERR_KVM_CLOSED')
    const fake = Object.create(EventFd.prototype) as EventFd
    expect(codeOf(() => vm.irqfd({ eventFd: fake, gsi: 4 }))).toBe('ERR_INVALID_ARG_TYPE')
  })
})

// mov al, 0x41; out 0x10, al; out 0x20, al
const TWO_PORTS = [0xb0, 0x41, 0xe6, 0x10, 0xe6, 0x20]

describe('ioeventfd', () => {
  test.each([1, 0])('a write to a port signals instead of exiting (length %i)', (length) => {
    const { vm, vcpu } = guestOf(TWO_PORTS)
    const event = eventFd()
    vm.ioeventfd({ eventFd: event, address: 0x10, length, pio: true })
    expect(vcpu.run()).toMatchObject({ type: 'io', port: 0x20 })
    expect(event.consume()).toBe(1)
  })

  test('only the value asked for signals', () => {
    // mov al, 1; out 0x10, al; mov al, 2; out 0x10, al
    const { vm, vcpu } = guestOf([0xb0, 1, 0xe6, 0x10, 0xb0, 2, 0xe6, 0x10])
    const event = eventFd()
    vm.ioeventfd({ eventFd: event, address: 0x10, length: 1, pio: true, datamatch: 1n })
    expect(vcpu.run()).toMatchObject({ type: 'io', port: 0x10, value: 2 })
    expect(event.consume()).toBe(1)
  })

  test('a write to memory that is none signals', () => {
    // mov ax, 0x2000; mov ds, ax; mov [0x10], al; out 0x20, al
    const code = [0xb8, 0x00, 0x20, 0x8e, 0xd8, 0xa2, 0x10, 0x00, 0xe6, 0x20]
    const { vm, vcpu } = guestOf(code, { memorySize: 0x1_0000 })
    const event = eventFd()
    vm.ioeventfd({ eventFd: event, address: 0x2_0010, length: 1 })
    expect(vcpu.run()).toMatchObject({ type: 'io', port: 0x20 })
    expect(event.consume()).toBe(1)
  })

  test('deassigned with the same words, it exits again', () => {
    const { vm, vcpu } = guestOf(TWO_PORTS)
    const event = eventFd()
    const where = { eventFd: event, address: 0x10, length: 1, pio: true }
    vm.ioeventfd(where)
    vm.ioeventfd({ ...where, deassign: true })
    expect(vcpu.run()).toMatchObject({ type: 'io', port: 0x10 })
    expect(event.consume()).toBe(0)
    expect(codeOf(() => vm.ioeventfd({ ...where, deassign: true }))).toBe('ENOENT')
  })

  test('there is one for the same writes', () => {
    const { vm } = guestOf(TWO_PORTS)
    const where = { address: 0x10, length: 1, pio: true }
    vm.ioeventfd({ eventFd: eventFd(), ...where })
    expect(codeOf(() => vm.ioeventfd({ eventFd: eventFd(), ...where }))).toBe('EEXIST')
  })

  test('a length that no write has is refused', () => {
    const { vm } = guestOf(TWO_PORTS)
    const options = { eventFd: eventFd(), address: 0, length: 3 }
    expect(codeOf(() => vm.ioeventfd(options))).toBe('ERR_OUT_OF_RANGE')
  })
})

describe('Hyper-V eventfd', () => {
  test('is assigned and deassigned once, or named as missing', () => {
    const vm = keep(keep(Kvm.open()).createVm())
    if (vm.checkExtension('KVM_CAP_HYPERV_EVENTFD') === 0) {
      const assign = () => vm.hypervEventfd({ connId: 1, eventFd: eventFd() })
      expectMissing(vm, 'KVM_CAP_HYPERV_EVENTFD', KVM_HYPERV_EVENTFD, assign)
      return
    }
    vm.hypervEventfd({ connId: 1, eventFd: eventFd() })
    expect(codeOf(() => vm.hypervEventfd({ connId: 1, eventFd: eventFd() }))).toBe('EEXIST')
    vm.hypervEventfd({ connId: 1 })
    expect(codeOf(() => vm.hypervEventfd({ connId: 1 }))).toBe('ENOENT')
  })

  test('takes a connection id of 24 bits', () => {
    const vm = keep(keep(Kvm.open()).createVm())
    expect(codeOf(() => vm.hypervEventfd({ connId: 0x100_0000 }))).toBe('ERR_OUT_OF_RANGE')
  })
})
