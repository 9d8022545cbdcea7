// Slots, and memory that is the guest's own.
// covers: KVM_SET_USER_MEMORY_REGION@vm KVM_SET_USER_MEMORY_REGION2@vm KVM_CREATE_GUEST_MEMFD@vm
// covers: KVM_SET_MEMORY_ATTRIBUTES@vm

import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { afterEach, describe, expect, test } from 'vitest'
import { type GuestMemfd, GuestMemory, Kvm, type Vm } from '../../src/index.js'
import {
  GUEST_MEMFD_FLAG_INIT_SHARED,
  GUEST_MEMFD_FLAG_MMAP,
  KVM_MEM_LOG_DIRTY_PAGES,
  KVM_SET_MEMORY_ATTRIBUTES,
  KVM_X86_SW_PROTECTED_VM,
} from '../../src/uapi/index.js'
import { expectMissing } from '../helpers/refusal.js'
import { codeOf, thrownBy } from '../helpers/thrown.js'

const open: Disposable[] = []
afterEach(() => {
  for (const each of open.splice(0).reverse()) each[Symbol.dispose]()
})
function keep<T extends Disposable>(object: T): T {
  open.push(object)
  return object
}
const machine = (type = 0): Vm => keep(keep(Kvm.open()).createVm(type))

const SIZE = 0x1_0000
const MMAP_SHARED = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED

describe('KVM_SET_USER_MEMORY_REGION2', () => {
  test('makes, moves and deletes a slot of ordinary RAM', () => {
    const vm = machine()
    const memory = keep(GuestMemory.create(SIZE))
    const slot = { slot: 3, memorySize: SIZE, memory, memoryAddress: 0 }
    if (vm.checkExtension('KVM_CAP_USER_MEMORY2') === 0) {
      const call = () => vm.setUserMemoryRegion2({ ...slot, guestPhysAddr: 0 })
      expect(codeOf(call)).toBe('ERR_KVM_CAP_MISSING')
      return
    }
    vm.setUserMemoryRegion2({ ...slot, guestPhysAddr: 0 })
    vm.setUserMemoryRegion2({ ...slot, guestPhysAddr: 0x10_0000 })
    const overlap = { ...slot, slot: 4, guestPhysAddr: 0x10_0000 }
    const error = thrownBy(() => vm.setUserMemoryRegion2(overlap)) as Error
    expect(error).toMatchObject({ code: 'EEXIST', ioctl: 'KVM_SET_USER_MEMORY_REGION2', slot: 4 })
    expect(error.message).toContain('overlaps slot 3')
    vm.setUserMemoryRegion2({ slot: 3, guestPhysAddr: 0x10_0000, memorySize: 0 })
    vm.setUserMemoryRegion2(overlap)
  })

  test('needs memory of some kind', () => {
    const vm = machine()
    const call = () => vm.setUserMemoryRegion2({ slot: 0, guestPhysAddr: 0, memorySize: SIZE })
    expect(codeOf(call)).toBe('ERR_INVALID_ARG_TYPE')
  })
})

describe('guest_memfd', () => {
  /** One that this kernel gives to plain VMs, or the refusal checked. */
  function create(vm: Vm): GuestMemfd | undefined {
    if (vm.checkExtension('KVM_CAP_GUEST_MEMFD') === 0) {
      expect(thrownBy(() => vm.createGuestMemfd(SIZE))).toMatchObject({
        code: 'ERR_KVM_CAP_MISSING',
        capability: 'KVM_CAP_GUEST_MEMFD',
      })
      return undefined
    }
    return keep(vm.createGuestMemfd(SIZE, vm.checkExtension('KVM_CAP_GUEST_MEMFD_FLAGS') & 3))
  }

  test('is closed when another program is executed', () => {
    const memfd = create(machine())
    if (memfd === undefined) return
    const fds = readdirSync('/proc/self/fd').filter((fd) => /gmem|guest_memfd/.test(linkOf(fd)))
    expect(fds.length).toBeGreaterThan(0)
    for (const fd of fds) {
      const [, flags] = /flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))!
      expect(Number.parseInt(flags!, 8) & 0o2000000).not.toBe(0)
    }
  })

  test('mapped and shared, it is RAM that both sides see', () => {
    const vm = machine()
    const memfd = create(vm)
    if (memfd === undefined || memfd.flags !== MMAP_SHARED) return
    const memory = keep(memfd.openMemory()!)
    vm.setUserMemoryRegion2({
      slot: 0,
      guestPhysAddr: 0,
      memorySize: SIZE,
      memory,
      guestMemfd: memfd,
    })
    memfd.close() // the slot keeps it
    const vcpu = keep(vm.createVcpu(0))
    // mov al, [0x100]; inc al; mov [0x101], al; hlt
    memory.write(0, Uint8Array.of(0xa0, 0x00, 0x01, 0xfe, 0xc0, 0xa2, 0x01, 0x01, 0xf4))
    memory.writeU8(0x100, 41)
    const sregs = vcpu.getSregs()
    vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } })
    vcpu.updateRegs({ rip: 0n, rflags: 2n })
    expect(vcpu.run().type).toBe('hlt')
    expect(memory.readU8(0x101)).toBe(42)
  })

  test('a punched hole reads as zeros', () => {
    const memfd = create(machine())
    if (memfd === undefined || memfd.flags !== MMAP_SHARED) return
    const memory = keep(memfd.openMemory(0x10_0000)!)
    memory.fill(0x10_0000, SIZE, 7)
    memfd.punchHole(0x1000, 0x2000)
    expect(memory.readU8(0x10_0fff)).toBe(7)
    expect(memory.readU8(0x10_1000)).toBe(0)
    expect(memory.readU8(0x10_2fff)).toBe(0)
    expect(memory.readU8(0x10_3000)).toBe(7)
    expect(codeOf(() => memfd.punchHole(1, 0x1000))).toBe('EINVAL')
    expect(codeOf(() => memfd.punchHole(0, SIZE + 1))).toBe('ERR_OUT_OF_RANGE')
  })

  test('a slot of it cannot be changed, logged or read-only', () => {
    const vm = machine()
    const memfd = create(vm)
    if (memfd === undefined || memfd.flags !== MMAP_SHARED) return
    const memory = keep(memfd.openMemory()!)
    const place = { slot: 0, guestPhysAddr: 0, memorySize: SIZE }
    const slot = { ...place, memory, memoryAddress: 0, guestMemfd: memfd }
    const logged = { ...slot, flags: KVM_MEM_LOG_DIRTY_PAGES }
    expect(codeOf(() => vm.setUserMemoryRegion2(logged))).toBe('EINVAL')
    vm.setUserMemoryRegion2(slot)
    expect(codeOf(() => vm.setUserMemoryRegion2({ ...slot, guestPhysAddr: SIZE }))).toBe('EINVAL')
    vm.setUserMemoryRegion2({ slot: 0, guestPhysAddr: 0, memorySize: 0 })
  })

  test('what another VM made is refused', () => {
    const memfd = create(machine())
    if (memfd === undefined) return
    const call = () =>
      machine().setUserMemoryRegion2({
        slot: 0,
        guestPhysAddr: 0,
        memorySize: SIZE,
        guestMemfd: memfd,
      })
    expect(codeOf(call)).toBe('EINVAL')
  })

  test('unmapped, it has no memory to open', () => {
    const vm = machine()
    const memfd = create(vm)
    if (memfd === undefined) return
    const unmapped = keep(vm.createGuestMemfd(SIZE))
    expect(unmapped.openMemory()).toBeUndefined()
  })

  test('closed, it refuses everything', () => {
    const memfd = create(machine())
    if (memfd === undefined) return
    memfd.close()
    memfd.close()
    expect(memfd.closed).toBe(true)
    expect(codeOf(() => memfd.openMemory())).toBe('ERR_KVM_CLOSED')
    expect(codeOf(() => memfd.punchHole(0, 0x1000))).toBe('ERR_KVM_CLOSED')
    const slot = { slot: 0, guestPhysAddr: 0, memorySize: SIZE, guestMemfd: memfd }
    expect(codeOf(() => machine().setUserMemoryRegion2(slot))).toBe('ERR_KVM_CLOSED')
  })

  test.each([0, 1, 4095, 4097])('%i bytes are no size', (size) => {
    expect(codeOf(() => machine().createGuestMemfd(size))).toBe('ERR_OUT_OF_RANGE')
  })

  test('unknown flags are refused, and where to look', () => {
    const vm = machine()
    if (vm.checkExtension('KVM_CAP_GUEST_MEMFD') === 0) return
    const error = thrownBy(() => vm.createGuestMemfd(SIZE, 0x8000_0000)) as Error
    expect(error).toMatchObject({ code: 'EINVAL' })
    expect(error.message).toContain('KVM_CAP_GUEST_MEMFD_FLAGS')
  })
})

function linkOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    return '' // the directory's own descriptor is gone by now
  }
}

describe('memory attributes', () => {
  test('are set where VMs have private memory, else the capability is named', () => {
    const kvm = keep(Kvm.open())
    const types = kvm.checkExtension('KVM_CAP_VM_TYPES')
    const hasProtected = (types & (1 << KVM_X86_SW_PROTECTED_VM)) !== 0
    const vm = keep(kvm.createVm(hasProtected ? KVM_X86_SW_PROTECTED_VM : 0))
    const change = { address: 0, size: 0x1000, attributes: 8 }
    if (vm.checkExtension('KVM_CAP_MEMORY_ATTRIBUTES') === 0) {
      const set = () => vm.setMemoryAttributes(change)
      expectMissing(vm, 'KVM_CAP_MEMORY_ATTRIBUTES', KVM_SET_MEMORY_ATTRIBUTES, set)
      return
    }
    vm.setMemoryAttributes(change)
    vm.setMemoryAttributes({ ...change, attributes: 0 })
    expect(codeOf(() => vm.setMemoryAttributes({ ...change, size: 1 }))).toBe('EINVAL')
  })
})
