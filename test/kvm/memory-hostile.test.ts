// Guest RAM against those who do not mean it well: absurd addresses, things that go while they are
// used. Nothing may end the process; run under ASan too.

import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, test } from 'vitest'
import { GuestMemory, Kvm, type MemoryBacking, Userfault } from '../../src/index.js'
import { createPageSum, DATA } from '../helpers/page-sum.js'
import { codeOf } from '../helpers/thrown.js'

const PAGE = 0x1000
const SIZE = 0x20_0000
const folder = mkdtempSync(join(tmpdir(), 'node-kvm-hostile-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** No address or length of anything: beyond what is exact, negative, fractions, other types. */
const ABSURD: unknown[] = [
  -1,
  -(2 ** 31),
  -(2 ** 53),
  0.5,
  PAGE + 0.5,
  2 ** 53,
  2 ** 63,
  2 ** 64,
  2 ** 64 - 2 ** 11,
  Number.MAX_VALUE,
  Number.POSITIVE_INFINITY,
  Number.NaN,
  1n,
  2n ** 64n,
  '0',
  null,
  undefined,
  {},
  [0],
  Symbol('0'),
]
/** Numbers that are no RAM here. */
const OUTSIDE = [SIZE, SIZE + PAGE, 2 ** 31, 2 ** 32, 2 ** 52, 2 ** 53 - PAGE, 2 ** 53 - 1]

type Act = (memory: GuestMemory, gpa: never, length: never) => unknown
const ranged: [string, Act][] = [
  ['view', (m, gpa, length) => m.view(gpa, length)],
  ['read', (m, gpa, length) => m.read(gpa, length)],
  ['fill', (m, gpa, length) => m.fill(gpa, length, 9)],
  ['isZero', (m, gpa, length) => m.isZero(gpa, length)],
  ['zeroPages', (m, gpa, length) => [...m.zeroPages(gpa, length)]],
  ['indexOf', (m, gpa, length) => m.indexOf(Uint8Array.of(1), gpa, length)],
  ['readParts', (m, gpa, length) => m.readParts([{ gpa, length }])],
  ['copyTo', (m, gpa, length) => m.copyTo(m, gpa, 0, length)],
  ['copyTo, its target', (m, gpa, length) => m.copyTo(m, 0, gpa, length)],
  ['copyTo another', (m, gpa, length) => m.copyTo(GuestMemory.create(SIZE), gpa, 0, length)],
  ['copyTo from another', (m, gpa, length) => GuestMemory.create(SIZE).copyTo(m, 0, gpa, length)],
  ['discard', (m, gpa, length) => m.discard(gpa, length)],
  ['advise', (m, gpa, length) => m.advise(gpa, length, 'cold')],
  ['residency', (m, gpa, length) => m.residency(gpa, length)],
]
const pointed: [string, (memory: GuestMemory, gpa: never) => unknown][] = [
  ['readU8', (m, gpa) => m.readU8(gpa)],
  ['readU16', (m, gpa) => m.readU16(gpa)],
  ['readU32', (m, gpa) => m.readU32(gpa)],
  ['readU64', (m, gpa) => m.readU64(gpa)],
  ['writeU8', (m, gpa) => m.writeU8(gpa, 9)],
  ['writeU16', (m, gpa) => m.writeU16(gpa, 9)],
  ['writeU32', (m, gpa) => m.writeU32(gpa, 9)],
  ['writeU64', (m, gpa) => m.writeU64(gpa, 9n)],
  ['write', (m, gpa) => m.write(gpa, Uint8Array.of(9))],
  ['writeString', (m, gpa) => m.writeString(gpa, 'x')],
  ['readString', (m, gpa) => m.readString(gpa, 5)],
  ['atomicAdd', (m, gpa) => m.atomicAdd(gpa, 'u8', 1)],
  ['pageState', (m, gpa) => m.pageState(gpa)],
]
const TYPED = /^(ERR_(INVALID_ARG_TYPE|OUT_OF_RANGE|KVM_GUEST_FAULT))$/

/** Accesses take other ways once there are arrays over RAM. */
function created(arrays: boolean): GuestMemory {
  const memory = GuestMemory.create(SIZE)
  if (arrays) memory.readU8(0)
  return memory
}

describe.each([
  ['before there are arrays', false],
  ['with arrays', true],
])('absurd addresses and lengths, %s', (_, arrays) => {
  test.each(ranged)('%s', (_, act) => {
    using memory = created(arrays)
    for (const absurd of [...ABSURD, ...OUTSIDE]) {
      expect(codeOf(() => act(memory, absurd as never, PAGE as never))).toMatch(TYPED)
      if (absurd !== SIZE) {
        expect(codeOf(() => act(memory, 0 as never, absurd as never))).toMatch(TYPED)
      }
    }
    expect(codeOf(() => act(memory, PAGE as never, SIZE as never))).toBe('ERR_KVM_GUEST_FAULT')
    expect(memory.isZero(0, SIZE)).toBe(true)
  })

  test.each(pointed)('%s', (_, act) => {
    using memory = created(arrays)
    for (const absurd of [...ABSURD, ...OUTSIDE]) {
      expect(codeOf(() => act(memory, absurd as never))).toMatch(TYPED)
    }
    expect(memory.isZero(0, SIZE)).toBe(true)
  })
})

describe('absurd addresses and lengths', () => {
  test('layouts', () => {
    for (const absurd of [...ABSURD, 0, 1, PAGE - 1, PAGE + 1, 2 ** 53 - 1]) {
      const create = (layout: unknown) => () => GuestMemory.create(layout as number)
      if (!Array.isArray(absurd)) expect(codeOf(create(absurd))).toMatch(TYPED)
      expect(codeOf(create([{ gpa: 0, size: absurd }]))).toMatch(TYPED)
      if (absurd !== 0) expect(codeOf(create([{ gpa: absurd, size: PAGE }]))).toMatch(TYPED)
    }
    // More than any process has: the kernel's to refuse.
    expect(codeOf(() => GuestMemory.create(2 ** 52 - PAGE))).toBe('ENOMEM')
    expect(codeOf(() => GuestMemory.create([{ gpa: 2 ** 52 - PAGE, size: 2 * PAGE }]))).toBe(
      'ERR_OUT_OF_RANGE',
    )
  })

  test('slots', () => {
    using kvm = Kvm.open()
    using vm = kvm.createVm()
    using memory = GuestMemory.create(SIZE)
    const good = { slot: 0, guestPhysAddr: 0, memorySize: SIZE, memory }
    for (const absurd of [...ABSURD.filter((value) => value !== undefined), 1, PAGE - 1]) {
      for (const field of ['guestPhysAddr', 'memorySize', 'memoryAddress'] as const) {
        const call = () => vm.setUserMemoryRegion({ ...good, [field]: absurd as number })
        expect(codeOf(call)).toMatch(TYPED)
      }
    }
    for (const gpa of [2 ** 52, 2 ** 53 - PAGE]) {
      const call = () => vm.setUserMemoryRegion({ ...good, guestPhysAddr: gpa, memoryAddress: 0 })
      expect(codeOf(call)).toMatch(/^(EINVAL|ERR_OUT_OF_RANGE)$/)
    }
  })

  test('what a guest says is free', () => {
    using memory = GuestMemory.create(SIZE)
    memory.fill(0, SIZE, 1)
    const any = fc.oneof(fc.nat(2 * SIZE), fc.maxSafeNat())
    fc.assert(
      fc.property(fc.array(fc.record({ gpa: any, size: any }), { maxLength: 6 }), (ranges) => {
        expect(memory.hintFree(ranges) % PAGE).toBe(0)
      }),
      { numRuns: 200, seed: 7 },
    )
    expect(codeOf(() => memory.hintFree([{ gpa: 2 ** 53, size: 1 }]))).toBe('ERR_OUT_OF_RANGE')
  })
})

test('views, after everything they belong to was closed', () => {
  const views: Uint8Array[] = []
  for (const backing of ['memfd', 'anonymous'] as const) {
    const kvm = Kvm.open()
    const vm = kvm.createVm()
    const memory = GuestMemory.create(SIZE, { backing })
    vm.mapMemory(memory)
    views.push(memory.view(0, SIZE), memory.view(DATA, PAGE))
    for (const part of [memory, vm, kvm]) part.close()
    expect(codeOf(() => memory.view(0, 1))).toBe('ERR_KVM_CLOSED')
  }
  for (const view of views) {
    view.fill(7)
    expect(view[view.length - 1]).toBe(7)
  }
})

describe.each([0, 3] as const)('a guest in ring %i', (ring) => {
  test('whose slot is taken away while it runs, again and again', async () => {
    using memory = GuestMemory.create([
      { gpa: 0, size: DATA },
      { gpa: DATA, size: DATA },
    ])
    using guest = createPageSum(memory, 256, ring)
    const { vm, vcpu } = guest
    let exits = 0
    vcpu.start((exit) => {
      // Where there is no slot, a read is an access to a device; the sum is one as well.
      if (exit.type === 'mmio') exits++
      if (exit.type === 'mmio' && exit.isWrite) vcpu.requestStop()
    })
    for (let round = 0; round < 60; round++) {
      vm.deleteSlot(1)
      if (round % 3 === 0) await new Promise(setImmediate)
      vm.setUserMemoryRegion({ slot: 1, guestPhysAddr: DATA, memorySize: DATA, memory })
      if (round % 4 === 0) await new Promise(setImmediate)
    }
    await vcpu.join()
    expect(exits).toBeGreaterThan(0)
  })

  test.each<[string, (path: string) => MemoryBacking]>([
    ['shared', (file) => ({ file, mode: 'shared' })],
    ['private', (file) => ({ file, mode: 'private' })],
  ])('whose %s file is truncated while it runs', async (name, backing) => {
    const path = join(folder, `${name}-${ring}`)
    writeFileSync(path, Buffer.alloc(SIZE))
    using memory = GuestMemory.create(SIZE, { backing: backing(path) })
    using guest = createPageSum(memory, 256, ring)
    const { vcpu } = guest
    truncateSync(path, DATA + 8 * PAGE)
    vcpu.start(() => vcpu.requestStop())
    const end = await vcpu.join().then(
      () => 'exit',
      (error) => error.code,
    )
    expect(['exit', 'EFAULT']).toContain(end)
    expect(memory.readU8(SIZE - 1)).toBe(0)
    expect(memory.lostPages).toBeGreaterThan(0)
  })
})

test('random calls while pages are served, closed in the middle', async (context) => {
  if (Userfault.support() === undefined) context.skip('this process may not use userfaultfd')
  const calls = [...ranged, ...pointed] as [string, Act][]
  const place = fc.nat(SIZE + PAGE)
  const step = fc.record({ call: fc.nat(calls.length - 1), gpa: place, length: fc.nat(3 * PAGE) })
  const plan = fc.record({
    anonymous: fc.boolean(),
    minor: fc.boolean(),
    steps: fc.array(step, { maxLength: 30 }),
    closing: fc.nat(30),
  })
  await fc.assert(
    fc.asyncProperty(plan, async ({ anonymous, minor, steps, closing }) => {
      using memory = GuestMemory.create(SIZE, { backing: anonymous ? 'anonymous' : 'memfd' })
      using userfault = Userfault.create(memory, {
        missing: async () => 'zero' as const,
        ...(minor && !anonymous ? { minor: async () => 'keep' as const } : {}),
      })
      const prefetched = userfault.prefetch(DATA, SIZE / 4).catch((error) => error.code)
      for (const [i, { call, gpa, length }] of steps.entries()) {
        if (i === closing) userfault.close()
        if (i % 7 === 0) await new Promise(setImmediate)
        const [, act] = calls[call]!
        const code = errorOf(() => act(memory, gpa as never, length as never))
        expect(code ?? 'done').toMatch(/^(done|ERR_.*|EINVAL)$/)
      }
      userfault.close()
      expect(await prefetched).toSatisfy(
        (value) => value === undefined || value === 'ERR_KVM_CLOSED',
      )
      memory.fill(0, SIZE, 1)
    }),
    { numRuns: 60, seed: 11 },
  )
})

/** The code of what it throws, if it throws. */
function errorOf(act: () => unknown): unknown {
  try {
    act()
    return undefined
  } catch (error) {
    return (error as { code?: unknown }).code
  }
}
