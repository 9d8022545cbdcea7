// Every kind of guest RAM with every kind of access, by this process and by a guest.

import { mkdtempSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  GuestMemory,
  Kvm,
  type KvmError,
  type MemoryBacking,
  type MemoryOptions,
  type Vm,
} from '../../src/index.js'
import { addHugePages } from '../helpers/huge-pages.js'
import { createPageSum, DATA } from '../helpers/page-sum.js'
import { codeOf, thrownBy } from '../helpers/thrown.js'

const PAGE = 0x1000
const MIB_2 = 0x20_0000
const SIZE = 2 * MIB_2
const TMPFS_MAGIC = 0x0102_1994

const folder = mkdtempSync(join(tmpdir(), 'node-kvm-backings-'))
const inShm = statfsSync('/dev/shm').type === TMPFS_MAGIC
const shmFolder = inShm ? mkdtempSync('/dev/shm/node-kvm-backings-') : folder
let removeHugePages: (() => void) | undefined
beforeAll(() => {
  removeHugePages = addHugePages(2048, 8)
})
afterAll(() => {
  removeHugePages?.()
  for (const path of new Set([folder, shmFolder])) rmSync(path, { recursive: true })
})

let files = 0
function zeros(where: string): string {
  const path = join(where, `ram-${files++}`)
  writeFileSync(path, Buffer.alloc(SIZE))
  return path
}

interface Kind {
  name: string
  /** The smallest piece that can be given back. */
  page: number
  /** Why it cannot be had here. */
  missing?: (vm: Vm) => string | undefined
  create: (vm: Vm) => GuestMemory
}

const of = (backing: () => MemoryBacking) => () =>
  GuestMemory.create(SIZE, { backing: backing(), thp: 'never' })

/** Whether this KVM gives plain VMs guest_memfds that are mapped and shared. */
const lacksGuestMemfd = (vm: Vm) => {
  if (vm.checkExtension('KVM_CAP_GUEST_MEMFD') === 0) return 'this KVM lacks KVM_CAP_GUEST_MEMFD'
  const flags = vm.checkExtension('KVM_CAP_GUEST_MEMFD_FLAGS')
  return (flags & 3) === 3 ? undefined : `guest_memfd has the flags ${flags} here`
}

const kinds: Kind[] = [
  { name: 'memfd', page: PAGE, create: of(() => 'memfd') },
  { name: 'anonymous', page: PAGE, create: of(() => 'anonymous') },
  {
    name: 'a shared file',
    page: PAGE,
    create: of(() => ({ file: zeros(folder), mode: 'shared' })),
  },
  {
    name: 'a private file',
    page: PAGE,
    create: of(() => ({ file: zeros(folder), mode: 'private' })),
  },
  {
    name: 'a shared file of a tmpfs',
    page: PAGE,
    create: of(() => ({ file: zeros(shmFolder), mode: 'shared' })),
    missing: () => (inShm ? undefined : '/dev/shm is no tmpfs'),
  },
  {
    name: 'huge pages',
    page: MIB_2,
    create: () => GuestMemory.create(SIZE, { backing: { hugePages: '2MiB' } }),
    missing: () => (removeHugePages ? undefined : 'no huge pages can be added to the pool here'),
  },
  {
    name: 'guest_memfd',
    page: PAGE,
    create: (vm) => vm.createGuestMemory(SIZE),
    missing: lacksGuestMemfd,
  },
]

const pattern = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 7 + 3) % 251)

const accesses: [string, (memory: GuestMemory, kind: Kind, vm: Vm) => void][] = [
  [
    'bytes',
    (memory) => {
      const bytes = pattern(3 * PAGE + 5)
      memory.write(PAGE - 3, bytes)
      expect(Buffer.compare(memory.read(PAGE - 3, bytes.length), bytes)).toBe(0)
      memory.write(SIZE - 1, Uint8Array.of(9))
      expect(memory.read(SIZE - 1, 1)).toEqual(Uint8Array.of(9))
    },
  ],
  [
    'integers, aligned and not',
    (memory) => {
      for (const at of [0x100, 0x103, PAGE - 1, MIB_2 - 3]) {
        memory.writeU64(at, 0x8877_6655_4433_2211n)
        expect(memory.readU8(at)).toBe(0x11)
        expect(memory.readU16(at + 1)).toBe(0x3322)
        expect(memory.readI32(at + 4)).toBe(0x8877_6655 | 0)
        expect(memory.readI64(at)).toBe(BigInt.asIntN(64, 0x8877_6655_4433_2211n))
        memory.writeU32(at, 0xdead_beef)
        memory.writeU16(at, 0xabcd)
        memory.writeU8(at + 1, 0xef)
        expect(memory.readU32(at)).toBe(0xdead_efcd)
      }
    },
  ],
  [
    'text, lists of parts and search',
    (memory) => {
      memory.writeString(MIB_2 - 4, 'needle')
      expect(memory.readString(MIB_2 - 4, 20)).toBe('needle')
      expect(memory.indexOf(new TextEncoder().encode('needle'), 0, SIZE)).toBe(MIB_2 - 4)
      const parts = [
        { gpa: 5, length: 3 },
        { gpa: MIB_2 + 1, length: 2 },
      ]
      memory.writeParts(parts, Uint8Array.of(1, 2, 3, 4, 5))
      expect(memory.readParts(parts)).toEqual(Uint8Array.of(1, 2, 3, 4, 5))
    },
  ],
  [
    'filling, scans for zeros, copies',
    (memory) => {
      memory.fill(PAGE, 2 * PAGE, 0xcc)
      expect(memory.isZero(0, PAGE)).toBe(true)
      expect([...memory.zeroPages(0, 5 * PAGE)]).toEqual([
        { gpa: 0, size: PAGE },
        { gpa: 3 * PAGE, size: 2 * PAGE },
      ])
      using other = GuestMemory.create(SIZE)
      memory.copyTo(other, PAGE - 1, 7, PAGE)
      expect(other.readU32(7)).toBe(0xcccc_cc00)
      other.copyTo(memory, 7, SIZE - 4, 4)
      expect(memory.readU32(SIZE - 4)).toBe(0xcccc_cc00)
    },
  ],
  [
    'atomic access',
    (memory) => {
      memory.atomicStore(0x40, 'u32', 5)
      expect(memory.atomicAdd(0x40, 'u32', 2)).toBe(5)
      expect(memory.atomicCompareExchange(0x40, 'u32', 7, 9)).toBe(7)
      expect(memory.atomicLoad(0x40, 'u64')).toBe(9n)
    },
  ],
  [
    'views, which outlive it, and other threads’ objects',
    (memory) => {
      const view = memory.view(PAGE, 2 * PAGE)
      using twin = GuestMemory.open(memory.share())
      twin.writeU8(PAGE + 3, 0x77)
      expect(view[3]).toBe(0x77)
      view[4] = 0x78
      expect(memory.readU8(PAGE + 4)).toBe(0x78)
      memory.close()
      twin.close()
      expect(view[4]).toBe(0x78)
      view.fill(1)
    },
  ],
  [
    'a guest that reads and writes',
    (memory, _, vm) => {
      // mov al, [0x2345]; inc al; mov [0x3345], al; lock inc byte [0x3346]; hlt
      const code = [0xa0, 0x45, 0x23, 0xfe, 0xc0, 0xa2, 0x45, 0x33, 0xf0, 0xfe, 0x06, 0x46, 0x33]
      vm.mapMemory(memory)
      using vcpu = vm.createVcpu(0)
      memory.write(PAGE, Uint8Array.from([...code, 0xf4]))
      memory.writeU8(0x2345, 0x41)
      const sregs = vcpu.getSregs()
      vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } })
      vcpu.updateRegs({ rip: BigInt(PAGE), rflags: 2n })
      expect(vcpu.run().type).toBe('hlt')
      expect(memory.readU16(0x3345)).toBe(0x0142)
    },
  ],
  [
    'giving pages back',
    (memory, { page }) => {
      memory.fill(0, SIZE, 0x11)
      memory.discard(page, page)
      expect(memory.isZero(page, page)).toBe(true)
      expect(memory.readU8(page - 1)).toBe(0x11)
      memory.writeU8(page, 1)
      expect(memory.readU8(page)).toBe(1)
      expect(memory.hintFree([{ gpa: page + 1, size: 4 * SIZE }])).toBe(SIZE - page - PAGE)
      memory.writeU8(SIZE - PAGE, 2)
      expect(memory.readU8(SIZE - PAGE)).toBe(2)
      expect(memory.readU8(page - 1)).toBe(0x11)
    },
  ],
  [
    'figures',
    (memory, { page }) => {
      memory.writeU8(page, 1)
      expect(memory.usage().size).toBe(SIZE)
      expect(memory.residency(page, PAGE).count).toBe(1)
      expect(memory.pageState(page).present).toBe(true)
      expect(memory.lostPages).toBe(0)
    },
  ],
]

describe.each(kinds)('$name', (kind) => {
  test.for(accesses)('%s', ([, access], context) => {
    using kvm = Kvm.open()
    using vm = kvm.createVm()
    const reason = kind.missing?.(vm)
    if (reason !== undefined) context.skip(reason)
    using memory = kind.create(vm)
    access(memory, kind, vm)
  })

  test.for([0, 3] as const)('a guest in ring %i reads what was written here', (ring, context) => {
    using kvm = Kvm.open()
    using vm = kvm.createVm()
    const reason = kind.missing?.(vm)
    if (reason !== undefined) context.skip(reason)
    using memory = kind.create(vm)
    for (let i = 0; i < 16; i++) memory.writeU64(DATA + i * PAGE, BigInt(i + 1))
    using guest = createPageSum(memory, 16, ring, vm)
    expect(guest.runHere()).toBe(136n)
  })
})

/** What the kernel says of the one mapping of that size: its flags, and its NUMA policy. */
function mappingOf(size: number): { flags: string[]; policy: string | undefined } {
  const maps = readFileSync('/proc/self/smaps', 'latin1').split(/\n(?=[0-9a-f]+-[0-9a-f]+ )/)
  const map = maps.find((text) => text.includes(`\nSize: ${`${size / 1024}`.padStart(18)} kB`))
  const flags =
    /VmFlags: (.*)/
      .exec(map ?? '')?.[1]
      ?.trim()
      .split(' ') ?? []
  const address = map?.split('-')[0] ?? 'none'
  const numa = readFileSync('/proc/self/numa_maps', 'latin1').split('\n')
  return { flags, policy: numa.find((line) => line.startsWith(`${address} `))?.split(' ')[1] }
}

describe('the kernel was told', () => {
  // A size that nothing else has.
  const size = 0x2b_7000
  test.each<[MemoryOptions, string]>([
    [{ dontFork: true }, 'dc'],
    [{ dontDump: true }, 'dd'],
    [{ mergeable: true }, 'mg'],
    [{ thp: 'madvise' }, 'hg'],
    [{ thp: 'never' }, 'nh'],
    [{ mlock: true }, 'lo'],
    [{ mlock: 'onfault' }, 'lo'],
  ])('%o', (options, flag) => {
    using plain = GuestMemory.create(size, { backing: 'anonymous' })
    expect(mappingOf(size).flags).not.toContain(flag)
    plain.close()
    using memory = GuestMemory.create(size, { backing: 'anonymous', ...options })
    expect(memory.size).toBe(size)
    expect(mappingOf(size).flags).toContain(flag)
  })

  test.each(['bind', 'preferred', 'interleave'] as const)('NUMA: %s', (mode) => {
    using memory = GuestMemory.create(size, { numa: { mode, nodes: [0] } })
    expect(memory.size).toBe(size)
    expect(mappingOf(size).policy).toMatch(mode === 'preferred' ? /^prefer/ : RegExp(`^${mode}`))
  })
})

describe('guest_memfd as guest RAM', () => {
  test('is refused with the capability that is missing', (context) => {
    using kvm = Kvm.open()
    using vm = kvm.createVm()
    if (lacksGuestMemfd(vm) === undefined) context.skip('this KVM has what it takes')
    const { code, capability } = thrownBy(() => vm.createGuestMemory(SIZE)) as KvmError
    expect(code).toBe('ERR_KVM_CAP_MISSING')
    expect(capability).toMatch(/^KVM_CAP_GUEST_MEMFD/)
  })

  test('has several regions, and no other VM can map it', (context) => {
    using kvm = Kvm.open()
    using vm = kvm.createVm()
    const reason = lacksGuestMemfd(vm)
    if (reason !== undefined) context.skip(reason)
    expect(codeOf(() => vm.createGuestMemory(PAGE + 1))).toBe('ERR_OUT_OF_RANGE')
    using memory = vm.createGuestMemory([
      { gpa: 2 ** 32, size: MIB_2 },
      { gpa: 0, size: MIB_2 },
    ])
    expect(memory.ranges.map(({ gpa }) => gpa)).toEqual([0, 2 ** 32])
    expect(vm.mapMemory(memory)).toBe(2)
    memory.writeU8(2 ** 32, 5)
    using other = kvm.createVm()
    expect(codeOf(() => other.mapMemory(memory))).toBe('EINVAL')
  })

  test('touched where it is the guest’s own, it is zeros and ends nothing', (context) => {
    using kvm = Kvm.open()
    using vm = kvm.createVm()
    const reason = lacksGuestMemfd(vm)
    if (reason !== undefined) context.skip(reason)
    using memfd = vm.createGuestMemfd(SIZE, 1)
    using memory = memfd.openMemory()!
    expect(memory.readU8(PAGE)).toBe(0)
    expect(memory.lostPages).toBe(1)
  })
})
