// What guest RAM can be made of: each kind behind the same accessors and the same guest.

import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import {
  GuestMemory,
  Kvm,
  type KvmError,
  type MemoryBacking,
  type MemoryOptions,
  thpStatistics,
} from '../../src/index.js'
import { codeOf, thrownBy } from '../helpers/thrown.js'

const PAGE = 0x1000
const MIB_2 = 0x20_0000
const folder = mkdtempSync(join(tmpdir(), 'node-kvm-memory-'))
afterAll(() => rmSync(folder, { recursive: true }))

const made: GuestMemory[] = []
function create(...args: Parameters<typeof GuestMemory.create>): GuestMemory {
  const memory = GuestMemory.create(...args)
  made.push(memory)
  return memory
}
afterEach(() => {
  for (const memory of made.splice(0)) memory.close()
})

let files = 0
function file(size: number, value = 0): string {
  const path = join(folder, `ram-${files++}`)
  writeFileSync(path, Buffer.alloc(size, value))
  return path
}

function hugePagesFree(): number {
  const path = '/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages'
  try {
    return Number(readFileSync(path, 'latin1'))
  } catch {
    return -1
  }
}

// mov [0x2345], al; mov bl, [0x2346]; hlt
const CODE = Uint8Array.of(0xa2, 0x45, 0x23, 0x8a, 0x1e, 0x46, 0x23, 0xf4)

function runIn(memory: GuestMemory): void {
  using kvm = Kvm.open()
  using vm = kvm.createVm()
  vm.mapMemory(memory)
  using vcpu = vm.createVcpu(0)
  memory.write(0x1000, CODE)
  memory.writeU8(0x2346, 0x77)
  const sregs = vcpu.getSregs()
  vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } })
  vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rflags: 2n, rax: 0x5an, rbx: 0n })
  expect(vcpu.run().type).toBe('hlt')
  expect(memory.readU8(0x2345)).toBe(0x5a)
  expect(vcpu.getRegs().rbx).toBe(0x77n)
}

const kinds: [string, () => MemoryBacking][] = [
  ['memfd', () => 'memfd'],
  ['anonymous', () => 'anonymous'],
  ['a shared file', () => ({ file: file(MIB_2 * 2), mode: 'shared' })],
  ['a private file', () => ({ file: file(MIB_2 * 2), mode: 'private' })],
]

describe.each(kinds)('%s', (_, backing) => {
  test('is RAM for accessors and for a guest', () => {
    const memory = create(MIB_2, { backing: backing() })
    expect(memory.isZero(0, MIB_2)).toBe(true)
    runIn(memory)
    memory.discard(0x2000, PAGE)
    expect(memory.readU8(0x2345)).toBe(0)
    memory.writeU8(0x2345, 1)
    expect(memory.readU8(0x2345)).toBe(1)
  })

  test.each<MemoryOptions>([
    { prefault: true },
    { mlock: true },
    { mlock: 'onfault', dontFork: true, dontDump: true },
    { numa: { mode: 'bind', nodes: [0] } },
    { numa: { mode: 'preferred', nodes: [0] }, prefault: true },
  ])('takes %o', (options) => {
    const memory = create(MIB_2, { backing: backing(), ...options })
    const all = options.prefault || options.mlock === true
    if (all) expect(memory.residency(0, MIB_2).count).toBe(MIB_2 / PAGE)
    if (options.mlock === true) expect(memory.usage().locked).toBe(MIB_2)
    expect(memory.usage().size).toBe(MIB_2)
    runIn(memory)
  })

  test('costs what is touched, and nothing after it is given back', () => {
    const memory = create(MIB_2, { backing: backing() })
    for (const page of [3, 4, 9]) memory.writeU8(page * PAGE, 1)
    expect(memory.usage().rss).toBeGreaterThanOrEqual(3 * PAGE)
    expect(memory.residency(3 * PAGE, 2 * PAGE).count).toBe(2)
    expect(memory.pageState(9 * PAGE + 5).present).toBe(true)
    memory.discard(0, MIB_2)
    expect(memory.isZero(0, MIB_2)).toBe(true)
  })
})

test('anonymous memory: exactly the pages touched are resident', () => {
  const memory = create(MIB_2, { backing: 'anonymous', thp: 'never' })
  for (const page of [0, 3, 4, 511]) memory.writeU8(page * PAGE, 1)
  const residency = memory.residency(0, MIB_2)
  expect([...residency.ranges()]).toEqual([
    { gpa: 0, size: PAGE },
    { gpa: 3 * PAGE, size: 2 * PAGE },
    { gpa: 511 * PAGE, size: PAGE },
  ])
  expect(residency.has(3 * PAGE + 7)).toBe(true)
  expect(residency.has(5 * PAGE)).toBe(false)
  memory.discard(3 * PAGE, PAGE)
  expect(memory.residency(0, MIB_2).count).toBe(3)
})

test('a shared file receives writes, a private one does not', () => {
  const path = file(4 * PAGE, 0x11)
  const shared = create(2 * PAGE, { backing: { file: path, offset: PAGE, mode: 'shared' } })
  const own = create(2 * PAGE, { backing: { file: path, offset: PAGE, mode: 'private' } })
  own.writeU8(5, 0x22)
  shared.writeU8(PAGE + 6, 0x33)
  expect(readFileSync(path)[PAGE + 5]).toBe(0x11)
  expect(readFileSync(path)[2 * PAGE + 6]).toBe(0x33)
  expect(own.readU8(PAGE + 6)).toBe(0x33)
  own.discard(0, PAGE)
  expect(own.readU8(5)).toBe(0x11)
})

describe('files that cannot be RAM', () => {
  test.each([
    ['too short', () => ({ file: file(PAGE) }), 'EOVERFLOW'],
    [
      'shared, and cut in its last page',
      () => ({ file: file(2 * PAGE - 1), mode: 'shared' as const }),
      'EOVERFLOW',
    ],
    [
      'too short behind the offset',
      () => ({ file: file(3 * PAGE), offset: 2 * PAGE }),
      'EOVERFLOW',
    ],
    ['a directory', () => ({ file: folder }), 'EINVAL'],
    ['absent', () => ({ file: join(folder, 'none') }), 'ENOENT'],
    ['at an odd offset', () => ({ file: file(4 * PAGE), offset: 5 }), 'ERR_OUT_OF_RANGE'],
  ])('%s', (_, backing, code) => {
    const options: MemoryOptions = { backing: { mode: 'private', ...backing() } }
    expect(codeOf(() => create(2 * PAGE, options))).toBe(code)
  })
})

test('a private file may end within the last page', () => {
  const memory = create(2 * PAGE, { backing: { file: file(PAGE + 5, 0x77), mode: 'private' } })
  expect([...memory.read(PAGE + 3, 4)]).toEqual([0x77, 0x77, 0, 0])
  memory.writeU8(2 * PAGE - 1, 1)
  expect(memory.readU8(2 * PAGE - 1)).toBe(1)
})

describe('a file that is truncated underneath', () => {
  test.each(['shared', 'private'] as const)('%s: reads as zeros and kills nobody', (mode) => {
    const path = file(4 * PAGE, 0x44)
    const memory = create(4 * PAGE, { backing: { file: path, mode } })
    const view = memory.view(0, 4 * PAGE)
    expect(memory.readU8(3 * PAGE)).toBe(0x44)
    truncateSync(path, PAGE)
    expect(memory.lostPages).toBe(0)
    expect(view[3 * PAGE]).toBe(0)
    memory.writeU8(2 * PAGE, 9)
    expect(memory.readU8(2 * PAGE)).toBe(9)
    expect(memory.read(0, 4 * PAGE)[PAGE - 1]).toBe(0x44)
    expect(memory.lostPages).toBe(3)
  })

  test('a guest that runs on it ends with an error or an exit', () => {
    const path = file(4 * PAGE)
    const memory = create(4 * PAGE, { backing: { file: path, mode: 'shared' } })
    memory.write(0x1000, CODE)
    using kvm = Kvm.open()
    using vm = kvm.createVm()
    vm.mapMemory(memory)
    using vcpu = vm.createVcpu(0)
    const sregs = vcpu.getSregs()
    vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } })
    vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rflags: 2n })
    truncateSync(path, 2 * PAGE)
    let end: string
    try {
      end = vcpu.run().type
    } catch (error) {
      end = (error as { code: string }).code
    }
    expect(['EFAULT', 'mmio', 'memory_fault', 'internal_error']).toContain(end)
    expect(memory.readU8(3 * PAGE)).toBe(0)
  })
})

describe('huge pages of the pool', () => {
  test('are refused with the reason when there are none', () => {
    for (const hugePages of ['2MiB', '1GiB'] as const) {
      const error = thrownBy(() => create(2 ** 40, { backing: { hugePages } })) as KvmError
      expect(['ENOMEM', 'ENODEV', 'ENOENT']).toContain(error.code)
      if (error.code === 'ENOMEM')
        expect(error.message).toContain('the pool has too few free pages')
    }
  })

  test('need sizes and addresses of whole pages', () => {
    const backing: MemoryBacking = { hugePages: '2MiB' }
    expect(codeOf(() => create(PAGE, { backing }))).toBe('ERR_OUT_OF_RANGE')
    expect(codeOf(() => create([{ gpa: PAGE, size: MIB_2 }], { backing }))).toBe('ERR_OUT_OF_RANGE')
  })

  const free = hugePagesFree()
  test.skipIf(free < 2)(`are RAM (needs 2 free, there are ${free})`, () => {
    const memory = create(2 * MIB_2, { backing: { hugePages: '2MiB' } })
    runIn(memory)
    expect(memory.usage().hugetlb).toBeGreaterThan(0)
  })
})

test('regions of several kinds in one memory', () => {
  const memory = create(
    [
      { gpa: 0, size: MIB_2 },
      { gpa: MIB_2, size: MIB_2, backing: 'memfd' },
      { gpa: 2 * MIB_2, size: MIB_2, backing: { file: file(MIB_2, 7), mode: 'private' } },
    ],
    { backing: 'anonymous' },
  )
  expect(memory.pageState(0).file).toBe(false)
  memory.writeU32(2 * MIB_2 - 2, 0x0102_0304)
  expect(memory.readU32(2 * MIB_2 - 2)).toBe(0x0102_0304)
  expect(memory.readU8(3 * MIB_2 - 1)).toBe(7)
  memory.discard(MIB_2 - PAGE, 2 * PAGE)
})

test('terabytes cost nothing until they are touched', () => {
  const memory = create(4 * 2 ** 40, { backing: 'anonymous' })
  memory.writeU8(3 * 2 ** 40, 1)
  expect(memory.usage().rss).toBeLessThanOrEqual(2 * MIB_2)
})

const thp = thpStatistics().size > 0
describe.skipIf(!thp)('transparent huge pages', () => {
  test.each([0, 0x1000, 0x1f_f000])('can be made of a region at 0x%x', (gpa) => {
    const size = 2 * MIB_2
    const memory = create([{ gpa, size }], { backing: 'anonymous', thp: 'never', prefault: true })
    expect(memory.usage().hugePages).toBe(0)
    const huge = create([{ gpa, size }], { backing: 'anonymous', thp: 'collapse', prefault: true })
    // What is aligned in guest-physical addresses must be so on the host.
    const pages = gpa === 0 ? 2 : 1
    expect(huge.usage().hugePages).toBe(pages * MIB_2)
  })
})

test.each([
  [{ backing: 'paper' }, 'ERR_INVALID_ARG_TYPE'],
  [{ backing: { hugePages: '4MiB' } }, 'ERR_INVALID_ARG_TYPE'],
  [{ backing: { file: '', mode: 'shared' } }, 'ERR_OUT_OF_RANGE'],
  [{ backing: { file: 'a\0b', mode: 'shared' } }, 'ERR_INVALID_ARG_VALUE'],
  [{ prefault: 1 }, 'ERR_INVALID_ARG_TYPE'],
  [{ thp: 'always' }, 'ERR_INVALID_ARG_TYPE'],
  [{ numa: { mode: 'bind', nodes: [] } }, 'ERR_OUT_OF_RANGE'],
  [{ numa: { mode: 'bind', nodes: [52] } }, 'EINVAL'],
  [{ mergeable: true }, undefined],
])('options %o: %s', (options, code) => {
  const act = () => create(PAGE, { backing: 'anonymous', ...options } as MemoryOptions)
  if (code === undefined) expect(act().size).toBe(PAGE)
  else expect(codeOf(act)).toBe(code)
})
