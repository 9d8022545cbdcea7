// KVM's binary statistics.
// covers: KVM_GET_STATS_FD@vm

import { afterEach, describe, expect, test } from 'vitest'
import { statValue } from '../../src/core/stat.js'
import { type Stat, StatsFd } from '../../src/index.js'
import { createGuest, type Guest, HALT } from '../helpers/guest.js'
import { codeOf } from '../helpers/thrown.js'

let guest: Guest
afterEach(() => guest.close())

function stats(): StatsFd {
  guest = createGuest(HALT)
  guest.vcpu.run()
  return guest.vm.getStatsFd()
}

test('describe themselves', () => {
  const file = stats()
  expect(file).toBeInstanceOf(StatsFd)
  expect(file.id).toBe(`kvm-${process.pid}`)
  expect(file.stats).toHaveLength(file.header.num_desc)
  const names = file.stats.map(({ name }) => name)
  expect(new Set(names).size).toBe(names.length)
  expect(names).toContain('remote_tlb_flush')
  for (const { type, unit } of file.stats) {
    expect(type).not.toBe('unknown')
    expect(unit).not.toBe('unknown')
  }
  file.close()
})

test('have a value for each, none of them absurd', () => {
  const file = stats()
  const values = file.read()
  expect([...values.keys()]).toEqual(file.stats.map(({ name }) => name))
  for (const value of values.values()) {
    if (typeof value === 'bigint') expect(value).toBeLessThan(1n << 63n)
  }
  file.close()
})

test('change as the guest runs', () => {
  // mov ax, 0x2000; mov ds, ax; mov al, [0]: something for the MMU to do
  guest = createGuest([0xb8, 0, 0x20, 0x8e, 0xd8, 0xa0, 0, 0, 0xf4])
  const file = guest.vm.getStatsFd()
  const before = file.read()
  guest.vcpu.run()
  // Pages that are mapped count while they are, shadow pages when they go.
  const running = file.read()
  guest.vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0, memorySize: 0 })
  const after = file.read()
  const changed = [...running, ...after].filter(([name, value]) => value !== before.get(name))
  expect(changed.length).toBeGreaterThan(0)
  file.close()
})

test('stay readable when the VM is closed, until they are closed themselves', () => {
  const file = stats()
  guest.close()
  expect(file.read().size).toBe(file.stats.length)
  file.close()
  expect(codeOf(() => file.read())).toBe('ERR_KVM_CLOSED')
})

describe('values', () => {
  const stat = (changes: Partial<Stat>): Stat => ({
    name: 'x',
    type: 'cumulative',
    unit: 'none',
    base: 10,
    exponent: 0,
    size: 1,
    offset: 8,
    bucketSize: 0,
    ...changes,
  })
  const values = BigUint64Array.of(9n, 1n, 2n, 3n, 4n)

  test('are one number', () => {
    guest = createGuest(HALT)
    expect(statValue(stat({}), values)).toBe(1n)
  })

  test('or buckets of one width', () => {
    guest = createGuest(HALT)
    expect(statValue(stat({ type: 'linear-histogram', size: 3, bucketSize: 10 }), values)).toEqual([
      { from: 0n, to: 10n, count: 1n },
      { from: 10n, to: 20n, count: 2n },
      { from: 20n, to: undefined, count: 3n },
    ])
  })

  test('or buckets that double', () => {
    guest = createGuest(HALT)
    expect(statValue(stat({ type: 'log-histogram', size: 4 }), values)).toEqual([
      { from: 0n, to: 1n, count: 1n },
      { from: 1n, to: 2n, count: 2n },
      { from: 2n, to: 4n, count: 3n },
      { from: 4n, to: undefined, count: 4n },
    ])
  })
})
