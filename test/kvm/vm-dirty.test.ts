// Which pages the guest wrote.
// covers: KVM_GET_DIRTY_LOG@vm KVM_CLEAR_DIRTY_LOG@vm KVM_RESET_DIRTY_RINGS@vm

import { afterEach, describe, expect, test } from 'vitest'
import { KVM_MEM_LOG_DIRTY_PAGES } from '../../src/uapi/index.js'
import { createGuest, ENTRY, type Guest } from '../helpers/guest.js'
import { codeOf, thrownBy } from '../helpers/thrown.js'

let guest: Guest
afterEach(() => guest.close())

const MEMORY = 0x10_0000
const PAGES = MEMORY / 0x1000

// Writes to pages 0x20, 0x30 and 0x21, then halts:
// mov ax, 0x2000; mov ds, ax; mov [0], al; mov ax, 0x3000; mov ds, ax; mov [0], al
// mov ax, 0x2100; mov ds, ax; mov [0], al; hlt; jmp to the beginning
const store = (segment: number) => [0xb8, 0, segment, 0x8e, 0xd8, 0xa2, 0, 0]
const CODE = [...store(0x20), ...store(0x30), ...store(0x21), 0xf4, 0xeb, 0xe5]

function logging(): Guest {
  guest = createGuest(CODE, { memorySize: MEMORY })
  const { vm, memory } = guest
  vm.setUserMemoryRegion({
    slot: 0,
    flags: KVM_MEM_LOG_DIRTY_PAGES,
    guestPhysAddr: 0,
    memorySize: MEMORY,
    memory,
  })
  return guest
}

// KERNEL: a page that the guest only reads counts as written when its first mapping lets it write: with
// paging in hardware that is where the code is.
const CODE_PAGE = ENTRY / 0x1000
const writtenPagesOf = (bitmap: Uint8Array) => pagesOf(bitmap).filter((page) => page !== CODE_PAGE)
const pagesOf = (bitmap: Uint8Array) =>
  Array.from({ length: bitmap.length * 8 }, (_, page) => page).filter(
    (page) => (bitmap[page >> 3]! >> (page & 7)) & 1,
  )
const bitmapOf = (pages: readonly number[], size = PAGES / 8) => {
  const bitmap = new Uint8Array(size)
  for (const page of pages) bitmap[page >> 3]! |= 1 << (page & 7)
  return bitmap
}

describe('a bitmap that is cleared as it is read', () => {
  test('has the pages written since', () => {
    const { vm, vcpu } = logging()
    expect(vcpu.run().type).toBe('hlt')
    const bitmap = vm.getDirtyLog(0)
    expect(bitmap).toHaveLength(PAGES / 8)
    expect(writtenPagesOf(bitmap)).toEqual([0x20, 0x21, 0x30])
    expect(pagesOf(vm.getDirtyLog(0))).toEqual([])
    vcpu.run()
    expect(pagesOf(vm.getDirtyLog(0))).toEqual([0x20, 0x21, 0x30])
  })

  test('does not notice writes of this process', () => {
    const { vm, memory } = logging()
    memory.writeU8(0x4_0000, 1)
    expect(pagesOf(vm.getDirtyLog(0))).toEqual([])
  })
})

describe('a bitmap that is cleared by hand', () => {
  test('keeps a page until its bit was given', () => {
    const { vm, vcpu } = logging()
    vm.enableCap('KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2', { modes: 1 })
    vcpu.run()
    expect(writtenPagesOf(vm.getDirtyLog(0))).toEqual([0x20, 0x21, 0x30])
    expect(writtenPagesOf(vm.getDirtyLog(0))).toEqual([0x20, 0x21, 0x30])
    const cleared = bitmapOf([0x21, CODE_PAGE])
    vm.clearDirtyLog({ slot: 0, firstPage: 0, pageCount: PAGES, bitmap: cleared })
    expect(pagesOf(vm.getDirtyLog(0))).toEqual([0x20, 0x30])
    vcpu.run()
    expect(pagesOf(vm.getDirtyLog(0))).toEqual([0x20, 0x21, 0x30])
  })

  test('is cleared in parts of 64 pages, and up to an end that is none', () => {
    guest = createGuest(CODE, { memorySize: MEMORY })
    const { vm, memory } = guest
    const pages = 100
    vm.enableCap('KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2', { modes: 1 })
    vm.setUserMemoryRegion({
      slot: 5,
      flags: KVM_MEM_LOG_DIRTY_PAGES,
      guestPhysAddr: 0x100_0000,
      memorySize: pages * 0x1000,
      memory,
      memoryAddress: 0,
    })
    expect(vm.getDirtyLog(5)).toHaveLength(16)
    const bitmap = new Uint8Array(8).fill(0xff)
    vm.clearDirtyLog({ slot: 5, firstPage: 0, pageCount: 64, bitmap })
    vm.clearDirtyLog({ slot: 5, firstPage: 64, pageCount: 36, bitmap })
    for (const [firstPage, pageCount] of [
      [1, 64],
      [0, 36],
      [0, 101],
      [64, 37],
      [128, 64],
    ] as const) {
      const call = () =>
        vm.clearDirtyLog({ slot: 5, firstPage, pageCount, bitmap: new Uint8Array(64) })
      expect(codeOf(call)).toBe('ERR_OUT_OF_RANGE')
    }
    const tooShort = { slot: 5, firstPage: 0, pageCount: 64, bitmap: new Uint8Array(7) }
    expect(codeOf(() => vm.clearDirtyLog(tooShort))).toBe('ERR_OUT_OF_RANGE')
  })
})

test('a slot that does not log, or is none, says so', () => {
  guest = createGuest(CODE, { memorySize: MEMORY })
  const bitmap = new Uint8Array(PAGES / 8)
  for (const call of [
    () => guest.vm.getDirtyLog(0),
    () => guest.vm.getDirtyLog(77),
    () => guest.vm.clearDirtyLog({ slot: 0, firstPage: 0, pageCount: PAGES, bitmap }),
  ]) {
    const error = thrownBy(call) as Error
    expect(error).toMatchObject({ code: 'ENOENT' })
    expect(error.message).toContain('log')
  }
})

test('without dirty rings there are none to reset', () => {
  guest = createGuest(CODE, { memorySize: MEMORY })
  const { vm } = guest
  const missing = vm.checkExtension('KVM_CAP_DIRTY_LOG_RING') === 0
  expect(codeOf(() => vm.resetDirtyRings())).toBe(missing ? 'ERR_KVM_CAP_MISSING' : 'EINVAL')
})

test('new dirty rings have nothing to reset, and take the bitmaps’ place', () => {
  guest = createGuest(CODE, { memorySize: MEMORY })
  const vm = guest.kvm.createVm()
  if (vm.checkExtension('KVM_CAP_DIRTY_LOG_RING') > 0) {
    vm.enableCap('KVM_CAP_DIRTY_LOG_RING', { size: 0x1_0000 })
    vm.setUserMemoryRegion({
      slot: 0,
      flags: KVM_MEM_LOG_DIRTY_PAGES,
      guestPhysAddr: 0,
      memorySize: MEMORY,
      memory: guest.memory,
    })
    const vcpu = vm.createVcpu(0)
    expect(vm.resetDirtyRings()).toBe(0)
    expect(codeOf(() => vm.getDirtyLog(0))).toBe('ENXIO')
    vcpu.close()
  }
  vm.close()
})
