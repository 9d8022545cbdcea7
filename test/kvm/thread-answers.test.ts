// Accesses that native code answers: on threads and in run(), while the table changes.

import { readdirSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import {
  EventFd,
  GuestMemory,
  type IoExit,
  type SunkWrite,
  Vcpu,
  WriteSink,
} from '../../src/index.js'
import { collectUntil } from '../helpers/gc.js'
import { createGuest, HALT, OUT_LOOP, SPIN } from '../helpers/guest.js'
import { codeOf, rejectionCodeOf } from '../helpers/thrown.js'
import { waitUntil } from '../helpers/wait-until.js'

/** Reads of port 0x10 as byte, word and doubleword, each stored at 0x100 and on; then hlt. */
const READ_PORT = [
  ...[0xe4, 0x10, 0xa2, 0x00, 0x01], // in al, 0x10; mov [0x100], al
  ...[0xe5, 0x10, 0xa3, 0x02, 0x01], // in ax, 0x10; mov [0x102], ax
  ...[0x66, 0xe5, 0x10, 0x66, 0xa3, 0x04, 0x01], // in eax, 0x10; mov [0x104], eax
  ...HALT,
]
/** `mov cx, n; out 0x10, al; inc al; loop`; then hlt. */
const write = (times: number) => [
  ...[0xb0, 0x00, 0xb9, times & 0xff, times >> 8],
  ...[0xe6, 0x10, 0xfe, 0xc0, 0xe2, 0xfa],
  ...HALT,
]

/** Whether the access under way waits for room in a sink. */
function isPending(vcpu: Vcpu): boolean {
  try {
    vcpu.completeIo()
    return false
  } catch (error) {
    expect(error).toMatchObject({ code: 'ERR_KVM_IO_PENDING' })
    return true
  }
}

describe('reads', () => {
  test('of a constant give its low bytes', () => {
    using guest = createGuest(READ_PORT)
    guest.vm.answerPio(0x10, 4, { read: 0x1234_5678 })
    expect(guest.vcpu.run().type).toBe('hlt')
    expect(guest.memory.readU8(0x100)).toBe(0x78)
    expect(guest.memory.readU16(0x102)).toBe(0x5678)
    expect(guest.memory.readU32(0x104)).toBe(0x1234_5678)
  })

  test('of registers in memory give what is there now', () => {
    using guest = createGuest([0xe4, 0x12, 0xe6, 0x20, 0xeb, 0xfa]) // in al, 0x12; out 0x20; jmp
    using registers = GuestMemory.create([{ gpa: 0x5000, size: 0x1000 }])
    guest.vm.answerPio(0x10, 4, { read: { memory: registers, address: 0x5100 } })
    for (const value of [1, 2, 0xff]) {
      registers.writeU8(0x5102, value)
      expect(guest.vcpu.run()).toMatchObject({ type: 'io', port: 0x20, value })
    }
  })

  test('of memory that was closed meanwhile go on', () => {
    using guest = createGuest([0xe4, 0x10, 0xe6, 0x20, 0xeb, 0xfa])
    const registers = GuestMemory.create(0x1000)
    registers.writeU8(0, 0x42)
    guest.vm.answerPio(0x10, 1, { read: { memory: registers } })
    registers.close()
    expect(guest.vcpu.run()).toMatchObject({ port: 0x20, value: 0x42 })
  })

  test('of 8 bytes at guest-physical addresses', () => {
    // mov rax, [rdi]; mov [0x6000], rax; hlt
    const code = [0x48, 0x8b, 0x07, 0x48, 0x89, 0x04, 0x25, 0x00, 0x60, 0x00, 0x00, ...HALT]
    using guest = createGuest(code, { mode: 'ring0' })
    guest.vcpu.setRegs({ ...guest.vcpu.getRegs(), rdi: 0x2000_0008n })
    guest.vm.answerMmio(0x2000_0000, 0x1000, { read: 0x0123_4567_89ab_cdefn })
    expect(guest.vcpu.run().type).toBe('hlt')
    expect(guest.memory.readU64(0x6000)).toBe(0x0123_4567_89ab_cdefn)
  })

  test('that the answer leaves out exit', () => {
    using guest = createGuest(READ_PORT)
    guest.vm.answerPio(0x10, 2, { write: 'ignore' })
    expect(guest.vcpu.run()).toMatchObject({ type: 'io', direction: 'in' })
  })

  test('that are only partly in the range exit', () => {
    using guest = createGuest(READ_PORT)
    guest.vm.answerPio(0x10, 2, { read: 0 })
    guest.vm.answerPio(0x12, 2, { read: 0 })
    expect(guest.vcpu.run()).toMatchObject({ type: 'io', direction: 'in', size: 4 })
  })
})

describe('writes', () => {
  test('are ignored', () => {
    using guest = createGuest(write(1000))
    guest.vm.answerPio(0x10, 1, { write: 'ignore' })
    expect(guest.vcpu.run().type).toBe('hlt')
  })

  test('are counted by an eventfd', () => {
    using guest = createGuest(write(100))
    using event = EventFd.create()
    guest.vm.answerPio(0x10, 1, { write: event })
    expect(guest.vcpu.run().type).toBe('hlt')
    expect(event.consume()).toBe(100)
  })

  test('are kept in order, and seen before the exit that follows', async () => {
    using guest = createGuest(write(300))
    const writes: SunkWrite[] = []
    guest.vm.answerPio(0x10, 1, { write: new WriteSink((one) => writes.push(one)) })
    const seen = await new Promise<number>((resolve) => {
      guest.vcpu.start((exit) => resolve(exit.type === 'hlt' ? writes.length : -1))
    })
    await guest.vcpu.stop()
    expect(seen).toBe(300)
    expect(writes.map(({ value }) => value)).toEqual(Array.from({ length: 300 }, (_, i) => i & 255))
    expect(writes[0]).toEqual({
      ...{ address: 0x10, isPort: true, size: 1, value: 0, data: 0n, vcpuId: 0 },
    })
  })

  test.each([2, 4, 64])('are never lost, though only %i fit: run()', (capacity) => {
    using guest = createGuest(write(1000))
    const values: number[] = []
    const sink = new WriteSink(({ value }) => values.push(value), { capacity })
    guest.vm.answerPio(0x10, 1, { write: sink })
    expect(guest.vcpu.run().type).toBe('hlt')
    sink.drain()
    expect(values).toEqual(Array.from({ length: 1000 }, (_, i) => i & 255))
  })

  test('are never lost, though only 4 fit: two vCPUs on threads', async () => {
    using guest = createGuest(write(1000))
    const other = guest.vm.createVcpu(1)
    other.setSregs(guest.vcpu.getSregs())
    other.setRegs(guest.vcpu.getRegs())
    const values: number[][] = [[], []]
    const sink = new WriteSink(({ value, vcpuId }) => values[vcpuId]!.push(value), { capacity: 4 })
    guest.vm.answerPio(0x10, 1, { write: sink })
    guest.vm.onExit('hlt', (_, vcpu) => vcpu.requestStop())
    guest.vcpu.start()
    other.start()
    await Promise.all([guest.vcpu.join(), other.join()])
    const expected = Array.from({ length: 1000 }, (_, i) => i & 255)
    expect(values).toEqual([expected, expected])
    other.close()
  })

  test('arrive by themselves while the guest goes on without an exit', async () => {
    using guest = createGuest([...write(3).slice(0, -HALT.length), ...SPIN])
    const values: number[] = []
    guest.vm.answerPio(0x10, 1, { write: new WriteSink(({ value }) => values.push(value)) })
    guest.vcpu.start(() => {})
    await waitUntil(() => values.length === 3)
    await guest.vcpu.stop()
    expect(values).toEqual([0, 1, 2])
  })

  test('arrive by themselves again and again, none left behind', async () => {
    using guest = createGuest(OUT_LOOP)
    let count = 0
    guest.vm.answerPio(0x10, 1, { write: new WriteSink(() => count++, { capacity: 65_536 }) })
    guest.vcpu.start(() => {})
    for (let round = 1; round <= 20; round++) {
      const before = count
      await waitUntil(() => count > before)
      await guest.vcpu.pause()
      // What waits in the ring comes without another write.
      await waitUntil(() => count === guest.vcpu.statistics.types[0]?.answered)
      guest.vcpu.resume()
    }
    await guest.vcpu.stop()
  })

  test('do not keep a sink that nobody holds', async () => {
    const fds = () => readdirSync('/proc/self/fd').length
    const before = fds()
    for (let i = 0; i < 20; i++) new WriteSink(() => {})
    expect(fds()).toBeGreaterThan(before)
    await collectUntil(() => fds() <= before)
  })

  test('into a ring that nobody empties leave deadlines and kicks in force', () => {
    using guest = createGuest(write(10))
    const values: number[] = []
    const sink = new WriteSink(({ value }) => values.push(value), { capacity: 2 })
    guest.vm.answerPio(0x10, 1, { write: sink })
    // As a Worker has it: its VM knows nothing of sinks made elsewhere.
    const elsewhere = Vcpu.open(guest.vcpu.share())
    expect(elsewhere.run({ timeoutMs: 2 }).type).toBe('intr')
    expect(elsewhere.run({ timeoutMs: 2 }).type).toBe('intr')
    elsewhere.kick()
    expect(elsewhere.run().type).toBe('intr')
    expect(codeOf(() => elsewhere.completeIo())).toBe('ERR_KVM_IO_PENDING')
    expect(codeOf(() => elsewhere.saveState())).toBe('ERR_KVM_IO_PENDING')
    expect(values).toEqual([])
    expect(guest.vcpu.completeIo()).toBeUndefined()
    expect(guest.vcpu.run().type).toBe('hlt')
    sink.drain()
    expect(values).toEqual(Array.from({ length: 10 }, (_, i) => i))
  })

  test('into a full ring can be finished while their vCPU is paused', async () => {
    using guest = createGuest(write(1000))
    const values: number[] = []
    const sink = new WriteSink(({ value }) => values.push(value), { capacity: 2 })
    guest.vm.answerPio(0x10, 1, { write: sink })
    const elsewhere = Vcpu.open(guest.vcpu.share())
    elsewhere.start(() => elsewhere.requestStop())
    for (let i = 0; i < 50; i++) {
      await elsewhere.pause()
      while (isPending(elsewhere)) sink.drain()
      elsewhere.resume()
      await new Promise((resolve) => setImmediate(resolve))
    }
    const drained = setInterval(() => sink.drain(), 1)
    await elsewhere.join()
    clearInterval(drained)
    sink.drain()
    expect(values).toEqual(Array.from({ length: 1000 }, (_, i) => i & 255))
  })

  test('that met a full ring and lost their range begin anew', () => {
    using guest = createGuest(write(10))
    const values: number[] = []
    const sink = new WriteSink(({ value }) => values.push(value), { capacity: 2 })
    const range = guest.vm.answerPio(0x10, 1, { write: sink })
    const elsewhere = Vcpu.open(guest.vcpu.share())
    do elsewhere.run({ timeoutMs: 2 })
    while (!isPending(elsewhere))
    range.remove()
    const exit = elsewhere.run()
    expect(exit).toMatchObject({ type: 'io', port: 0x10 })
    expect((exit as IoExit).value).toBe(2)
    guest.vm.answerPio(0x10, 1, { write: sink })
    expect(guest.vcpu.run().type).toBe('hlt')
    sink.drain()
    expect(values).toEqual([0, 1, ...[3, 4, 5, 6, 7, 8, 9]])
  })

  test('whose handler throws end the thread', async () => {
    using guest = createGuest(write(10))
    const sink = new WriteSink(
      () => {
        throw Object.assign(new Error('no'), { code: 'ERR_TEST' })
      },
      { capacity: 2 },
    )
    guest.vm.answerPio(0x10, 1, { write: sink })
    guest.vcpu.start(() => {})
    // Full, before the event loop turns: else it may be the first to drain it.
    while (guest.vcpu.statistics.total < 3);
    expect(await rejectionCodeOf(guest.vcpu.join())).toBe('ERR_TEST')
  })
})

describe('a gate', () => {
  test('lets reads and writes through as JavaScript says at the moment', () => {
    // out 0x10, al; in al, 0x10; jmp
    using guest = createGuest([0xe6, 0x10, 0xe4, 0x10, 0xeb, 0xfa])
    using memory = GuestMemory.create(0x1000)
    const gate = { memory, address: 0x10 }
    guest.vm.answerPio(0x10, 1, { read: 0x55, write: 'ignore', gate })
    const next = () => {
      const exit = guest.vcpu.run({ timeoutMs: 20 })
      return exit.type === 'io' ? exit.direction : exit.type
    }
    expect([next(), next()]).toEqual(['out', 'in'])
    memory.writeU8(0x10, 1)
    expect([next(), next()]).toEqual(['out', 'out'])
    memory.writeU8(0x10, 2)
    expect([next(), next()]).toEqual(['in', 'in'])
    memory.writeU8(0x10, 3)
    expect(next()).toBe('intr')
  })

  test('lets an access through when it does so for all its bytes', () => {
    using guest = createGuest([0xe5, 0x10, 0xe6, 0x20, 0xeb, 0xfa]) // in ax, 0x10; out 0x20, al; jmp
    using memory = GuestMemory.create(0x1000)
    guest.vm.answerPio(0x10, 2, { read: 0x1234, gate: { memory } })
    memory.writeU8(1, 1)
    expect(guest.vcpu.run()).toMatchObject({ direction: 'in', size: 2 })
    memory.writeU8(0, 1)
    expect(guest.vcpu.run()).toMatchObject({ port: 0x20 })
    expect(guest.vcpu.run()).toMatchObject({ port: 0x20, value: 0x34 })
  })
})

describe('urgent writes', () => {
  const URGENT = 7

  test('arrive at once, again and again, though the event loop has nothing else to do', async () => {
    // out 0x10, al; then as long as al is not what it wrote: in al, 0x11
    using guest = createGuest([
      ...[0x30, 0xdb, 0xfe, 0xc3, 0x88, 0xd8, 0xe6, 0x10], // xor bl, bl; next: inc bl; mov al, bl; out 0x10, al
      ...[0xe4, 0x12, 0x38, 0xd8, 0x75, 0xfa, 0xeb, 0xf2], // wait: in al, 0x12; cmp al, bl; jne wait; jmp next
    ])
    using memory = GuestMemory.create(0x1000)
    memory.writeU8(0x10, URGENT)
    let count = 0
    const enough = new Promise<void>((resolve) => {
      const sink = new WriteSink(({ value }) => {
        // The guest goes on when it sees what it wrote.
        memory.writeU8(0x20, value)
        if (++count === 200) resolve()
      })
      guest.vm.answerPio(0x10, 1, { write: sink, gate: { memory, address: 0x10 } })
      guest.vm.answerPio(0x12, 1, { read: { memory, address: 0x20 } })
    })
    guest.vcpu.start(() => {})
    await enough
    await guest.vcpu.stop()
    const { count: accesses, answered } = guest.vcpu.statistics.types[0]!
    expect(answered).toBe(accesses)
  })

  test('are seen by every read that follows, and by no other', async () => {
    // again: out 0x10, al; in al, 0x11; cmp al, bl; jne bad; inc bl; jmp again, with al = bl
    using guest = createGuest([
      ...[0x30, 0xdb, 0x88, 0xd8, 0xe6, 0x10, 0xe4, 0x11], // xor bl, bl; next: mov al, bl; out; in
      ...[0x38, 0xd8, 0x75, 0x04, 0xfe, 0xc3, 0xeb, 0xf2], // cmp al, bl; jne bad; inc bl; jmp next
      ...[0xe6, 0x20], // bad: out 0x20, al
    ])
    using memory = GuestMemory.create(0x1000)
    memory.writeU8(0x10, URGENT)
    memory.writeU8(0x11, URGENT)
    const sink = new WriteSink(({ value }) => memory.writeU8(0x21, value))
    guest.vm.answerPio(0x10, 2, {
      read: { memory, address: 0x20 },
      write: sink,
      gate: { memory, address: 0x10 },
    })
    let reads = 0
    const failures: unknown[] = []
    guest.vcpu.start((exit) => {
      if (exit.type === 'io' && exit.port === 0x11) {
        exit.data[0] = memory.readU8(0x21)
        if (++reads >= 500) guest.vcpu.requestStop()
      } else {
        failures.push(exit)
        guest.vcpu.requestStop()
      }
    })
    await guest.vcpu.join()
    expect(failures).toEqual([])
    expect(reads).toBeGreaterThanOrEqual(500)
  })

  test('that are not handed over hold up reads, in run() as well', () => {
    using guest = createGuest([0xe6, 0x10, 0xe4, 0x11, 0xeb, 0xfa]) // out 0x10, al; in al, 0x11; jmp
    using memory = GuestMemory.create(0x1000)
    const gate = { memory, address: 0x10 }
    let count = 0
    const sink = new WriteSink(() => count++)
    guest.vm.answerPio(0x10, 2, { read: 0, write: sink, gate })
    memory.writeU8(0x10, URGENT)
    memory.writeU8(0x11, URGENT)
    expect(guest.vcpu.run()).toMatchObject({ type: 'io', port: 0x11, direction: 'in' })
    sink.drain()
    expect(count).toBe(1)
    memory.writeU8(0x10, URGENT & ~4)
    expect(guest.vcpu.run({ timeoutMs: 20 }).type).toBe('intr')
  })
})

test('onDrained is called once for what was there', () => {
  using guest = createGuest(write(10))
  const calls: (number | 'end')[] = []
  const sink = new WriteSink(({ value }) => calls.push(value), {
    onDrained: () => calls.push('end'),
  })
  guest.vm.answerPio(0x10, 1, { write: sink })
  expect(guest.vcpu.run().type).toBe('hlt')
  expect(sink.drain()).toBe(10)
  expect(sink.drain()).toBe(0)
  expect(calls).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 'end'])
})

test('a drain in the handler leaves the order as it is', () => {
  using guest = createGuest(write(5))
  const calls: string[] = []
  const sink: WriteSink = new WriteSink(({ value }) => {
    calls.push(`begin ${value}`)
    expect(sink.drain()).toBe(0)
    calls.push(`end ${value}`)
  })
  guest.vm.answerPio(0x10, 1, { write: sink })
  expect(guest.vcpu.run().type).toBe('hlt')
  expect(sink.drain()).toBe(5)
  expect(calls).toEqual([0, 1, 2, 3, 4].flatMap((value) => [`begin ${value}`, `end ${value}`]))
})

test('reads are answered until the time that memory names', () => {
  using guest = createGuest([0xe4, 0x10, 0xeb, 0xfc]) // in al, 0x10; jmp
  using memory = GuestMemory.create(0x1000)
  guest.vm.answerPio(0x10, 1, { read: 0x42, until: { memory, address: 8 } })
  expect(guest.vcpu.run()).toMatchObject({ type: 'io', direction: 'in' })
  const until = process.hrtime.bigint() + 30_000_000n
  memory.writeU64(8, until)
  expect(guest.vcpu.run({ timeoutMs: 5000 })).toMatchObject({ type: 'io', direction: 'in' })
  expect(process.hrtime.bigint()).toBeGreaterThanOrEqual(until)
  memory.writeU64(8, 2n ** 64n - 1n)
  expect(guest.vcpu.run({ timeoutMs: 20 }).type).toBe('intr')
})

describe('registers behind an index', () => {
  const SELECT = 0xff00

  /** `mov eax, index; out 0x10, eax; in eax, 0x14; mov [0x100], eax; hlt`, with the read answered. */
  function read(index: number, gated = true): number | string {
    const word = [0, 8, 16, 24].map((shift) => (index >>> shift) & 0xff)
    using guest = createGuest([
      ...[0x66, 0xb8, ...word, 0x66, 0xe7, 0x10],
      ...[0x66, 0xe5, 0x14, 0x66, 0xa3, 0x00, 0x01, ...HALT],
    ])
    using memory = GuestMemory.create(0x2_1000)
    memory.writeU32(0x1200, 0x1234_5678)
    for (let at = 0; at < 4; at++) memory.writeU8(0x1_0200 + at, gated ? 1 : 0)
    const place = { memory, address: 0x2_0000 }
    guest.vm.answerPio(0x10, 4, { size: 4, read: place, write: place })
    guest.vm.answerPio(0x14, 4, {
      read: {
        memory,
        address: 0x1000,
        index: 0x2_0000,
        select: SELECT,
        mask: 0xf00f_0000,
        match: 2 ** 31,
      },
      gate: { memory, address: 0x1_0000 },
    })
    const { type } = guest.vcpu.run()
    return type === 'hlt' ? guest.memory.readU32(0x100) : type
  }

  test('are those that the guest has chosen', () => {
    expect(read(0x8000_0200)).toBe(0x1234_5678)
    expect(read(0x8120_02ff)).toBe(0x1234_5678)
  })

  test('are all ones when the index is not valid', () => {
    expect(read(0x0000_0200)).toBe(0xffff_ffff)
    expect(read(0x8001_0200, false)).toBe(0xffff_ffff)
  })

  test('exit behind a gate of their own', () => {
    expect(read(0x8000_0200, false)).toBe('io')
    expect(read(0x8000_0000)).toBe('io')
  })
})

describe('a counter', () => {
  test('runs with the clock of process.hrtime', () => {
    using guest = createGuest(READ_PORT)
    guest.vm.answerPio(0x10, 4, { read: { hz: 1000 } })
    const before = process.hrtime.bigint()
    expect(guest.vcpu.run().type).toBe('hlt')
    const after = process.hrtime.bigint()
    const count = BigInt(guest.memory.readU32(0x104))
    expect(count).toBeGreaterThanOrEqual(BigInt.asUintN(32, before / 1_000_000n))
    expect(count).toBeLessThanOrEqual(BigInt.asUintN(32, after / 1_000_000n))
  })
})

describe('the table', () => {
  test('can be changed while vCPUs run', async () => {
    using guest = createGuest(OUT_LOOP)
    const { vm, vcpu } = guest
    let exits = 0
    vcpu.start((exit) => {
      if (exit.type === 'io') exits++
    })
    for (let round = 0; round < 100; round++) {
      const before = exits
      await waitUntil(() => exits > before)
      const range = vm.answerPio(0x10, 1, { write: 'ignore' })
      const others = [1, 2, 3].map((i) => vm.answerPio(0x10 + i, 1, { read: i }))
      for (const other of others) other.remove()
      range.remove()
      range.remove()
    }
    vm.answerPio(0x10, 1, { write: 'ignore' })
    await vcpu.pause() // it can be stopped where no exit ever reaches JavaScript
    const before = exits
    vcpu.resume()
    await new Promise((resolve) => setTimeout(resolve, 5))
    expect(exits).toBe(before)
    await vcpu.stop()
  })

  test('leaves deadlines of run() in force', () => {
    using guest = createGuest(OUT_LOOP)
    guest.vm.answerPio(0x10, 1, { write: 'ignore' })
    expect(guest.vcpu.run({ timeoutMs: 20 }).type).toBe('intr')
  })

  test('finds each of many ranges', () => {
    // in al, dx; out 0xff, al; inc dx; jmp
    using guest = createGuest([0xec, 0xe6, 0x80, 0x42, 0xeb, 0xfa])
    guest.vcpu.setRegs({ ...guest.vcpu.getRegs(), rdx: 0x1000n })
    const order = Array.from({ length: 64 }, (_, i) => (i * 37) % 64)
    for (const i of order) guest.vm.answerPio(0x1000 + i, 1, { read: i ^ 0x55 })
    for (let i = 0; i < 64; i++) {
      expect(guest.vcpu.run()).toMatchObject({ port: 0x80, value: i ^ 0x55 })
    }
    expect(guest.vcpu.run()).toMatchObject({ port: 0x1040, direction: 'in' })
  })

  test('refuses what it cannot do', () => {
    using guest = createGuest(SPIN)
    const { vm } = guest
    const ignore = { write: 'ignore' } as const
    using memory = GuestMemory.create(0x1000)
    vm.answerPio(0x10, 8, ignore)
    vm.answerMmio(0x10, 8, ignore)
    expect(codeOf(() => vm.answerPio(0x17, 1, ignore))).toBe('ERR_KVM_RANGE_TAKEN')
    expect(codeOf(() => vm.answerPio(0xffff, 2, ignore))).toBe('ERR_OUT_OF_RANGE')
    expect(codeOf(() => vm.answerPio(1, 1, { read: -1 }))).toBe('ERR_OUT_OF_RANGE')
    expect(codeOf(() => vm.answerPio(1, 1, { read: 1n << 64n }))).toBe('ERR_OUT_OF_RANGE')
    expect(codeOf(() => vm.answerPio(1, 1, { read: {} as never }))).toBe('ERR_INVALID_ARG_TYPE')
    expect(codeOf(() => vm.answerPio(1, 1, { write: {} as never }))).toBe('ERR_INVALID_ARG_TYPE')
    const near = { memory, address: 0xffc }
    const refused: [object, string][] = [
      [{ read: { hz: 0 } }, 'ERR_OUT_OF_RANGE'],
      [{ read: 0, until: { memory, address: 4 } }, 'ERR_OUT_OF_RANGE'],
      [{ read: 0, until: { memory, address: 0xffff_fff8 } }, 'ERR_KVM_GUEST_FAULT'],
      [{ read: 0, until: {} }, 'ERR_INVALID_ARG_TYPE'],
      [{ read: null }, 'ERR_INVALID_ARG_TYPE'],
      [{ read: 1, size: 3 }, 'ERR_OUT_OF_RANGE'],
      [{ read: 1, gate: near }, 'ERR_KVM_GUEST_FAULT'],
      [{ write: near }, 'ERR_KVM_GUEST_FAULT'],
      [{ read: { memory, index: 0xffd, select: 0 } }, 'ERR_KVM_GUEST_FAULT'],
      [{ read: { memory, index: 1, select: 0 } }, 'ERR_OUT_OF_RANGE'],
      [{ read: { memory, index: 0, select: 0xff9 } }, 'ERR_KVM_GUEST_FAULT'],
      [{ read: { memory, index: 0, select: 2 ** 32 } }, 'ERR_OUT_OF_RANGE'],
      [
        { read: { memory, index: 0, select: 0x10 }, gate: { memory, address: 0xff0 } },
        'ERR_KVM_GUEST_FAULT',
      ],
    ]
    for (const [answer, code] of refused)
      expect(codeOf(() => vm.answerPio(0x20, 8, answer))).toBe(code)
    const behind = { read: near }
    expect(codeOf(() => vm.answerPio(0x20, 8, behind))).toBe('ERR_KVM_GUEST_FAULT')
    expect(codeOf(() => new WriteSink(() => {}, { capacity: 3 }))).toBe('ERR_OUT_OF_RANGE')
    vm.close()
    expect(codeOf(() => vm.answerPio(0x30, 1, ignore))).toBe('ERR_KVM_CLOSED')
  })
})
