// What the MMU did, as KVM counts it.

import { expect, test } from 'vitest'
import { GuestMemory, mmuSummary, vcpuMmuSummary } from '../../src/index.js'
import { FIRST_SLOT, FREE, Writers } from '../helpers/writers.js'

const PAGE = 0x1000
const SIZE = 0x20_0000

test('a guest in ring 3 has mappings after it ran, and none before', () => {
  using guest = new Writers()
  using stats = guest.vm.getStatsFd()
  const pages = () => {
    const { pages4k = 0, pages2m = 0, pages1g = 0 } = mmuSummary(stats)
    return pages4k + pages2m + pages1g
  }
  expect(pages()).toBe(0)
  guest.write({ gpa: 0, stride: 0, count: 0, value: 0 })
  expect(pages()).toBeGreaterThan(0)
  expect(guest.vm.mmu()).toEqual(mmuSummary(stats))
})

test('each page that is touched first is a fault and a mapping; a deleted slot has none', () => {
  using guest = new Writers()
  using memory = GuestMemory.create([{ gpa: FREE, size: SIZE }], { thp: 'never' })
  guest.vm.mapMemory(memory, { firstSlot: FIRST_SLOT })
  const [vcpu] = guest.vcpus
  const touch = () => guest.write({ gpa: FREE, stride: PAGE, count: 300, value: 1 })
  const faults = () => vcpu!.mmu().faultsFixed ?? 0
  guest.write({ gpa: FREE, stride: PAGE, count: 0, value: 1 })
  const before = { pages: guest.vm.mmu().pages4k ?? 0, faults: faults() }
  touch()
  const between = { pages: guest.vm.mmu().pages4k ?? 0, faults: faults() }
  expect(between.pages - before.pages).toBeGreaterThanOrEqual(300)
  expect(between.faults - before.faults).toBeGreaterThanOrEqual(300)
  touch()
  expect(faults() - between.faults).toBe(0)
  const flushes = vcpu!.mmu().tlbFlushes ?? 0
  guest.vm.deleteSlot(FIRST_SLOT)
  using stats = vcpu!.getStatsFd()
  guest.vm.mapMemory(memory, { firstSlot: FIRST_SLOT })
  touch()
  // Where tables are shadowed: with paging in hardware KVM takes new ones, and counts no flush.
  const isShadowed = (guest.vm.mmu().cacheMiss ?? 0) > 0
  if (isShadowed) expect(vcpuMmuSummary(stats).tlbFlushes).toBeGreaterThan(flushes)
  // Fewer than at first: a shadow MMU maps neighbours whose pages the host has by now.
  expect(faults()).toBeGreaterThan(between.faults)
})
