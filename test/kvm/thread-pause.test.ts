// Pausing vCPU threads: where they are then, what may be done meanwhile, and how it ends.

import { describe, expect, test } from 'vitest'
import { createGuest, ENTRY, enterLongMode, HALT, OUT_LOOP, SPIN } from '../helpers/guest.js'
import { waitUntil } from '../helpers/wait-until.js'

const soon = (ms = 10) => new Promise<void>((resolve) => setTimeout(resolve, ms))

/** `inc dword [0x4000]`, again and again, in real mode. */
const COUNT = [0x66, 0xff, 0x06, 0x00, 0x40, 0xeb, 0xf9]
const COUNTER = 0x4000

describe('a paused vCPU', () => {
  test('is outside the guest until it is resumed', async () => {
    using guest = createGuest(COUNT)
    const { vcpu, memory } = guest
    vcpu.start()
    await waitUntil(() => memory.readU32(COUNTER) > 0)
    for (let round = 0; round < 20; round++) {
      await vcpu.pause()
      const count = memory.readU32(COUNTER)
      await soon(2)
      expect(memory.readU32(COUNTER)).toBe(count)
      vcpu.resume()
      await waitUntil(() => memory.readU32(COUNTER) !== count)
    }
    await vcpu.stop()
  })

  test('can be read and changed, and goes on from there', async () => {
    using guest = createGuest([...SPIN, ...OUT_LOOP])
    const { vcpu } = guest
    const exited = new Promise<number>((resolve) => {
      vcpu.start(() => resolve(vcpu.getRegs().rip === BigInt(ENTRY) ? 0 : 1))
    })
    await vcpu.pause()
    const regs = vcpu.getRegs()
    expect(regs.rip).toBe(BigInt(ENTRY))
    vcpu.setRegs({ ...regs, rip: BigInt(ENTRY + SPIN.length) })
    vcpu.resume()
    expect(await exited).toBe(1)
    await vcpu.stop()
  })

  test('may not be run by somebody else', async () => {
    using guest = createGuest(SPIN)
    guest.vcpu.start()
    await guest.vcpu.pause()
    expect(() => guest.vcpu.run()).toThrow(expect.objectContaining({ code: 'ERR_KVM_BUSY' }))
    await guest.vcpu.stop()
  })

  test('can be stopped, and the next run is not disturbed', async () => {
    using guest = createGuest(OUT_LOOP)
    const { vcpu } = guest
    for (let round = 0; round < 10; round++) {
      vcpu.start(() => {})
      await vcpu.pause()
      await vcpu.stop()
      expect(vcpu.run().type).toBe('io')
    }
  })

  test('can be closed', async () => {
    using guest = createGuest(SPIN)
    guest.vcpu.start()
    await guest.vcpu.pause()
    guest.vcpu.close()
    await guest.vcpu.join()
  })

  test('keeps a kick for later', async () => {
    using guest = createGuest(SPIN)
    const { vcpu } = guest
    const types: string[] = []
    vcpu.start((exit) => void types.push(exit.type))
    await vcpu.pause()
    vcpu.kick()
    await soon(5)
    expect(types).toEqual([])
    vcpu.resume()
    await waitUntil(() => types.length > 0)
    await vcpu.stop()
    expect(types).toEqual(['intr'])
  })
})

describe('pause()', () => {
  test('of a vCPU that halts in the kernel', async () => {
    using guest = createGuest(HALT, { irqchip: true })
    guest.vcpu.start()
    const HALTED = 3
    // Not before it has got that far.
    for (let tries = 0; tries < 100; tries++) {
      await soon()
      await guest.vcpu.pause()
      if (guest.vcpu.getMpState() === HALTED) break
      guest.vcpu.resume()
    }
    expect(guest.vcpu.getMpState()).toBe(HALTED)
    await guest.vcpu.stop()
  })

  test('waits for the answer of an exit', async () => {
    using guest = createGuest(OUT_LOOP)
    const { vcpu } = guest
    const events: string[] = []
    let answer = () => {}
    const parked = new Promise<void>((exit) => {
      vcpu.start(() => {
        exit()
        return new Promise((resolve) => {
          answer = resolve
        })
      })
    })
    await parked
    const paused = vcpu.pause().then(() => events.push('paused'))
    await soon(5)
    events.push('answered')
    answer()
    await paused
    expect(events).toEqual(['answered', 'paused'])
    await vcpu.stop()
  })

  test('may be asked for in a handler', async () => {
    using guest = createGuest(OUT_LOOP)
    const { vcpu } = guest
    let exits = 0
    let paused: Promise<void> | undefined
    vcpu.start(() => {
      exits++
      paused = vcpu.pause()
    })
    await waitUntil(() => paused !== undefined)
    await paused
    await soon(5)
    expect(exits).toBe(1)
    await vcpu.stop()
  })

  test('without a thread, or as it ends, resolves', async () => {
    using guest = createGuest(SPIN)
    const { vcpu } = guest
    await vcpu.pause()
    vcpu.start()
    const ended = vcpu.stop()
    await vcpu.pause()
    await ended
  })

  test('then resume() at once, many times, ends where it was told', async () => {
    using guest = createGuest(COUNT)
    const { vcpu, memory } = guest
    vcpu.start()
    for (let round = 0; round < 200; round++) {
      const first = vcpu.pause()
      vcpu.resume()
      const second = vcpu.pause()
      await second
      const count = memory.readU32(COUNTER)
      await first
      expect(memory.readU32(COUNTER)).toBe(count)
      vcpu.resume()
    }
    await vcpu.stop()
  })
})

test('start({ paused: true }) runs nothing before resume()', async () => {
  using guest = createGuest(COUNT)
  const { vcpu, memory } = guest
  vcpu.start(undefined, { paused: true })
  await soon()
  expect(memory.readU32(COUNTER)).toBe(0)
  expect(vcpu.getRegs().rip).toBe(BigInt(ENTRY))
  vcpu.resume()
  await waitUntil(() => memory.readU32(COUNTER) > 0)
  await vcpu.stop()
})

test('pauseAll() is a barrier: no vCPU moves until resumeAll()', async () => {
  // lock inc dword [rdi]; jmp
  using guest = createGuest([0xf0, 0xff, 0x07, 0xeb, 0xfb], { mode: 'ring3' })
  const { vm, vcpu, memory } = guest
  const vcpus = [vcpu, ...[1, 2, 3].map((id) => vm.createVcpu(id))]
  const regs = vcpu.getRegs()
  for (const [index, one] of vcpus.entries()) {
    if (index > 0) enterLongMode(one, memory, 3)
    const rdi = BigInt(0x10000 + index * 64)
    one.setRegs({ ...regs, rdi, rip: BigInt(ENTRY), rflags: 2n })
    one.start()
  }
  const counts = () => vcpus.map((_, index) => memory.readU32(0x10000 + index * 64))
  await waitUntil(() => counts().every((count) => count > 0))
  for (let round = 0; round < 10; round++) {
    await vm.pauseAll()
    const before = counts()
    await soon(2)
    expect(counts()).toEqual(before)
    vm.resumeAll()
    await waitUntil(() => counts().every((count, index) => count !== before[index]))
  }
  await vm.pauseAll()
  await Promise.all(vcpus.map((one) => one.stop()))
  for (const one of vcpus) one.close()
})
