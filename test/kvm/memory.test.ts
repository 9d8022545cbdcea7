// GuestMemory: accessors at every kind of boundary, and views that outlive everything.

import * as v8 from 'node:v8'
import { runInThisContext } from 'node:vm'
import { afterEach, describe, expect, test } from 'vitest'
import { GuestMemory } from '../../src/index.js'
import { createGuest, ENTRY, HALT } from '../helpers/guest.js'
import { codeOf } from '../helpers/thrown.js'

const PAGE = 0x1000
const GIB = 0x4000_0000
const FAULT = 'ERR_KVM_GUEST_FAULT'

const made: GuestMemory[] = []
function create(layout: Parameters<typeof GuestMemory.create>[0]): GuestMemory {
  const memory = GuestMemory.create(layout)
  made.push(memory)
  return memory
}
afterEach(() => {
  for (const memory of made.splice(0)) memory.close()
})

// Detaching by structuredClone() is refused for such buffers; other ways come with later versions
// of Node. This is what all of them do in the end.
v8.setFlagsFromString('--allow-natives-syntax')
const detach = runInThisContext('(buffer) => %ArrayBufferDetach(buffer)') as (
  b: ArrayBufferLike,
) => void

const widths = [
  [
    1,
    (m: GuestMemory, at: number) => m.readU8(at),
    (m: GuestMemory, at: number) => m.writeU8(at, 0x81),
  ],
  [
    2,
    (m: GuestMemory, at: number) => m.readU16(at),
    (m: GuestMemory, at: number) => m.writeU16(at, 0x8182),
  ],
  [
    4,
    (m: GuestMemory, at: number) => m.readU32(at),
    (m: GuestMemory, at: number) => m.writeU32(at, 0x8182_8384),
  ],
  [
    8,
    (m: GuestMemory, at: number) => m.readU64(at),
    (m: GuestMemory, at: number) => m.writeU64(at, 0x8182_8384_8586_8788n),
  ],
] as const
const values = new Map<number, number | bigint>([
  [1, 0x81],
  [2, 0x8182],
  [4, 0x8182_8384],
  [8, 0x8182_8384_8586_8788n],
])

describe.each(widths)('accesses of %i bytes', (size, read, write) => {
  const little = (memory: GuestMemory, at: number) =>
    [...memory.read(at, size)].reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n)

  test('work at every offset, little endian, and touch nothing else', () => {
    const memory = create(2 * PAGE)
    for (let at = PAGE - 16; at < PAGE + 16; at++) {
      memory.fill(PAGE - 32, 64, 0xee)
      write(memory, at)
      expect(read(memory, at)).toBe(values.get(size))
      expect(BigInt(read(memory, at))).toBe(little(memory, at))
      expect(memory.read(PAGE - 32, 64).filter((byte) => byte === 0xee)).toHaveLength(64 - size)
    }
  })

  test('refuse what is not RAM, before they change anything', () => {
    const memory = create([{ gpa: 4 * PAGE, size: PAGE }])
    for (const at of [0, 4 * PAGE - 1, 4 * PAGE - size, 5 * PAGE, 5 * PAGE + 7, 2 ** 40, 2 ** 52]) {
      expect(codeOf(() => read(memory, at))).toBe(FAULT)
      expect(codeOf(() => write(memory, at))).toBe(FAULT)
    }
    for (let at = 5 * PAGE - size + 1; at < 5 * PAGE; at++) {
      expect(codeOf(() => read(memory, at))).toBe(FAULT)
      expect(codeOf(() => write(memory, at))).toBe(FAULT)
    }
    expect(memory.read(4 * PAGE, PAGE).every((byte) => byte === 0)).toBe(true)
    write(memory, 5 * PAGE - size)
    expect(read(memory, 5 * PAGE - size)).toBe(values.get(size))
  })

  test('cross from a region into the one that adjoins it', () => {
    const memory = create([
      { gpa: PAGE, size: PAGE },
      { gpa: 2 * PAGE, size: PAGE },
    ])
    for (let at = 2 * PAGE - size; at <= 2 * PAGE; at++) {
      write(memory, at)
      expect(read(memory, at)).toBe(values.get(size))
    }
  })
})

describe('64 GiB in one region', () => {
  const size = 64 * GIB
  const edges = [GIB, 2 * GIB, 4 * GIB, 33 * GIB, 63 * GIB]

  test('is RAM from the first to the last byte, across every seam', () => {
    const memory = create(size)
    expect(memory.size).toBe(size)
    for (const edge of edges) {
      for (const [width, read, write] of widths) {
        for (let at = edge - width; at <= edge; at++) {
          write(memory, at)
          expect(read(memory, at)).toBe(values.get(width))
        }
      }
      const bytes = Uint8Array.from({ length: 64 }, (_, i) => i + 1)
      memory.write(edge - 32, bytes)
      expect(memory.read(edge - 32, 64)).toEqual(bytes)
      memory.fill(edge - 16, 32, 0xcc)
      expect(memory.readU8(edge - 17)).toBe(16)
      expect(memory.readU64(edge - 4)).toBe(0xcccc_cccc_cccc_ccccn)
      const view = memory.view(edge - 32, 64)
      expect(view[0]).toBe(1)
      view[32] = 0x99
      expect(memory.readU8(edge)).toBe(0x99)
    }
    memory.writeU8(size - 1, 7)
    expect(memory.readU8(size - 1)).toBe(7)
    expect(codeOf(() => memory.readU8(size))).toBe(FAULT)
    expect(codeOf(() => memory.readU16(size - 1))).toBe(FAULT)
    expect(codeOf(() => memory.view(size - 1, 2))).toBe(FAULT)
    expect(codeOf(() => memory.write(size - 1, Uint8Array.of(1, 2)))).toBe(FAULT)
  })

  test('can be a slot, and be closed before the VM', () => {
    using guest = createGuest(HALT)
    const memory = create([{ gpa: 4 * GIB, size }])
    guest.vm.mapMemory(memory, { firstSlot: 1 })
    memory.close()
    expect(guest.vcpu.run().type).toBe('hlt')
  })

  // Node's limit for one ArrayBuffer is 4 GiB up to version 20 and more than this later.
  test('gives views that are too long for this Node.js only as an error', () => {
    const memory = create(size)
    for (const length of [4 * GIB, 4 * GIB + PAGE, 8 * GIB, size]) {
      let view: Uint8Array
      try {
        view = memory.view(0, length)
      } catch (error) {
        expect(error).toMatchObject({ code: 'ERR_OUT_OF_RANGE' })
        continue
      }
      expect(view).toHaveLength(length)
    }
    expect(memory.view(GIB - 1, 2)).toHaveLength(2)
  })
  test('cannot be copied at once where Node.js has no buffer that long', () => {
    const memory = create(2 ** 40)
    expect(codeOf(() => memory.read(0, 2 ** 40))).toBe('ERR_OUT_OF_RANGE')
  })
})

test('more than the address space has', () => {
  expect(codeOf(() => GuestMemory.create(2 ** 51))).toMatch(/^(ENOMEM|EFBIG|EINVAL|EOVERFLOW)$/)
})

test('empty accesses are allowed wherever RAM is or ends, and nowhere else', () => {
  const memory = create([{ gpa: PAGE, size: PAGE }])
  for (const at of [PAGE, PAGE + 5, 2 * PAGE]) {
    expect(memory.read(at, 0)).toHaveLength(0)
    expect(memory.view(at, 0)).toHaveLength(0)
    memory.write(at, new Uint8Array(0))
    memory.fill(at, 0)
  }
  expect(codeOf(() => memory.read(0, 0))).toBe(FAULT)
  expect(codeOf(() => memory.view(3 * PAGE, 0))).toBe(FAULT)
})

test('a copy or a view cannot reach over a hole', () => {
  const memory = create([
    { gpa: 0, size: PAGE },
    { gpa: 2 * PAGE, size: PAGE },
  ])
  expect(codeOf(() => memory.read(PAGE - 1, PAGE + 2))).toBe(FAULT)
  expect(codeOf(() => memory.write(0, new Uint8Array(3 * PAGE).fill(1)))).toBe(FAULT)
  expect(codeOf(() => memory.fill(PAGE - 1, 2, 1))).toBe(FAULT)
  expect(memory.readU8(0)).toBe(0)
  expect(memory.readU8(PAGE - 1)).toBe(0)
})

test('a view cannot span regions, a copy can', () => {
  const memory = create([
    { gpa: 0, size: PAGE },
    { gpa: PAGE, size: PAGE },
  ])
  memory.write(PAGE - 2, Uint8Array.of(1, 2, 3, 4))
  expect([...memory.read(PAGE - 2, 4)]).toEqual([1, 2, 3, 4])
  expect(codeOf(() => memory.view(PAGE - 2, 4))).toBe(FAULT)
})

describe('views', () => {
  test('are the memory and not a copy, whoever writes', () => {
    using guest = createGuest([0xa2, 0x00, 0x01, 0xf4]) // mov [0x100], al; hlt
    const view = guest.memory.view(0x100, 1)
    guest.vcpu.setRegs({ ...guest.vcpu.getRegs(), rax: 0x42n })
    guest.vcpu.run()
    expect(view[0]).toBe(0x42)
    view[0] = 3
    expect(guest.memory.readU8(0x100)).toBe(3)
  })

  test('stay readable, writable and coherent after everything is closed', () => {
    const guest = createGuest(HALT)
    const one = guest.memory.view(0, PAGE)
    const two = guest.memory.view(0, 2 * PAGE)
    guest.memory.writeU32(8, 0xdead_beef)
    guest.close()
    expect([...one.subarray(8, 12)]).toEqual([0xef, 0xbe, 0xad, 0xde])
    one[100] = 5
    expect(two[100]).toBe(5)
  })

  test('cannot be transferred away, and are copied when cloned', () => {
    const memory = create(PAGE)
    const view = memory.view(0, 16)
    const transfer = [view.buffer as ArrayBuffer]
    for (const options of [{}, { transfer }]) {
      let copy: Uint8Array = new Uint8Array(16)
      try {
        copy = structuredClone(view, options)
      } catch (error) {
        // Later versions of Node throw where version 20 copies.
        expect(error).toMatchObject({ name: 'DataCloneError' })
      }
      copy[0] = 1
      expect(memory.readU8(0)).toBe(0)
      view[0] = 2
      expect(memory.readU8(0)).toBe(2)
      view[0] = 0
    }
  })

  test('that are detached blind neither the memory nor later views', () => {
    const memory = create(PAGE)
    const view = memory.view(0, 16)
    memory.writeU8(3, 33)
    detach(view.buffer)
    expect(view).toHaveLength(0)
    expect(memory.readU8(3)).toBe(33)
    expect(memory.view(0, 16)[3]).toBe(33)
    memory.view(0, 16)[4] = 44
    expect(memory.readU8(4)).toBe(44)
  })

  test('that are detached do not shorten the life of the others', () => {
    const memory = create(PAGE)
    const first = memory.view(0, 16)
    detach(first.buffer)
    const second = memory.view(0, 16)
    second[0] = 1
    memory.close()
    expect(second[0]).toBe(1)
  })
})

test('the scratch memory cannot be taken away from under the addon', () => {
  using guest = createGuest(HALT)
  type Internals = { native: { scratch: ArrayBuffer; chosen: Uint32Array } }
  const { native } = guest.vcpu as unknown as Internals
  for (const buffer of [native.scratch, native.chosen.buffer as ArrayBuffer]) {
    const size = buffer.byteLength
    try {
      structuredClone(buffer, { transfer: [buffer] })
    } catch (error) {
      expect(error).toMatchObject({ name: 'DataCloneError' })
    }
    expect(buffer.byteLength).toBe(size)
  }
  expect(guest.vcpu.getRegs().rip).toBe(BigInt(ENTRY))
  expect(guest.vcpu.run().type).toBe('hlt')
})

test('what is written before anything else has looked at RAM makes no array over it', () => {
  using memory = GuestMemory.create([
    { gpa: 0, size: 2 * PAGE },
    { gpa: 2 * PAGE, size: 64 * 2 ** 20 },
  ])
  const { arrayBuffers } = process.memoryUsage()
  memory.fill(PAGE, 2 * PAGE, 0x11)
  memory.write(2 * PAGE - 2, Uint8Array.of(1, 2, 3, 4))
  memory.write(0, new Uint8Array(0))
  memory.write(0, new Uint8Array(new SharedArrayBuffer(4)).fill(5))
  const last = 2 * PAGE + 64 * 2 ** 20 - 1
  expect(codeOf(() => memory.write(last, Uint8Array.of(1, 2)))).toBe(FAULT)
  expect(process.memoryUsage().arrayBuffers - arrayBuffers).toBeLessThan(2 ** 20)
  expect([...memory.read(2 * PAGE - 3, 6)]).toEqual([0x11, 1, 2, 3, 4, 0x11])
  expect([
    memory.readU32(0),
    memory.readU8(PAGE - 1),
    memory.readU8(3 * PAGE - 1),
    memory.readU8(3 * PAGE),
  ]).toEqual([0x05050505, 0, 0x11, 0])
})
