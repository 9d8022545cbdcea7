// Pages of guest RAM that come when they are touched: from a file, from JavaScript; and pages whose
// first write is told.

import { mkdtempSync, rmSync, statfsSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  GuestMemory,
  Kvm,
  type KvmError,
  type MemoryBacking,
  type MemoryRegion,
  Userfault,
  type UserfaultOptions,
} from '../../src/index.js'
import { createPageSum, DATA } from '../helpers/page-sum.js'
import { codeOf, rejectionCodeOf } from '../helpers/thrown.js'
import { waitUntil } from '../helpers/wait-until.js'

const PAGE = 0x1000
const PAGES = 64
const SIZE = 0x20_0000
const LENGTH = PAGES * PAGE
const TMPFS_MAGIC = 0x0102_1994
const support = Userfault.support()
beforeEach((context) => {
  if (support === undefined) context.skip('this process may not use userfaultfd')
})

const folder = mkdtempSync(join(tmpdir(), 'node-kvm-userfault-'))
afterAll(() => rmSync(folder, { recursive: true }))

const open: { close(): void }[] = []
const kept = <T extends { close(): void }>(value: T): T => {
  open.push(value)
  return value
}
afterEach(() => {
  for (const value of open.splice(0).reverse()) value.close()
})
// Where the host makes large pages of all memory, the first touch of the code would bring all pages.
const create = (layout: number | MemoryRegion[], backing: MemoryBacking = 'memfd') =>
  kept(GuestMemory.create(layout, { backing, thp: 'never' }))
const watch = (memory: GuestMemory, options: UserfaultOptions) =>
  kept(Userfault.create(memory, { gpa: DATA, length: LENGTH, ...options }))

/** Page number n begins with n + 1 and is full of it. */
const pageOf = (gpa: number) => new Uint8Array(PAGE).fill((gpa - DATA) / PAGE + 1)
const wordOf = (n: number) => BigInt(n) * 0x0101_0101_0101_0101n
const SUM = Array.from({ length: PAGES }, (_, i) => wordOf(i + 1)).reduce((a, b) => a + b, 0n)

let files = 0
function imageFile(skip = 0, pages = PAGES): string {
  const path = join(folder, `image-${files++}`)
  const bytes = Buffer.alloc(skip + pages * PAGE)
  for (let i = 0; i < pages; i++) bytes.set(pageOf(DATA + i * PAGE), skip + i * PAGE)
  writeFileSync(path, bytes)
  return path
}

const backings = ['memfd', 'anonymous'] as const
const both = backings.flatMap((backing) => [0, 3].map((ring) => [backing, ring as 0 | 3] as const))

describe.each(both)('%s memory, a guest in ring %i', (backing, ring) => {
  test('gets its pages from JavaScript, each asked for once', async () => {
    const memory = create(SIZE, backing)
    using guest = createPageSum(memory, PAGES, ring)
    const asked: number[] = []
    const userfault = watch(memory, {
      missing: async (gpa) => {
        asked.push(gpa)
        await new Promise(setImmediate)
        return pageOf(gpa)
      },
    })
    expect(await guest.run()).toBe(SUM & (2n ** 64n - 1n))
    expect(asked).toEqual(Array.from({ length: PAGES }, (_, i) => DATA + i * PAGE))
    expect(userfault.statistics).toMatchObject({ waiting: 0, zeroed: 0 })
    expect(memory.readU64(DATA + 5 * PAGE)).toBe(wordOf(6))
  })

  test('gets its pages from a file, on this very thread', () => {
    const memory = create(SIZE, backing)
    using guest = createPageSum(memory, PAGES, ring)
    const userfault = watch(memory, { missing: { file: imageFile(3), offset: 3 } })
    expect(guest.runHere()).toBe(SUM & (2n ** 64n - 1n))
    expect(userfault.statistics).toMatchObject({ fromFile: PAGES, zeroed: 0, waiting: 0 })
  })

  test('goes on with zeros when the watch ends while it waits', async () => {
    const memory = create(SIZE, backing)
    using guest = createPageSum(memory, PAGES, ring)
    const userfault = watch(memory, {
      missing: (gpa) => (gpa < DATA + 3 * PAGE ? pageOf(gpa) : new Promise<never>(() => {})),
    })
    const sum = guest.run()
    await waitUntil(() => userfault.statistics.waiting === 1)
    await waitUntil(() => memory.residency(DATA, LENGTH).count === 3)
    userfault.close()
    expect(await sum).toBe(wordOf(6))
    expect(memory.isZero(DATA + 3 * PAGE, LENGTH - 3 * PAGE)).toBe(true)
  })
})

describe('a handler that fails', () => {
  test.each<[string, () => unknown]>([
    ['rejects', () => Promise.reject(new Error('no such page'))],
    [
      'throws',
      () => {
        throw new Error('no such page')
      },
    ],
    ['gives too little', () => new Uint8Array(PAGE - 1)],
    ['gives too much', () => new Uint8Array(2 * PAGE)],
    ['gives nothing', () => undefined],
    ['gives a wrong word', () => 'keep'],
    ['gives a promise of nonsense', async () => ({})],
  ])('that %s: zeros, and a typed error', async (_, handler) => {
    const memory = create(SIZE)
    using guest = createPageSum(memory, 2)
    const errors: KvmError[] = []
    watch(memory, {
      length: 2 * PAGE,
      missing: (gpa) => (gpa === DATA ? (handler() as never) : pageOf(gpa)),
      onError: (error) => errors.push(error),
    })
    expect(await guest.run()).toBe(wordOf(2))
    expect(errors.map(({ code, gpa }) => ({ code, gpa }))).toEqual([
      { code: 'ERR_KVM_PAGE_LOST', gpa: DATA },
    ])
    expect(errors[0]?.cause).toBeInstanceOf(Error)
  })
})

test('a file that is truncated underneath: zeros, and a typed error', async () => {
  const file = imageFile()
  const memory = create(SIZE)
  const errors: KvmError[] = []
  const userfault = watch(memory, { missing: { file }, onError: (error) => errors.push(error) })
  truncateSync(file, 2 * PAGE + 7)
  expect(memory.readU64(DATA + PAGE)).toBe(wordOf(2))
  expect(memory.readU64(DATA + 2 * PAGE)).toBe(0n)
  await waitUntil(() => errors.length === 1)
  expect(errors[0]).toMatchObject({ code: 'ERR_KVM_PAGE_LOST', gpa: DATA + 2 * PAGE })
  expect(userfault.statistics).toMatchObject({ fromFile: 1, zeroed: 1 })
  expect(await rejectionCodeOf(userfault.prefetch())).toBe('EIO')
})

describe('on the thread of the handler', () => {
  test('every access to a missing page throws, and changes nothing', async () => {
    const memory = create([
      { gpa: 0, size: DATA + PAGE },
      { gpa: DATA + PAGE, size: SIZE - DATA - PAGE, backing: 'anonymous' },
    ])
    const twin = kept(GuestMemory.open(memory.share()))
    memory.writeU8(DATA + PAGES * PAGE, 1)
    const userfault = watch(memory, { missing: pageOf })
    for (const ram of [memory, twin]) {
      for (const act of [
        () => ram.readU8(DATA),
        () => ram.readU64(DATA - 4),
        () => ram.writeU32(DATA, 1),
        () => ram.view(DATA - 1, 2),
        () => ram.read(DATA + PAGE, 1),
        () => ram.write(DATA - 4, new Uint8Array(8).fill(9)),
        () => ram.fill(DATA + LENGTH - PAGE, 2 * PAGE, 9),
        () => ram.isZero(0, SIZE),
        () => ram.indexOf(Uint8Array.of(1), 0, SIZE),
        () => ram.atomicAdd(DATA, 'u32', 1),
        () => ram.copyTo(ram, 0, DATA, 1),
        () => ram.advise(DATA, LENGTH, 'populateWrite'),
        () => ram.prefault(DATA, LENGTH),
      ]) {
        expect(codeOf(act)).toBe('ERR_KVM_WOULD_DEADLOCK')
      }
      expect(ram.readU32(DATA - 4)).toBe(0)
      expect(ram.readU8(DATA + LENGTH)).toBe(1)
    }
    expect(userfault.statistics.faults).toBe(0)
    await userfault.prefetch(DATA + 3 * PAGE, 1)
    expect(memory.residency(DATA, LENGTH).count).toBe(1)
    expect(twin.view(DATA + 3 * PAGE, PAGE)[9]).toBe(4)
    await userfault.prefetch()
    expect(memory.read(DATA, 2 * PAGE)[PAGE]).toBe(2)
    expect(memory.readU64(DATA + 8 * PAGE)).toBe(wordOf(9))
    expect(userfault.statistics.faults).toBe(0)
  })

  test('the guest is not run, nor anything that would wait for its vCPUs', async () => {
    const memory = create(SIZE)
    const other = create(SIZE)
    using guest = createPageSum(memory, PAGES)
    const { vm, vcpu } = guest
    let bring = (_: Uint8Array): void => {}
    const first = new Promise<Uint8Array>((resolve) => {
      bring = resolve
    })
    const userfault = watch(memory, { missing: (gpa) => (gpa === DATA ? first : 'zero') })
    expect(codeOf(() => vcpu.run())).toBe('ERR_KVM_WOULD_DEADLOCK')
    expect(codeOf(() => vcpu.translate(BigInt(DATA)))).toBe('ERR_KVM_WOULD_DEADLOCK')
    const slot = {
      slot: 9,
      guestPhysAddr: 2 ** 32,
      memorySize: PAGE,
      memory: other,
      memoryAddress: 0,
    }
    vm.setUserMemoryRegion(slot)
    const sum = guest.run()
    await waitUntil(() => userfault.statistics.waiting === 1)
    for (const act of [
      () => vm.deleteSlot(9),
      () => vm.moveSlot(9, 2 ** 34),
      () => vm.setSlotFlags(9, 1),
      () => vm.setUserMemoryRegion({ ...slot, slot: 10, guestPhysAddr: 2 ** 33 }),
      () => vm.registerCoalescedMmio({ address: 0x1000_0000, size: 8 }),
    ]) {
      expect(codeOf(act)).toBe('ERR_KVM_WOULD_DEADLOCK')
    }
    const paused = vcpu.pause()
    bring(pageOf(DATA))
    await paused
    vm.moveSlot(9, 2 ** 34)
    vm.deleteSlot(9)
    userfault.close()
    vcpu.resume()
    expect(await sum).toBe(wordOf(1))
    vm.setUserMemoryRegion(slot)
  })

  test('a view from before: zeros, and a typed error', async () => {
    const memory = create(SIZE)
    const view = memory.view(0, SIZE)
    const errors: KvmError[] = []
    watch(memory, { missing: pageOf, onError: (error) => errors.push(error) })
    expect(view[DATA + 5]).toBe(0)
    await waitUntil(() => errors.length === 1)
    expect(errors[0]).toMatchObject({ code: 'ERR_KVM_PAGE_LOST', gpa: DATA })
    expect(memory.readU8(DATA)).toBe(0)
  })
})

describe.each(backings)('pages of %s memory that were given up', (backing) => {
  test.each<[string, UserfaultOptions]>([
    ['a file', { missing: { file: imageFile() } }],
    ['a handler', { missing: pageOf }],
  ])('do not come back from %s', async (_, options) => {
    const memory = create(SIZE, backing)
    using guest = createPageSum(memory, PAGES)
    const userfault = watch(memory, options)
    await userfault.prefetch(DATA, PAGE)
    memory.discard(DATA, 2 * PAGE)
    expect(memory.readU64(DATA)).toBe(0n)
    expect(memory.readU64(DATA + PAGE)).toBe(0n)
    expect(await guest.run()).toBe((SUM - wordOf(3)) & (2n ** 64n - 1n))
  })
})

describe('pages in memory that are not mapped', () => {
  const isTmpfs = statfsSync('/dev/shm').type === TMPFS_MAGIC
  const shared = (name: string): [GuestMemory, GuestMemory] => {
    const path = `/dev/shm/node-kvm-${process.pid}-${name}`
    writeFileSync(path, Buffer.alloc(SIZE))
    try {
      const backing = { file: path, mode: 'shared' } as const
      return [create(SIZE, backing), create(SIZE, backing)]
    } finally {
      rmSync(path)
    }
  }
  beforeEach((context) => {
    if (!support?.minorShared) context.skip('this kernel has no minor faults for shared memory')
    if (!isTmpfs) context.skip('/dev/shm is no tmpfs')
  })

  test('are let through as they are, or replaced first', async () => {
    const [memory, other] = shared('minor')
    using guest = createPageSum(memory, PAGES)
    for (let gpa = DATA; gpa < DATA + LENGTH; gpa += PAGE) other.write(gpa, pageOf(gpa))
    const asked: number[] = []
    const userfault = watch(memory, {
      minor: async (gpa) => {
        asked.push(gpa)
        return gpa === DATA ? pageOf(DATA + PAGE) : 'keep'
      },
    })
    expect(codeOf(() => memory.readU8(DATA))).toBe('ERR_KVM_WOULD_DEADLOCK')
    expect(await guest.run()).toBe((SUM + wordOf(1)) & (2n ** 64n - 1n))
    expect(asked).toHaveLength(PAGES)
    expect(other.readU64(DATA)).toBe(wordOf(2))
    expect(userfault.statistics.waiting).toBe(0)
  })

  test('are kept when the handler fails', async () => {
    const [memory, other] = shared('fails')
    using guest = createPageSum(memory, 1)
    other.write(DATA, pageOf(DATA))
    const errors: KvmError[] = []
    watch(memory, {
      minor: () => Promise.reject(new Error('no')),
      onError: (error) => errors.push(error),
    })
    expect(await guest.run()).toBe(wordOf(1))
    expect(errors).toHaveLength(1)
  })
})

describe.each(backings)('writes to protected %s memory', (backing) => {
  test('are told once for each page, with what was there', async (context) => {
    if (!(backing === 'memfd' ? support?.writeShared : support?.write)) {
      context.skip(`this kernel cannot protect ${backing} memory`)
    }
    const memory = create(SIZE, backing)
    memory.fill(0, 0x8000, 0x11)
    const told: [number, number][] = []
    const userfault = kept(
      Userfault.create(memory, {
        gpa: 0,
        length: 0x8000,
        write: (gpa, before) => told.push([gpa, before[0]!]),
      }),
    )
    memory.write(0x1000, Uint8Array.from(STORES))
    userfault.protect()
    userfault.unprotect(0x5000, PAGE)
    expect(memory.readU8(0x1000)).toBe(STORES[0])
    memory.writeU8(0x3000, 0x22)
    memory.writeU8(0x3000, 0x33)
    await waitUntil(() => told.length === 1)
    runReal(memory)
    await waitUntil(() => told.length === 2)
    userfault.protect(0x4000, PAGE)
    runReal(memory)
    await waitUntil(() => told.length === 3)
    expect(told).toEqual([
      [0x3000, 0x11],
      [0x4000, 0x11],
      [0x4000, 8],
    ])
    expect(memory.readU8(0x4000)).toBe(8)
    userfault.protect()
    userfault.close()
    memory.fill(0, 0x8000, 5)
    expect(memory.readU8(0x4000)).toBe(5)
  })

  test('that nobody has touched', async (context) => {
    if (!support?.writeUntouched) context.skip('this kernel protects only what is there')
    const memory = create(SIZE, backing)
    const told: number[] = []
    const userfault = watch(memory, { write: (gpa, before) => told.push(gpa + before[0]!) })
    userfault.protect()
    memory.writeU8(DATA + 3 * PAGE, 1)
    await waitUntil(() => told.length === 1)
    expect(told).toEqual([DATA + 3 * PAGE])
  })
})

// mov al, 7; mov [0x4000], al; inc al; mov [0x4000], al; mov [0x5000], al; hlt
const STORES = [0xb0, 7, 0xa2, 0, 0x40, 0xfe, 0xc0, 0xa2, 0, 0x40, 0xa2, 0, 0x50, 0xf4]

function runReal(memory: GuestMemory): void {
  using kvm = Kvm.open()
  using vm = kvm.createVm()
  vm.mapMemory(memory)
  using vcpu = vm.createVcpu(0)
  const sregs = vcpu.getSregs()
  vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } })
  vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rflags: 2n })
  expect(vcpu.run().type).toBe('hlt')
}

test('several regions are watched as one range', async () => {
  const memory = create([
    { gpa: 0, size: DATA + 2 * PAGE },
    { gpa: DATA + 2 * PAGE, size: PAGE, backing: 'anonymous' },
    { gpa: DATA + 3 * PAGE, size: SIZE },
  ])
  using guest = createPageSum(memory, PAGES)
  const userfault = watch(memory, { missing: { file: imageFile() } })
  await userfault.prefetch(DATA + PAGE, 3 * PAGE)
  expect(userfault.statistics).toMatchObject({ faults: 0, fromFile: 3 })
  expect(guest.runHere()).toBe(SUM & (2n ** 64n - 1n))
  expect(userfault.statistics).toMatchObject({ faults: PAGES - 3, fromFile: PAGES })
})

describe('is refused', () => {
  const regular = () => ({ file: imageFile(0, SIZE / PAGE), mode: 'shared' as const })
  test.each<[string, () => GuestMemory, UserfaultOptions, unknown]>([
    ['for nothing to do', () => create(SIZE), {}, 'ERR_INVALID_ARG_TYPE'],
    [
      'for writes and more',
      () => create(SIZE),
      { missing: pageOf, write: () => {} },
      'ERR_INVALID_ARG_TYPE',
    ],
    ['off a page', () => create(SIZE), { missing: pageOf, gpa: 5 }, 'ERR_OUT_OF_RANGE'],
    ['for nothing', () => create(SIZE), { missing: pageOf, length: 0 }, 'ERR_OUT_OF_RANGE'],
    [
      'where RAM ends',
      () => create(SIZE),
      { missing: pageOf, length: SIZE },
      'ERR_KVM_GUEST_FAULT',
    ],
    [
      'with an address of 2^53',
      () => create(SIZE),
      { missing: pageOf, gpa: 2 ** 53 },
      'ERR_OUT_OF_RANGE',
    ],
    [
      'with a length of 2^53 - 4096',
      () => create(SIZE),
      { missing: pageOf, length: 2 ** 53 - PAGE },
      'ERR_KVM_GUEST_FAULT',
    ],
    ['with no source', () => create(SIZE), { missing: { file: '/none' } }, 'ENOENT'],
    [
      'with a short source',
      () => create(SIZE),
      { missing: { file: imageFile(0, PAGES - 1) } },
      'EOVERFLOW',
    ],
    [
      'with a source of 2^53 - 1',
      () => create(SIZE),
      { missing: { file: imageFile(), offset: 2 ** 53 - 1 } },
      'ERR_OUT_OF_RANGE',
    ],
    [
      'for anonymous minor faults',
      () => create(SIZE, 'anonymous'),
      { minor: () => 'keep' },
      'EINVAL',
    ],
  ])('%s', (_, memory, options, code) => {
    expect(codeOf(() => watch(memory(), options))).toBe(code)
  })

  test('for an ordinary file', ({ skip }) => {
    // tmpfs, whose files are in memory as a memfd is, and overlayfs, whose may be.
    const inMemory = [0x0102_1994, 0x794c_7630]
    const { type } = statfsSync(folder)
    if (inMemory.includes(type))
      skip(`${folder} may be in memory: file system 0x${type.toString(16)}`)
    expect(codeOf(() => watch(create(SIZE, regular()), { missing: pageOf }))).toBe('EINVAL')
  })

  test('twice for the same page, and leaves the first', async () => {
    const memory = create(SIZE)
    const first = watch(memory, { missing: pageOf })
    expect(codeOf(() => watch(memory, { gpa: DATA - PAGE, missing: pageOf }))).toBe('EBUSY')
    await first.prefetch()
    expect(memory.readU64(DATA)).toBe(wordOf(1))
  })

  test('once it is closed', async () => {
    const memory = create(SIZE)
    const userfault = watch(memory, { missing: pageOf })
    userfault.close()
    userfault.close()
    expect(userfault.closed).toBe(true)
    expect(await rejectionCodeOf(userfault.prefetch())).toBe('ERR_KVM_CLOSED')
    expect(codeOf(() => userfault.protect())).toBe('ERR_KVM_CLOSED')
    expect(userfault.statistics.faults).toBe(0)
    memory.writeU8(DATA, 1)
  })
})
